using System.Security.Cryptography;
using Tutti.Host;
using Tutti.Network.Ip;

namespace Tutti.Network.Tcp;

/// <summary>All connections of a network, and the rules that they share. Knows neither sockets nor threads: those are its <see cref="ITcpHost"/>'s.</summary>
internal sealed class TcpEngine
{
    /// <summary>Of pending connections; a guest that floods finds its SYNs dropped, and sends them again.</summary>
    internal const int MaxHalfOpen = 2048;

    private const int MaxPooled = 1024;
    private const int LeastWindow = 4096;
    private const int MostLeastWindow = 65535;

    /// <summary>What one connection is offered of what nobody was promised.</summary>
    private const int OfferPart = 8;

    private const int InitialSequenceShift = 6;
    private const ushort FirstEphemeralPort = 49152;
    private const int IpHeaders4 = 40;
    private const int IpHeaders6 = 60;
    private readonly ITcpHost _host;
    private readonly Dictionary<TcpFlow, TcpConnection> _connections = [];
    private readonly Stack<TcpConnection> _pool = [];
    private readonly int _maxConnections;
    private readonly long _promisable;
    private readonly int _leastOffer;
    private readonly byte[] _sequenceKey = RandomNumberGenerator.GetBytes(8);
    private TcpConnection? _ready;
    private TcpConnection? _readyEnd;
    private int _readyCount;
    private int _halfOpen;
    private bool _isFlushing;
    private ushort _nextPort = FirstEphemeralPort;

    /// <param name="host">Time and sockets.</param>
    /// <param name="output">The way to the guest.</param>
    /// <param name="maxConnections">Most at a time; more SYNs are answered with a reset.</param>
    /// <param name="bufferBytes">Most bytes from the guest that may wait.</param>
    internal TcpEngine(ITcpHost host, IIpOutput output, int maxConnections, long bufferBytes)
    {
        Chunks = new TcpChunkPool((int)Math.Min(bufferBytes / TcpChunk.Size, int.MaxValue));
        _promisable = bufferBytes / 2;
        _leastOffer = (int)Math.Clamp(bufferBytes / 2 / maxConnections, LeastWindow, MostLeastWindow);
        _host = host;
        Output = output;
        _maxConnections = maxConnections;
        Timers = new TcpTimers(host);
    }

    internal IIpOutput Output { get; }

    internal TcpTimers Timers { get; }

    internal TcpChunkPool Chunks { get; }

    /// <summary>Bytes that all connections together have promised room for and not passed on.</summary>
    internal long Promised { get; set; }

    /// <summary>Called once, when the first connection finds no room.</summary>
    internal Action? OnFull { get; set; }

    internal TcpCounters Counters { get; } = new();

    internal long Now => _host.Now;

    /// <summary>The guest has no room for frames until it is said to have.</summary>
    internal bool IsBlocked { get; private set; }

    /// <summary>
    /// How many bytes a connection may promise room for: what is promised can be kept, since a guest whose bytes are dropped waits ever longer before it sends
    /// them again. Half of the buffers is shared out evenly among as many connections as there may be, the other half goes to who comes first.
    /// </summary>
    /// <param name="promised">What it has promised already.</param>
    /// <param name="most">The most that one may have.</param>
    internal int OfferFor(int promised, int most) =>
        (int)Math.Clamp(promised + (Math.Max(0, _promisable - Promised) / OfferPart), Math.Min(_leastOffer, most), most);

    /// <summary>No more than one frame's buffer has room for: segments that are never full would go one by one.</summary>
    internal int MaxSegmentSize(bool isVersion6) => Math.Min(Output.Mtu - (isVersion6 ? IpHeaders6 : IpHeaders4), IIpOutput.MaxSegment - TcpSegment.MaxHeaderLength);

    /// <summary>A segment from the guest: header and payload.</summary>
    internal void OnSegment(in IpEndpoints endpoints, ReadOnlySpan<byte> data)
    {
        if (!TcpSegment.TryParse(data, out TcpSegment segment))
        {
            Counters.Drops++;
            return;
        }

        TcpFlow flow = new(endpoints.IsVersion6, endpoints.Source, segment.SourcePort, endpoints.Destination, segment.DestinationPort);
        ReadOnlySpan<byte> payload = data[segment.HeaderLength..];
        bool isOpening = (segment.Flags & (TcpFlags.Syn | TcpFlags.Ack | TcpFlags.Rst | TcpFlags.Fin)) == TcpFlags.Syn;
        if (_connections.TryGetValue(flow, out TcpConnection? connection))
        {
            if (!isOpening || !connection.IsReopenedBy(segment))
            {
                Dispatch(connection, segment, payload, isOpening);
                return;
            }

            connection.Abort();
        }

        if (isOpening)
        {
            Open(flow, segment);
        }
        else
        {
            Counters.Drops++;
            SendReset(flow, segment, payload.Length);
        }
    }

    /// <summary>Lets a peer of a published port in: a SYN goes to the guest. False, and the socket is the caller's, when there is no room.</summary>
    /// <param name="guest">Addresses: from the gateway's to the guest's.</param>
    /// <param name="port">The guest's.</param>
    /// <param name="open">Makes the socket's watch for the connection.</param>
    internal bool TryOpenToGuest(in IpEndpoints guest, ushort port, Func<Action<IoEvents>, ITcpSocket?> open)
    {
        if (IsFull() || _halfOpen >= MaxHalfOpen)
        {
            Counters.Overflows++;
            return false;
        }

        for (int i = FirstEphemeralPort; i <= ushort.MaxValue; i++)
        {
            TcpFlow flow = new(guest.IsVersion6, guest.Destination, port, guest.Source, _nextPort);
            _nextPort = _nextPort == ushort.MaxValue ? FirstEphemeralPort : (ushort)(_nextPort + 1);
            if (!_connections.ContainsKey(flow))
            {
                TcpConnection connection = _pool.Count > 0 ? _pool.Pop() : new TcpConnection(this);
                ITcpSocket? socket = open(connection.OnHostReady);
                if (socket == null)
                {
                    Pool(connection);
                    return false;
                }

                Add(flow, connection);
                connection.OpenToGuest(flow, socket, NewSequence(flow));
                Counters.Accepted++;
                return true;
            }
        }

        Counters.Overflows++;
        return false;
    }

    /// <summary>Does the work of all connections that have some, each once; what is left comes after others' work.</summary>
    internal void Flush()
    {
        if (_isFlushing)
        {
            return;
        }

        _isFlushing = true;
        for (int left = _readyCount; left > 0 && !IsBlocked && _ready != null; left--)
        {
            TcpConnection connection = _ready;
            _ready = connection.NextReady;
            _readyEnd = _ready == null ? null : _readyEnd;
            connection.NextReady = null;
            connection.IsReady = false;
            _readyCount--;
            if (connection.State == TcpState.Free)
            {
                Pool(connection);
                continue;
            }

            if ((connection.Service() || IsBlocked) && connection.State != TcpState.Free)
            {
                MarkReady(connection);
            }
        }

        _isFlushing = false;
        if (_readyCount > 0 && !IsBlocked)
        {
            _host.Defer();
        }
    }

    internal void OnReceiveReady()
    {
        IsBlocked = false;
        Flush();
    }

    internal void RunTimers()
    {
        Timers.Run();
        Flush();
    }

    /// <summary>Connections of the guest's that have no answer yet and may not go where they go any more are reset; an open one's peer is another host for good.</summary>
    internal void Recheck()
    {
        foreach (TcpConnection connection in _connections.Values)
        {
            if (connection.State == TcpState.Connecting && !IsAllowed(connection.Flow))
            {
                connection.Refuse();
            }
        }
    }

    /// <summary>Whether a flow may go where it goes, asked anew.</summary>
    internal bool IsAllowed(in TcpFlow flow) => _host.Decide(flow, out _) is Reach.Allowed or Reach.Resolver;

    /// <summary>Looks for connections that the guest may have forgotten; to be called once in <see cref="TcpConnection.SweepNanoseconds"/>.</summary>
    internal void Sweep()
    {
        foreach (TcpConnection connection in _connections.Values)
        {
            connection.OnSweep();
        }

        Flush();
    }

    internal void AbortAll()
    {
        foreach (TcpConnection connection in _connections.Values.ToArray())
        {
            connection.Abort();
        }
    }

    /// <summary>A connection has work for the next <see cref="Flush"/>.</summary>
    internal void MarkReady(TcpConnection connection)
    {
        if (connection.IsReady)
        {
            return;
        }

        connection.IsReady = true;
        connection.NextReady = null;
        if (_readyEnd == null)
        {
            _ready = connection;
        }
        else
        {
            _readyEnd.NextReady = connection;
        }

        _readyEnd = connection;
        if (_readyCount++ == 0 && !_isFlushing)
        {
            _host.Defer();
        }
    }

    /// <summary>Sends what is in the output's buffer; payload bytes that went, -1 for nothing at all.</summary>
    internal int Send(in IpEndpoints toGuest, int headerLength, int payloadLength, int segmentSize)
    {
        int sent = Output.SendTcp(toGuest, headerLength, payloadLength, segmentSize);
        IsBlocked |= sent < payloadLength;
        return sent;
    }

    /// <summary>Answers what belongs to no connection (RFC 9293, 3.10.7.1).</summary>
    internal void SendReset(in TcpFlow flow, in TcpSegment segment, int payloadLength)
    {
        if ((segment.Flags & TcpFlags.Rst) != 0 || IsBlocked)
        {
            return;
        }

        bool hasAck = (segment.Flags & TcpFlags.Ack) != 0;
        uint length = (uint)payloadLength + ((segment.Flags & TcpFlags.Syn) != 0 ? 1u : 0) + ((segment.Flags & TcpFlags.Fin) != 0 ? 1u : 0);
        TcpSegment.Write(
            Output.ReserveTcp(),
            flow.PeerPort,
            flow.GuestPort,
            hasAck ? segment.Acknowledgment : 0,
            hasAck ? 0 : segment.Sequence + length,
            hasAck ? TcpFlags.Rst : TcpFlags.Rst | TcpFlags.Ack,
            0,
            TcpSegment.MinHeaderLength);
        _ = Send(new IpEndpoints(flow.IsVersion6, flow.PeerAddress, flow.GuestAddress), TcpSegment.MinHeaderLength, 0, TcpConnection.DefaultSegmentSize);
    }

    internal void OnHalfOpenEnded() => _halfOpen--;

    /// <summary>A connection is over. It is used again when nobody has it in a list any more.</summary>
    internal void Forget(TcpConnection connection)
    {
        _connections.Remove(connection.Flow);
        Counters.Connections = _connections.Count;
        if (!connection.IsReady)
        {
            Pool(connection);
        }
    }

    private void Dispatch(TcpConnection connection, in TcpSegment segment, ReadOnlySpan<byte> payload, bool isOpening)
    {
        if (connection.State == TcpState.Unreachable && isOpening)
        {
            Output.SendUnreachable(connection.UnreachableReason);
            connection.Abort();
            return;
        }

        connection.OnSegment(segment, payload);
    }

    private void Open(in TcpFlow flow, in TcpSegment syn)
    {
        if (flow.GuestPort == 0 || _halfOpen >= MaxHalfOpen)
        {
            // Dropped: the guest's next SYN may find room.
            Counters.Overflows++;
            return;
        }

        if (IsFull())
        {
            Counters.Overflows++;
            SendReset(flow, syn, 0);
            return;
        }

        Reach reach = _host.Decide(flow, out HostEndpoint destination);
        switch (reach)
        {
            case Reach.Ignored:
                Counters.Drops++;
                return;
            case Reach.Refused:
                Counters.Refused++;
                SendReset(flow, syn, 0);
                return;
        }

        TcpConnection connection = Take(flow);
        connection.OpenFromGuest(flow, syn, NewSequence(flow));
        Counters.Opened++;
        int errno = Errno.EMFILE;
        ITcpSocket? socket = reach == Reach.Resolver
            ? _host.ConnectResolver(connection.OnHostReady)
            : _host.Connect(destination, connection.OnHostReady, out errno);
        if (socket == null)
        {
            connection.Fail(errno);
            if (connection.State == TcpState.Unreachable)
            {
                // Known at once: the guest need not ask again.
                Output.SendUnreachable(connection.UnreachableReason);
                connection.Abort();
            }

            return;
        }

        connection.SetSocket(socket);
        if (reach == Reach.Resolver)
        {
            connection.OnHostReady(IoEvents.Writable);
        }
    }

    private bool IsFull()
    {
        if (_connections.Count < _maxConnections)
        {
            return false;
        }

        OnFull?.Invoke();
        OnFull = null;
        return true;
    }

    private TcpConnection Take(in TcpFlow flow)
    {
        TcpConnection connection = _pool.Count > 0 ? _pool.Pop() : new TcpConnection(this);
        Add(flow, connection);
        return connection;
    }

    private void Add(in TcpFlow flow, TcpConnection connection)
    {
        _connections.Add(flow, connection);
        Counters.Connections = _connections.Count;
        Counters.Most = Math.Max(Counters.Most, _connections.Count);
        _halfOpen++;
    }

    private void Pool(TcpConnection connection)
    {
        if (_pool.Count < MaxPooled)
        {
            _pool.Push(connection);
        }
    }

    /// <summary>Such as RFC 6528 has it: a clock of 4 us or so, and a secret per flow, so that a flow that is opened again goes on above its past.</summary>
    private uint NewSequence(in TcpFlow flow) =>
        (uint)(_host.Now >> InitialSequenceShift) + (uint)HashCode.Combine(flow, BitConverter.ToInt64(_sequenceKey));
}
