using Tutti.Host;
using Tutti.Network.Ip;
using Tutti.Network.Tcp;

namespace Tutti.Network.Tests.Tcp;

/// <summary>A wire that loses, doubles and swaps, a clock that jumps, a guest that has no room at times, and a host's socket that takes and gives what it likes; all by one seed.</summary>
internal sealed class Simulation : ITcpHost, IIpOutput
{
    private const long Millisecond = 1_000_000;
    private static readonly IpEndpoints FromGuest = new(false, 0x0A00020F, 0xC0000201);
    private readonly PriorityQueue<Action, (long Time, long Order)> _events = new();
    private readonly byte[] _buffer = new byte[IIpOutput.MaxSegment];
    private readonly Random _random;
    private readonly double _trouble;
    private long _order;
    private long _wakeAt = long.MaxValue;
    private bool _isDeferred;
    private bool _isBlocked;

    public Simulation(int seed, double trouble, byte[] toGuest, byte[] toHost, uint initialSequence = 0xFFFF0000)
    {
        _random = new Random(seed);
        _trouble = trouble;
        Socket = new ModelSocket(this, toGuest, _random);
        Engine = new TcpEngine(this, this, 100, 64 << 20);
        Guest = new ModelGuest(data => Transfer(() => Engine.OnSegment(FromGuest, data)), initialSequence, toHost);
    }

    public TcpEngine Engine { get; }

    public ModelGuest Guest { get; }

    public ModelSocket Socket { get; }

    public int ConnectError { get; set; }

    /// <summary>What the policy says, each time it is asked.</summary>
    public Func<Reach> Policy { get; set; } = () => Reach.Allowed;

    public int Unreachables { get; private set; }

    public bool VariesWindow { get; set; }

    public long Now { get; private set; } = 1_000_000_000;

    public int Mtu => 1500;

    public void At(long delay, Action work) => _events.Enqueue(work, (Now + delay, _order++));

    /// <summary>Runs until this holds, for so much of the simulation's time at most.</summary>
    public bool Run(Func<bool> until, int seconds = 600)
    {
        long end = Now + (seconds * 1000L * Millisecond);
        At(300 * Millisecond, Tick);
        while (!until())
        {
            if (_isDeferred)
            {
                _isDeferred = false;
                Engine.Flush();
                continue;
            }

            if (Now > end)
            {
                return false;
            }

            long next = _events.TryPeek(out _, out (long Time, long Order) key) ? key.Time : long.MaxValue;
            if (_wakeAt <= next)
            {
                Now = Math.Max(Now, _wakeAt);
                _wakeAt = long.MaxValue;
                Engine.RunTimers();
            }
            else
            {
                Action work = _events.Dequeue();
                Now = Math.Max(Now, key.Time);
                work();
                Engine.Flush();
            }
        }

        return true;
    }

    public void WakeAt(long deadline) => _wakeAt = deadline;

    public void Defer() => _isDeferred = true;

    public Reach Decide(in TcpFlow flow, out HostEndpoint destination)
    {
        destination = new HostEndpoint(false, flow.PeerAddress, flow.PeerPort);
        return Policy();
    }

    public ITcpSocket? ConnectResolver(Action<IoEvents> onReady) => null;

    public ITcpSocket? Connect(in HostEndpoint destination, Action<IoEvents> onReady, out int errno)
    {
        errno = 0;
        Socket.Begin(onReady, ConnectError);
        return Socket;
    }

    public Span<byte> ReserveTcp() => _buffer;

    public int SendTcp(in IpEndpoints endpoints, int headerLength, int payloadLength, int segmentSize)
    {
        if (_isBlocked || _random.NextDouble() < _trouble / 4)
        {
            if (!_isBlocked)
            {
                _isBlocked = true;
                At(Millisecond, () =>
                {
                    _isBlocked = false;
                    Engine.OnReceiveReady();
                });
            }

            return -1;
        }

        int position = 0;
        do
        {
            int piece = Math.Min(segmentSize, payloadLength - position);
            byte[] data = new byte[headerLength + piece];
            _buffer.AsSpan(0, headerLength).CopyTo(data);
            _buffer.AsSpan(headerLength + position, piece).CopyTo(data.AsSpan(headerLength));
            uint sequence = System.Buffers.Binary.BinaryPrimitives.ReadUInt32BigEndian(data.AsSpan(4)) + (uint)position;
            System.Buffers.Binary.BinaryPrimitives.WriteUInt32BigEndian(data.AsSpan(4), sequence);
            position += piece;
            Transfer(() => Guest.OnSegment(data));
        }
        while (position < payloadLength);
        return payloadLength;
    }

    public void SendUnreachable(UnreachableReason reason) => Unreachables++;

    private void Transfer(Action deliver)
    {
        for (int copies = _random.NextDouble() < _trouble / 2 ? 2 : 1; copies > 0; copies--)
        {
            if (_random.NextDouble() >= _trouble)
            {
                At(100_000 + (_random.NextDouble() < _trouble ? _random.NextInt64(5 * Millisecond) : 0), deliver);
            }
        }
    }

    private void Tick()
    {
        if (VariesWindow)
        {
            Guest.Window = _random.Next(4) switch { 0 => 0, 1 => _random.Next(1, 200), 2 => _random.Next(65536), _ => 65535 };
            Guest.Acknowledge();
        }

        Guest.OnTimeout();
        At(300 * Millisecond, Tick);
    }
}

/// <summary>A host's socket of memory.</summary>
internal sealed class ModelSocket(Simulation simulation, byte[] toGuest, Random random) : ITcpSocket
{
    private Action<IoEvents>? _onReady;
    private int _error;
    private int _taken;
    private int _arrived;

    public MemoryStream Sent { get; } = new();

    public bool IsShutDown { get; private set; }

    public bool IsDisposed { get; private set; }

    public bool ResetsOnClose { get; private set; }

    public int Pending { get; private set; }

    /// <summary>Bytes that one send takes at most before the socket is full for a while; 0 for all.</summary>
    public int Room { get; set; }

    public bool HoldsEnd { get; set; }

    public void Begin(Action<IoEvents> onReady, int error)
    {
        _onReady = onReady;
        _error = error;
        simulation.At(1_000_000, () => Tell(error == 0 ? IoEvents.Writable : IoEvents.Error | IoEvents.HangUp));
        simulation.At(2_000_000, Arrive);
    }

    public void Break(int error)
    {
        _error = error;
        Tell(IoEvents.Error | IoEvents.HangUp);
    }

    public int TakeError()
    {
        int error = _error;
        _error = 0;
        return error;
    }

    public int Send(ReadOnlySpan<byte> data)
    {
        int count = Room == 0 ? data.Length : Math.Min(data.Length, random.Next(Room));
        if (count < data.Length)
        {
            simulation.At(3_000_000, () => Tell(IoEvents.Writable));
        }

        if (count == 0)
        {
            return -Errno.EAGAIN;
        }

        Sent.Write(data[..count]);
        return count;
    }

    public int Peek(int offset, Span<byte> into)
    {
        int from = _taken + offset;
        int count = Math.Min(into.Length, _arrived - from);
        if (count <= 0)
        {
            return _arrived == toGuest.Length && !HoldsEnd ? 0 : -Errno.EAGAIN;
        }

        toGuest.AsSpan(from, count).CopyTo(into);
        return count;
    }

    public int Discard(int count)
    {
        Assert.True(count <= _arrived - _taken, "More was acknowledged than ever arrived.");
        _taken += count;
        return count;
    }

    public void ShutdownWrite() => IsShutDown = true;

    public void KeepAlive()
    {
    }

    public void SetResetOnClose() => ResetsOnClose = true;

    public void Dispose()
    {
        IsDisposed = true;
        Pending = _arrived - _taken;
    }

    private void Arrive()
    {
        _arrived = Math.Min(toGuest.Length, _arrived + random.Next(1, 300_000));
        bool isAll = _arrived == toGuest.Length;
        Tell(IoEvents.Readable | (isAll && !HoldsEnd ? IoEvents.ReadHangUp : IoEvents.None));
        if (!isAll)
        {
            simulation.At(random.NextInt64(4_000_000), Arrive);
        }
    }

    private void Tell(IoEvents events)
    {
        if (!IsDisposed)
        {
            _onReady!(events);
        }
    }
}
