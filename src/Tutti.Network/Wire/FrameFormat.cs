using System.Buffers.Binary;

namespace Tutti.Network.Ip;

/// <summary>Numbers of Ethernet and IP (IEEE 802.3, RFC 791, RFC 8200, IANA's registries).</summary>
internal static class FrameFormat
{
    public const int EthernetHeader = 14;
    public const int Ip4Header = 20;
    public const int Ip6Header = 40;
    public const int UdpHeader = 8;

    public const ushort TypeIp4 = 0x0800;
    public const ushort TypeArp = 0x0806;
    public const ushort TypeIp6 = 0x86DD;

    public const byte Icmp = 1;
    public const byte Tcp = 6;
    public const byte Udp = 17;
    public const byte Icmp6 = 58;

    public const byte Icmp6Echo = 128;
    public const byte Icmp6EchoReply = 129;

    public const byte HopLimit = 64;

    public const ulong BroadcastMac = 0xFFFF_FFFF_FFFF;

    /// <summary>52:55 and the gateway's customary IPv4 address: locally administered.</summary>
    public const ulong HostMac = 0x5255_0A00_0202;

    public static ulong ReadMac(ReadOnlySpan<byte> bytes) => ((ulong)BinaryPrimitives.ReadUInt16BigEndian(bytes) << 32) | BinaryPrimitives.ReadUInt32BigEndian(bytes[2..]);

    public static void WriteMac(Span<byte> bytes, ulong mac)
    {
        BinaryPrimitives.WriteUInt16BigEndian(bytes, (ushort)(mac >> 32));
        BinaryPrimitives.WriteUInt32BigEndian(bytes[2..], (uint)mac);
    }

    public static bool IsMulticast(ulong mac) => (mac >> 40 & 1) != 0;

    public static void WriteEthernet(Span<byte> frame, ulong destination, ushort type)
    {
        WriteMac(frame, destination);
        WriteMac(frame[6..], HostMac);
        BinaryPrimitives.WriteUInt16BigEndian(frame[12..], type);
    }
}
