using System.Buffers.Binary;
using Tutti.Devices.Network;

namespace Tutti.Network.Ip;

/// <summary>Who is told of a packet's payload. The guest's checksums over it are right, or need not be.</summary>
internal interface IIpReceiver
{
    /// <summary>A whole payload, valid during the call.</summary>
    /// <param name="endpoints">From the guest's point of view.</param>
    /// <param name="protocol">IANA's number.</param>
    /// <param name="hopLimit">TTL or hop limit.</param>
    /// <param name="mayFragment">Whether routers may cut it: IPv4 without "don't fragment", and what the guest itself had cut.</param>
    /// <param name="payload">The transport's header and what follows.</param>
    /// <param name="offload">As the card gave it.</param>
    void OnPacket(in IpEndpoints endpoints, byte protocol, byte hopLimit, bool mayFragment, ReadOnlySpan<byte> payload, in PacketOffload offload);
}

/// <summary>Takes the guest's IP packets apart. What is not well-formed, or comes from an address that no guest has, is dropped and counted.</summary>
internal sealed class IpInput
{
    private const int MaxExtensionHeaders = 8;
    private const int DontFragment = 0x4000;
    private readonly NetworkAddresses _addresses;
    private readonly GuestLink _link;
    private readonly IcmpErrors _errors;
    private readonly IIpReceiver _receiver;
    private readonly Reassembler _reassembler = new();

    public IpInput(NetworkAddresses addresses, GuestLink link, IcmpErrors errors, IIpReceiver receiver)
    {
        _addresses = addresses;
        _link = link;
        _errors = errors;
        _receiver = receiver;
    }

    public long Dropped { get; private set; }

    /// <summary>An IPv4 packet, Ethernet's header taken off.</summary>
    public void Take4(ReadOnlySpan<byte> packet, ulong mac, in PacketOffload offload)
    {
        if (packet.Length < FrameFormat.Ip4Header || packet[0] >> 4 != 4)
        {
            Dropped++;
            return;
        }

        int header = (packet[0] & 15) * 4;
        int total = BinaryPrimitives.ReadUInt16BigEndian(packet[2..]);

        // Linux leaves the length of frames above 64 KiB zero; those do not come here.
        if (header < FrameFormat.Ip4Header || total < header || total > packet.Length || InternetChecksum.Fold(InternetChecksum.Add(0, packet[..header])) != 0xFFFF)
        {
            Dropped++;
            return;
        }

        packet = packet[..total];
        uint source = BinaryPrimitives.ReadUInt32BigEndian(packet[12..]);
        uint destination = BinaryPrimitives.ReadUInt32BigEndian(packet[16..]);
        IpEndpoints endpoints = new(false, source, destination);
        if (!IsGuest4(source) && !(source == 0 && destination == uint.MaxValue))
        {
            Dropped++;
            return;
        }

        if (source != 0)
        {
            _link.Learn(false, source, mac);
        }

        int fragment = BinaryPrimitives.ReadUInt16BigEndian(packet[6..]);
        ushort identification = BinaryPrimitives.ReadUInt16BigEndian(packet[4..]);
        bool mayFragment = (fragment & DontFragment) == 0;
        Finish(endpoints, packet, header, packet[9], packet[8], mayFragment, (fragment & 0x3FFF) != 0, identification, (fragment & 0x1FFF) * 8, (fragment & 0x2000) != 0, offload);
    }

    /// <summary>An IPv6 packet, Ethernet's header taken off.</summary>
    public void Take6(ReadOnlySpan<byte> packet, ulong mac, in PacketOffload offload)
    {
        if (packet.Length < FrameFormat.Ip6Header || packet[0] >> 4 != 6)
        {
            Dropped++;
            return;
        }

        int total = FrameFormat.Ip6Header + BinaryPrimitives.ReadUInt16BigEndian(packet[4..]);
        UInt128 source = BinaryPrimitives.ReadUInt128BigEndian(packet[8..]);
        IpEndpoints endpoints = new(true, source, BinaryPrimitives.ReadUInt128BigEndian(packet[24..]));
        if (total > packet.Length || !IsGuest6(source))
        {
            Dropped++;
            return;
        }

        packet = packet[..total];
        if (source != 0)
        {
            _link.Learn(true, source, mac);
        }

        byte next = packet[6];
        int at = FrameFormat.Ip6Header;
        bool isFragment = false;
        uint identification = 0;
        int offset = 0;
        bool hasMore = false;
        for (int i = 0; next is 0 or 43 or 60 or 44; i++)
        {
            if (i == MaxExtensionHeaders || at + 8 > total || isFragment)
            {
                // Headers behind a fragment's belong to the whole; nobody sends such.
                Dropped++;
                return;
            }

            ReadOnlySpan<byte> extension = packet[at..];
            if (next == 44)
            {
                isFragment = true;
                int word = BinaryPrimitives.ReadUInt16BigEndian(extension[2..]);
                (offset, hasMore, identification) = (word & 0xFFF8, (word & 1) != 0, BinaryPrimitives.ReadUInt32BigEndian(extension[4..]));
            }

            at += next == 44 ? 8 : (extension[1] + 1) * 8;
            next = extension[0];
        }

        if (at > total)
        {
            Dropped++;
            return;
        }

        // An atomic fragment is no fragment (RFC 6946).
        Finish(endpoints, packet, at, next, packet[7], false, isFragment && (offset != 0 || hasMore), identification, offset, hasMore, offload);
    }

    private bool IsGuest4(uint source) =>
        _addresses.IsInSubnet(source) && source != _addresses.Subnet && source != _addresses.Broadcast4 && !_addresses.IsOurs(false, source);

    private bool IsGuest6(UInt128 source) =>
        source == 0 || ((_addresses.IsInPrefix6(source) || (ulong)(source >> 118) == 0xFE80 >> 6) && !_addresses.IsOurs(true, source));

    private void Finish(in IpEndpoints endpoints, ReadOnlySpan<byte> packet, int header, byte protocol, byte hopLimit, bool mayFragment, bool isFragment, uint identification, int offset, bool hasMore, in PacketOffload offload)
    {
        ReadOnlySpan<byte> payload = packet[header..];
        if (isFragment)
        {
            if (!_reassembler.TryAdd(endpoints, identification, protocol, offset, hasMore, payload, out payload))
            {
                return;
            }

            _errors.Forget();
            if (IsChecksumRight(endpoints, protocol, payload, false))
            {
                _receiver.OnPacket(endpoints, protocol, hopLimit, true, payload, default);
            }

            return;
        }

        if (!IsChecksumRight(endpoints, protocol, payload, offload.NeedsChecksum || offload.Segmentation != SegmentationKind.None))
        {
            Dropped++;
            return;
        }

        _errors.Remember(endpoints, packet);
        _receiver.OnPacket(endpoints, protocol, hopLimit, mayFragment, payload, offload);
        _errors.Forget();
    }

    private static bool IsChecksumRight(in IpEndpoints endpoints, byte protocol, ReadOnlySpan<byte> payload, bool isWaived)
    {
        switch (protocol)
        {
            case FrameFormat.Tcp:
                return payload.Length >= 20 && (isWaived || Sums(endpoints, protocol, payload));
            case FrameFormat.Udp:
                // IPv4 may go without (RFC 768), IPv6 not (RFC 8200 section 8.1).
                return payload.Length >= 8 && (isWaived || (!endpoints.IsVersion6 && payload[6] == 0 && payload[7] == 0) || Sums(endpoints, protocol, payload));
            case FrameFormat.Icmp:
                return payload.Length >= 8 && !endpoints.IsVersion6 && InternetChecksum.Fold(InternetChecksum.Add(0, payload)) == 0xFFFF;
            case FrameFormat.Icmp6:
                return payload.Length >= 8 && endpoints.IsVersion6 && (isWaived || Sums(endpoints, protocol, payload));
            default:
                return true;
        }
    }

    private static bool Sums(in IpEndpoints endpoints, byte protocol, ReadOnlySpan<byte> payload) =>
        InternetChecksum.Fold(InternetChecksum.Add(InternetChecksum.PseudoHeader(endpoints, protocol, payload.Length), payload)) == 0xFFFF;
}
