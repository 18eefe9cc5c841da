using System.Buffers.Binary;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Tutti.Devices;
using Tutti.Devices.Network;
using Tutti.Network;

namespace Tutti.Bench;

/// <summary>What a network did.</summary>
/// <param name="Seconds">How long the bytes took.</param>
/// <param name="LoopSeconds">Processor time of the network's thread for them.</param>
/// <param name="Allocated">Bytes that this thread allocated in the second half.</param>
internal readonly record struct NetworkRateResult(double Seconds, double LoopSeconds, long Allocated);

/// <summary>
/// One TCP connection through the user network, without a guest: a card that speaks just enough TCP to send or to acknowledge segments of 64 KiB, and a
/// socket of the host's on loopback at the other end.
/// </summary>
internal sealed class NetworkRate : INetworkReceiver, IDisposable
{
    private const int HeaderSize = 14 + 20 + 20;
    private const int SegmentSize = 1460;
    private const int Payload = 44 * SegmentSize;
    private const ushort Port = 40000;
    private const byte Syn = 2;
    private const byte Ack = 16;
    private static readonly byte[] Ethernet = [0x52, 0x55, 0x0A, 0x00, 0x02, 0x02, 0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 8, 0];
    private static readonly byte[] Addresses = [10, 0, 2, 15, 10, 0, 2, 2];

    private readonly UserNetwork _network = new(new NetworkSpec { IsHostAllowed = true, Ip6 = Ip6Mode.Off }, e => Console.WriteLine(e));
    private readonly Socket _listener = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
    private readonly byte[] _frame = new byte[HeaderSize + Payload];
    private readonly IDoorbell _bell;
    private readonly ManualResetEventSlim _isOver = new();
    private readonly long _wanted;
    private readonly bool _sends;
    private uint _sent = 1000;
    private uint _acknowledged;
    private uint _edge;
    private uint _received;
    private long _done;
    private long _allocatedBefore;
    private bool _isOpen;

    private NetworkRate(bool sends, long wanted)
    {
        _sends = sends;
        _wanted = wanted;
        _listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        _listener.Listen();
        _bell = _network.Worker.AddDoorbell(Work);
        _network.Attach(this);
    }

    public PacketOffloads Accepts => PacketOffloads.Checksum | PacketOffloads.Tcp4;

    private long Allocated { get; set; }

    /// <summary>Measures a direction.</summary>
    /// <param name="sends">From the guest to the host, or the other way.</param>
    /// <param name="bytes">How many.</param>
    internal static NetworkRateResult Measure(bool sends, long bytes)
    {
        using NetworkRate rate = new(sends, bytes);
        Thread peer = new(rate.RunPeer);
        peer.Start();
        double before = LoopSeconds();
        Stopwatch watch = Stopwatch.StartNew();
        rate._bell.Ring();
        rate._isOver.Wait();
        return new NetworkRateResult(watch.Elapsed.TotalSeconds, LoopSeconds() - before, rate.Allocated);
    }

    public bool TryReceive(ReadOnlySpan<byte> frame, in PacketOffload offload)
    {
        if (frame[12] != 8 || frame[13] != 0 || frame[23] != 6)
        {
            return true;
        }

        ReadOnlySpan<byte> tcp = frame[34..];
        int length = frame.Length - 34 - ((tcp[12] >> 4) * 4);
        _acknowledged = BinaryPrimitives.ReadUInt32BigEndian(tcp[8..]);
        bool isSyn = (tcp[13] & Syn) != 0;
        _edge = _acknowledged + ((uint)BinaryPrimitives.ReadUInt16BigEndian(tcp[14..]) << (isSyn ? 0 : 7));
        _received = isSyn ? BinaryPrimitives.ReadUInt32BigEndian(tcp[4..]) + 1 : _received + (uint)length;
        _isOpen |= isSyn;
        _done += length;
        return true;
    }

    public void EndReceive() => _bell.Ring();

    public void OnLinkChanged()
    {
    }

    public void Dispose()
    {
        _network.Dispose();
        _listener.Dispose();
    }

    /// <summary>Processor time of the network's threads so far, in units of 10 ms.</summary>
    private static double LoopSeconds()
    {
        double ticks = 0;
        foreach (string task in Directory.EnumerateDirectories("/proc/self/task"))
        {
            string stat = string.Empty;
            try
            {
                stat = File.ReadAllText(Path.Combine(task, "stat"));
            }
            catch (IOException)
            {
                // A thread that has ended meanwhile.
            }

            if (stat.Contains("(network)", StringComparison.Ordinal))
            {
                string[] words = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
                ticks += long.Parse(words[11], CultureInfo.InvariantCulture) + long.Parse(words[12], CultureInfo.InvariantCulture);
            }
        }

        return ticks / 100;
    }

    /// <summary>The card's part, on the network's loop: opens, then sends as much as the window takes, or acknowledges what has come.</summary>
    private void Work()
    {
        if (!_isOpen)
        {
            Send(Syn, 0);
            _sent++;
        }
        else if (_sends)
        {
            _done = _acknowledged - 1001L;
            for (int i = 0; i < 16 && _edge - _sent >= Payload && _edge - _sent < 1 << 30; i++)
            {
                Send(Ack, Payload);
                _sent += Payload;
            }
        }
        else
        {
            Send(Ack, 0);
        }

        _network.EndSend();
        if (_allocatedBefore == 0 && _done >= _wanted / 2)
        {
            _allocatedBefore = GC.GetAllocatedBytesForCurrentThread();
        }

        if (_done >= _wanted && !_isOver.IsSet)
        {
            Allocated = GC.GetAllocatedBytesForCurrentThread() - _allocatedBefore;
            _isOver.Set();
        }
    }

    private void Send(byte flags, int length)
    {
        int port = ((IPEndPoint)_listener.LocalEndPoint!).Port;
        Span<byte> frame = _frame.AsSpan(0, HeaderSize + length + (flags == Syn ? 4 : 0));
        Ethernet.CopyTo(frame);
        Span<byte> ip = frame[14..];
        ip[..20].Clear();
        ip[0] = 0x45;
        BinaryPrimitives.WriteUInt16BigEndian(ip[2..], (ushort)ip.Length);
        ip[8] = 64;
        ip[9] = 6;
        Addresses.CopyTo(ip[12..]);
        uint sum = 0;
        for (int i = 0; i < 20; i += 2)
        {
            sum += BinaryPrimitives.ReadUInt16BigEndian(ip[i..]);
        }

        sum = (sum & 0xFFFF) + (sum >> 16);
        BinaryPrimitives.WriteUInt16BigEndian(ip[10..], (ushort)~((sum & 0xFFFF) + (sum >> 16)));
        Span<byte> tcp = ip[20..];
        BinaryPrimitives.WriteUInt16BigEndian(tcp, Port);
        BinaryPrimitives.WriteUInt16BigEndian(tcp[2..], (ushort)port);
        BinaryPrimitives.WriteUInt32BigEndian(tcp[4..], _sent);
        BinaryPrimitives.WriteUInt32BigEndian(tcp[8..], flags == Syn ? 0 : _received);
        tcp[12] = flags == Syn ? (byte)0x60 : (byte)0x50;
        tcp[13] = flags;
        BinaryPrimitives.WriteUInt16BigEndian(tcp[14..], ushort.MaxValue);
        tcp[16..20].Clear();
        if (flags == Syn)
        {
            // Window scale of 6: 4 MiB.
            tcp[20] = 3;
            tcp[21] = 3;
            tcp[22] = 6;
            tcp[23] = 0;
        }

        _network.Send(frame, new PacketOffload(
            true, 34, 16, Segmentation: length > SegmentSize ? SegmentationKind.Tcp4 : SegmentationKind.None, SegmentSize: SegmentSize, HeaderLength: HeaderSize));
    }

    private void RunPeer()
    {
        try
        {
            using Socket socket = _listener.Accept();
            byte[] buffer = new byte[1 << 18];
            while (!_isOver.IsSet && (_sends ? socket.Receive(buffer) : socket.Send(buffer)) > 0)
            {
            }
        }
        catch (SocketException)
        {
            // The network has ended before its peer.
        }
    }
}
