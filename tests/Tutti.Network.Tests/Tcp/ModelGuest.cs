using System.Buffers.Binary;
using Tutti.Network.Tcp;

namespace Tutti.Network.Tests.Tcp;

/// <summary>A guest's TCP, as simple as can be: sends from a buffer again and again until it is acknowledged, keeps early segments whole, closes when it has sent all.</summary>
internal sealed class ModelGuest(Action<byte[]> send, uint initialSequence, byte[] toSend, int mss = 1460)
{
    public const ushort Port = 40000;
    private readonly SortedDictionary<int, byte[]> _early = [];
    private uint _peerInitial;
    private int _acknowledged;
    private int _sent;
    private int _peerWindow;
    private int _peerScale;
    private int _finAt = -1;

    public MemoryStream Received { get; } = new();

    public bool IsConnected { get; private set; }

    public bool IsReset { get; private set; }

    public bool HasPeerFin { get; private set; }

    /// <summary>Whether it has no socket any more, and so answers all with a reset, or nothing.</summary>
    public bool HasForgotten { get; set; }

    public bool IsGone { get; set; }

    /// <summary>Whether it only answers.</summary>
    public bool IsQuiet { get; set; }

    /// <summary>Segments that have come.</summary>
    public int Segments { get; private set; }

    public bool IsAllAcknowledged => _acknowledged == toSend.Length + 1;

    public bool HoldsFin { get; set; }

    /// <summary>Bytes that it is willing to take now.</summary>
    public int Window { get; set; } = 60000;

    public int LargestSegment { get; set; } = 60000;

    public void Connect() => Send(initialSequence, TcpFlags.Syn, []);

    public void Reset() => Send(Sequence(_sent), TcpFlags.Rst, []);

    public void OnTimeout()
    {
        if (IsReset || HasForgotten || IsGone || IsQuiet)
        {
            return;
        }

        if (!IsConnected)
        {
            Connect();
            return;
        }

        if (_peerWindow == 0 && !IsAllAcknowledged)
        {
            Send(Sequence(_acknowledged) - 1, TcpFlags.Ack, []);
        }

        _sent = _acknowledged;
        Pump();
    }

    public void Acknowledge() => Send(Sequence(_sent), TcpFlags.Ack, []);

    public void OnSegment(byte[] data)
    {
        Assert.True(TcpSegment.TryParse(data, out TcpSegment segment));
        Segments++;
        if (HasForgotten && (segment.Flags & TcpFlags.Rst) == 0)
        {
            // RFC 9293, 3.10.7.1.
            Send(segment.Acknowledgment, TcpFlags.Rst, []);
        }

        if (HasForgotten || IsGone)
        {
            return;
        }

        if ((segment.Flags & TcpFlags.Rst) != 0)
        {
            IsReset = true;
            return;
        }

        if ((segment.Flags & TcpFlags.Syn) != 0)
        {
            if (!IsConnected)
            {
                _peerInitial = segment.Sequence;
                _peerScale = Math.Max(0, segment.WindowScale);
                _peerWindow = segment.Window;
                IsConnected = true;
            }

            Acknowledge();
            Pump();
            return;
        }

        if (!IsConnected)
        {
            return;
        }

        int acknowledged = (int)(segment.Acknowledgment - initialSequence - 1);
        if (acknowledged >= _acknowledged && acknowledged <= toSend.Length + 1)
        {
            _acknowledged = acknowledged;
            _sent = Math.Max(_sent, acknowledged);
            _peerWindow = segment.Window << _peerScale;
        }

        byte[] text = data[segment.HeaderLength..];
        int position = (int)(segment.Sequence - _peerInitial - 1);
        bool hasFin = (segment.Flags & TcpFlags.Fin) != 0;
        if (hasFin)
        {
            _finAt = position + text.Length;
        }

        if (text.Length > 0 && position + text.Length > Received.Length && position + text.Length <= Received.Length + 2_000_000)
        {
            if (!_early.TryGetValue(position, out byte[]? known) || known.Length < text.Length)
            {
                _early[position] = text;
            }
        }

        while (_early.Count > 0 && _early.First() is var (at, bytes) && at <= Received.Length)
        {
            _early.Remove(at);
            int old = (int)Received.Length - at;
            if (old < bytes.Length)
            {
                Received.Write(bytes, old, bytes.Length - old);
            }
        }

        HasPeerFin |= _finAt == Received.Length;
        if (text.Length > 0 || hasFin || segment.Sequence - _peerInitial != Received.Length + 1)
        {
            Acknowledge();
        }

        Pump();
    }

    public void Pump()
    {
        while (IsConnected && _sent < toSend.Length)
        {
            int room = _peerWindow - (_sent - _acknowledged);
            int length = Math.Min(Math.Min(room, toSend.Length - _sent), LargestSegment);
            if (length <= 0)
            {
                return;
            }

            _sent += length;
            Send(Sequence(_sent - length), TcpFlags.Ack | TcpFlags.Psh, toSend.AsSpan(_sent - length, length));
        }

        if (IsConnected && _sent == toSend.Length && !HoldsFin)
        {
            _sent++;
            Send(Sequence(_sent - 1), TcpFlags.Ack | TcpFlags.Fin, []);
        }
    }

    private uint Sequence(int position) => initialSequence + 1 + (uint)position;

    private void Send(uint sequence, TcpFlags flags, ReadOnlySpan<byte> text)
    {
        bool isSyn = (flags & TcpFlags.Syn) != 0;
        byte[] data = new byte[(isSyn ? 32 : 20) + text.Length];
        int options = isSyn ? TcpSegment.WriteSynOptions(data.AsSpan(20), (ushort)mss, 0, permitSack: false) : 0;
        uint received = (uint)Received.Length + (HasPeerFin ? 1u : 0);
        TcpSegment.Write(data, Port, 80, sequence, isSyn ? 0 : _peerInitial + 1 + received, flags, (ushort)Math.Min(Window, 65535), 20 + options);
        text.CopyTo(data.AsSpan(20 + options));
        send(data.AsSpan(0, 20 + options + text.Length).ToArray());
    }

    public static uint AcknowledgmentOf(byte[] data) => BinaryPrimitives.ReadUInt32BigEndian(data.AsSpan(8));
}
