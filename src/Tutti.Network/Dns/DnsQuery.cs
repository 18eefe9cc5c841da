using System.Buffers.Binary;
using System.Security.Cryptography;
using Tutti.Host;
using Tutti.Network.Ip;
using Tutti.Workers;

namespace Tutti.Network.Dns;

/// <summary>
/// A question of the guest's under way: the host's servers are asked one after the other, each from a port and with an identification of its own, by the
/// protocol that the guest used, until one answers.
/// </summary>
internal sealed class DnsQuery
{
    private const int LengthPrefix = 2;
    private readonly DnsForwarder _forwarder;
    private readonly Action<IoEvents> _onReady;
    private readonly byte[] _message = new byte[DnsMessage.MaxQuery];
    private int _length;
    private ResolverSettings? _settings;
    private int _firstServer;
    private int _tries;
    private ushort _identification;
    private HostSocket? _socket;
    private LoopWatch? _watch;

    // By TCP: the answer's length, its bytes as far as they have come, and whether the query is on its way.
    private readonly byte[] _prefix = new byte[LengthPrefix];
    private byte[]? _answer;
    private int _received;
    private bool _isAsked;

    /// <summary>The last answer that was no good, which is better than none.</summary>
    private byte[]? _refusal;

    private int _refusalLength;

    public DnsQuery(DnsForwarder forwarder)
    {
        _forwarder = forwarder;
        _onReady = OnReady;
    }

    public bool IsUsed { get; private set; }

    /// <summary>The guest's connection that it came by; null where it came as a datagram.</summary>
    public DnsStream? Stream { get; private set; }

    /// <summary>Of the guest's datagram.</summary>
    public IpEndpoints Endpoints { get; private set; }

    /// <summary>Likewise.</summary>
    public ushort GuestPort { get; private set; }

    /// <summary>When the server that is being asked has had its time, nanoseconds of the host's clock.</summary>
    public long Deadline { get; private set; }

    public ReadOnlySpan<byte> Message => _message.AsSpan(0, _length);

    public void BeginDatagram(in IpEndpoints endpoints, ushort guestPort, ReadOnlySpan<byte> message, ResolverSettings settings, int firstServer)
    {
        (Endpoints, GuestPort, Stream) = (endpoints, guestPort, null);
        Begin(message, settings, firstServer);
    }

    public void BeginStream(DnsStream stream, ReadOnlySpan<byte> message, ResolverSettings settings, int firstServer)
    {
        (Endpoints, GuestPort, Stream) = (default, 0, stream);
        Begin(message, settings, firstServer);
    }

    /// <summary>Asks the next server, or gives up.</summary>
    public void AskNext()
    {
        while (IsUsed)
        {
            CloseSocket();
            HostEndpoint[] servers = _settings!.Servers;
            if (_tries >= servers.Length * _settings.Attempts)
            {
                _forwarder.GiveUp(this, _refusal.AsSpan(0, _refusalLength));
                return;
            }

            HostEndpoint server = servers[(_firstServer + _tries++) % servers.Length];
            _identification = (ushort)RandomNumberGenerator.GetInt32(65536);
            Deadline = HostTime.Nanoseconds + _settings.TimeoutNanoseconds;
            if (Stream == null ? TryAskByDatagram(server) : TryConnect(server))
            {
                _forwarder.Await(Deadline);
                return;
            }
        }
    }

    public void End()
    {
        CloseSocket();
        Stream = null;
        _refusalLength = 0;
        IsUsed = false;
    }

    private void Begin(ReadOnlySpan<byte> message, ResolverSettings settings, int firstServer)
    {
        (IsUsed, _length, _tries, _settings, _firstServer, _refusalLength) = (true, message.Length, 0, settings, firstServer, 0);
        message.CopyTo(_message);
        AskNext();
    }

    private bool TryAskByDatagram(in HostEndpoint server)
    {
        _socket = HostSocket.TryOpenUdp(server.IsVersion6, out _);
        if (_socket == null || _socket.Connect(server) < 0)
        {
            return false;
        }

        _watch = _forwarder.Loop.TryWatch(_socket.Descriptor, IoEvents.Readable, _onReady, out _);
        if (_watch == null)
        {
            return false;
        }

        Span<byte> copy = _forwarder.Room[.._length];
        Message.CopyTo(copy);
        BinaryPrimitives.WriteUInt16BigEndian(copy, _identification);
        return _socket.Send(copy) == _length;
    }

    private bool TryConnect(in HostEndpoint server)
    {
        (_isAsked, _received, _answer) = (false, 0, null);
        _socket = HostSocket.TryOpenTcp(server.IsVersion6, out _);
        if (_socket == null || _socket.Connect(server) is not (0 or -Errno.EINPROGRESS))
        {
            return false;
        }

        _watch = _forwarder.Loop.TryWatch(_socket.Descriptor, IoEvents.Writable, _onReady, out _);
        return _watch != null;
    }

    private void OnReady(IoEvents events)
    {
        if (Stream == null)
        {
            ReceiveDatagram();
        }
        else if (_isAsked)
        {
            ReceiveStream();
        }
        else if (!TrySendStream())
        {
            AskNext();
        }

        _forwarder.EndBatch();
    }

    private void ReceiveDatagram()
    {
        Span<byte> room = _forwarder.Room;
        int count = _socket!.Receive(room);
        if (count < 0)
        {
            if (count != -Errno.EAGAIN)
            {
                AskNext();
            }

            return;
        }

        // Anything else may be a forger's, and the answer is still to come.
        if (DnsMessage.IsAnswer(room[..count], Message, _identification))
        {
            TakeAnswer(room[..count]);
        }
    }

    /// <summary>Connected: the query goes out whole, into a socket's buffer that is empty.</summary>
    private bool TrySendStream()
    {
        Span<byte> copy = _forwarder.Room[..(LengthPrefix + _length)];
        BinaryPrimitives.WriteUInt16BigEndian(copy, (ushort)_length);
        Message.CopyTo(copy[LengthPrefix..]);
        BinaryPrimitives.WriteUInt16BigEndian(copy[LengthPrefix..], _identification);
        if (_socket!.TakeError() != 0 || _socket.Send(copy) != copy.Length)
        {
            return false;
        }

        _isAsked = true;
        _watch!.Change(IoEvents.Readable);
        return true;
    }

    private void ReceiveStream()
    {
        while (true)
        {
            Span<byte> room = _answer == null ? _prefix.AsSpan(_received) : _answer.AsSpan(_received);
            int count = _socket!.Receive(room);
            if (count is -Errno.EAGAIN or -Errno.EINTR)
            {
                return;
            }

            if (count <= 0)
            {
                AskNext();
                return;
            }

            _received += count;
            if (count < room.Length)
            {
                continue;
            }

            if (_answer == null)
            {
                int length = BinaryPrimitives.ReadUInt16BigEndian(_prefix);
                if (length < DnsMessage.Header)
                {
                    AskNext();
                    return;
                }

                (_answer, _received) = (new byte[length], 0);
                continue;
            }

            if (DnsMessage.IsAnswer(_answer, Message, _identification))
            {
                TakeAnswer(_answer);
            }
            else
            {
                AskNext();
            }

            return;
        }
    }

    private void TakeAnswer(Span<byte> answer)
    {
        Message[..2].CopyTo(answer);
        if (!DnsMessage.IsTurnedDown(answer))
        {
            _forwarder.Reply(this, answer);
            return;
        }

        if (answer.Length <= DnsMessage.MaxQuery)
        {
            _refusal ??= new byte[DnsMessage.MaxQuery];
            answer.CopyTo(_refusal);
            _refusalLength = answer.Length;
        }

        AskNext();
    }

    private void CloseSocket()
    {
        _watch?.Dispose();
        _socket?.Dispose();
        _watch = null;
        _socket = null;
        _answer = null;
    }
}
