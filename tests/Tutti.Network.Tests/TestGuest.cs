using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Diagnostics;
using Tutti.Devices.Network;
using Tutti.Network.Ip;

namespace Tutti.Network.Tests;

/// <summary>A guest's card and what is behind it: frames in and out of a network.</summary>
internal sealed class TestGuest : INetworkReceiver, IDisposable
{
    public const ulong Mac = 0x5254_0012_3456;
    public const uint Address = 0x0A00_020F;
    public const uint Host = 0x0A00_0202;
    private readonly ConcurrentQueue<byte[]> _frames = new();

    public TestGuest(NetworkSpec spec, string? resolvers = null)
    {
        Network = new UserNetwork(spec, Failures.Enqueue, Notices.Enqueue, new Dns.HostResolvers(resolvers ?? "/etc/resolv.conf"));
        Network.Attach(this);
    }

    public UserNetwork Network { get; }

    public ConcurrentQueue<Exception> Failures { get; } = new();

    public ConcurrentQueue<string> Notices { get; } = new();

    public PacketOffloads Accepts { get; set; }

    public bool IsCounting { get; set; }

    public int Count { get; private set; }

    public bool TryReceive(ReadOnlySpan<byte> frame, in PacketOffload offload)
    {
        Count++;
        if (!IsCounting)
        {
            _frames.Enqueue(frame.ToArray());
        }

        return true;
    }

    public void EndReceive()
    {
    }

    public void OnLinkChanged()
    {
    }

    public void Send(byte[] frame, PacketOffload offload = default) => Network.Loop.Run(() =>
    {
        Network.Send(frame, offload);
        Network.EndSend();
    });

    public byte[]? TryTake() => _frames.TryDequeue(out byte[]? frame) ? frame : null;

    public byte[] Take(Func<byte[], bool> isWanted)
    {
        Stopwatch watch = Stopwatch.StartNew();
        while (watch.Elapsed < TimeSpan.FromSeconds(20))
        {
            if (TryTake() is byte[] frame)
            {
                if (isWanted(frame))
                {
                    return frame;
                }
            }
            else
            {
                Thread.Sleep(1);
            }
        }

        throw new TimeoutException("No such frame came.");
    }

    public static byte[] Ethernet(ushort type, ReadOnlySpan<byte> payload, ulong destination = FrameFormat.HostMac)
    {
        byte[] frame = new byte[14 + payload.Length];
        FrameFormat.WriteMac(frame, destination);
        FrameFormat.WriteMac(frame.AsSpan(6), Mac);
        BinaryPrimitives.WriteUInt16BigEndian(frame.AsSpan(12), type);
        payload.CopyTo(frame.AsSpan(14));
        return frame;
    }

    public static byte[] Ip4(uint source, uint destination, byte protocol, ReadOnlySpan<byte> payload, ushort fragment = 0)
    {
        byte[] packet = new byte[20 + payload.Length];
        packet[0] = 0x45;
        BinaryPrimitives.WriteUInt16BigEndian(packet.AsSpan(2), (ushort)packet.Length);
        BinaryPrimitives.WriteUInt16BigEndian(packet.AsSpan(4), 77);
        BinaryPrimitives.WriteUInt16BigEndian(packet.AsSpan(6), fragment);
        packet[8] = 64;
        packet[9] = protocol;
        BinaryPrimitives.WriteUInt32BigEndian(packet.AsSpan(12), source);
        BinaryPrimitives.WriteUInt32BigEndian(packet.AsSpan(16), destination);
        BinaryPrimitives.WriteUInt16BigEndian(packet.AsSpan(10), Sum(packet.AsSpan(0, 20)));
        payload.CopyTo(packet.AsSpan(20));
        return Ethernet(FrameFormat.TypeIp4, packet);
    }

    public static byte[] Ip6(UInt128 source, UInt128 destination, byte protocol, Span<byte> payload, int checksumAt, byte hopLimit = 64)
    {
        byte[] packet = new byte[40 + payload.Length];
        packet[0] = 0x60;
        BinaryPrimitives.WriteUInt16BigEndian(packet.AsSpan(4), (ushort)payload.Length);
        packet[6] = protocol;
        packet[7] = hopLimit;
        BinaryPrimitives.WriteUInt128BigEndian(packet.AsSpan(8), source);
        BinaryPrimitives.WriteUInt128BigEndian(packet.AsSpan(24), destination);
        byte[] summed = [.. packet.AsSpan(8, 32), 0, 0, (byte)(payload.Length >> 8), (byte)payload.Length, 0, 0, 0, protocol, .. payload];
        BinaryPrimitives.WriteUInt16BigEndian(payload[checksumAt..], Sum(summed));
        payload.CopyTo(packet.AsSpan(40));
        return Ethernet(FrameFormat.TypeIp6, packet);
    }

    public static byte[] Udp(uint destination, ushort sourcePort, ushort port, ReadOnlySpan<byte> data, uint source = Address) =>
        Ip4(source, destination, FrameFormat.Udp, UdpDatagram(sourcePort, port, data));

    public static byte[] UdpDatagram(ushort sourcePort, ushort port, ReadOnlySpan<byte> data)
    {
        byte[] udp = new byte[8 + data.Length];
        BinaryPrimitives.WriteUInt16BigEndian(udp, sourcePort);
        BinaryPrimitives.WriteUInt16BigEndian(udp.AsSpan(2), port);
        BinaryPrimitives.WriteUInt16BigEndian(udp.AsSpan(4), (ushort)udp.Length);
        data.CopyTo(udp.AsSpan(8));
        return udp;
    }

    /// <summary>RFC 1071, the plain way: not the code under test.</summary>
    public static ushort Sum(ReadOnlySpan<byte> bytes)
    {
        uint sum = 0;
        for (int i = 0; i < bytes.Length; i++)
        {
            sum += (i & 1) == 0 ? (uint)bytes[i] << 8 : bytes[i];
        }

        while (sum >> 16 != 0)
        {
            sum = (sum & 0xFFFF) + (sum >> 16);
        }

        return (ushort)~sum;
    }

    public void Dispose()
    {
        Network.Dispose();
        Assert.Empty(Failures);
    }
}
