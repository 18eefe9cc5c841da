using System.Buffers.Binary;
using Tutti.Devices.Network;
using Tutti.Network.Ip;

namespace Tutti.Network.Services;

/// <summary>Says where our IPv4 addresses are (RFC 826). Probes for any other, duplicate address detection's too, meet silence.</summary>
internal sealed class ArpResponder(GuestLink link, NetworkAddresses addresses)
{
    private const int Length = 28;
    private readonly byte[] _frame = new byte[FrameFormat.EthernetHeader + Length];

    public void Take(ReadOnlySpan<byte> arp)
    {
        // Ethernet, IPv4.
        if (arp.Length < Length || BinaryPrimitives.ReadUInt64BigEndian(arp) >> 16 != 0x0001_0800_0604)
        {
            return;
        }

        ulong mac = FrameFormat.ReadMac(arp[8..]);
        uint sender = BinaryPrimitives.ReadUInt32BigEndian(arp[14..]);
        uint target = BinaryPrimitives.ReadUInt32BigEndian(arp[24..]);
        if (FrameFormat.IsMulticast(mac))
        {
            return;
        }

        if (addresses.IsInSubnet(sender) && !addresses.IsOurs(false, sender))
        {
            link.Learn(false, sender, mac);
        }

        if (BinaryPrimitives.ReadUInt16BigEndian(arp[6..]) != 1 || !addresses.IsOurs(false, target))
        {
            return;
        }

        FrameFormat.WriteEthernet(_frame, mac, FrameFormat.TypeArp);
        Span<byte> answer = _frame.AsSpan(FrameFormat.EthernetHeader);
        BinaryPrimitives.WriteUInt64BigEndian(answer, 0x0001_0800_0604_0002);
        FrameFormat.WriteMac(answer[8..], FrameFormat.HostMac);
        BinaryPrimitives.WriteUInt32BigEndian(answer[14..], target);
        arp[8..18].CopyTo(answer[18..]);
        link.TryGive(_frame, new PacketOffload());
    }
}
