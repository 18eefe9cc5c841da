using System.Buffers.Binary;
using Tutti.Devices.Network;
using Tutti.Network.Tcp;

namespace Tutti.Network.Ip;

/// <summary>Builds packets for the guest in one buffer, the headers in front of what is already in its place.</summary>
internal sealed class IpOutput : IIpOutput
{
    private const int TransportAt = FrameFormat.EthernetHeader + FrameFormat.Ip6Header;
    private const int FragmentHeader6 = 8;
    private const int FinAndPush = 0x09;
    private const int Cwr = 0x80;

    private readonly GuestLink _link;
    private readonly byte[] _buffer = new byte[TransportAt + 65535];
    private readonly byte[] _piece;
    private readonly IcmpErrors _errors;
    private uint _identification;

    public IpOutput(GuestLink link, NetworkAddresses addresses, int mtu)
    {
        _link = link;
        Mtu = mtu;
        _piece = new byte[TransportAt + mtu + FragmentHeader6];
        _errors = new IcmpErrors(this, addresses);
    }

    public int Mtu { get; }

    public IcmpErrors Errors => _errors;

    /// <summary>Where a transport's header and payload are to be written: 65535 bytes.</summary>
    public Span<byte> Transport => _buffer.AsSpan(TransportAt);

    public Span<byte> ReserveTcp() => _buffer.AsSpan(TransportAt, IIpOutput.MaxSegment);

    public void SendUnreachable(UnreachableReason reason) => _errors.SendUnreachable(reason);

    /// <summary>A guest's address and its MAC, before it has spoken from it.</summary>
    public void LearnGuest(uint address, ulong mac) => _link.Learn(false, address, mac);

    /// <summary>Sends a UDP datagram whose payload lies behind 8 bytes in <see cref="Transport"/>; false when the guest has no room.</summary>
    public bool SendUdp(in IpEndpoints endpoints, ushort sourcePort, ushort destinationPort, int payloadLength)
    {
        int length = FrameFormat.UdpHeader + payloadLength;
        Span<byte> udp = Transport[..length];
        BinaryPrimitives.WriteUInt16BigEndian(udp, sourcePort);
        BinaryPrimitives.WriteUInt16BigEndian(udp[2..], destinationPort);
        BinaryPrimitives.WriteUInt16BigEndian(udp[4..], (ushort)length);
        udp[6..8].Clear();
        ulong pseudo = InternetChecksum.PseudoHeader(endpoints, FrameFormat.Udp, length);
        bool isPartial = (_link.Accepts & PacketOffloads.Checksum) != 0 && length + HeaderOf(endpoints) <= Mtu;
        ushort checksum = isPartial ? InternetChecksum.Fold(pseudo) : InternetChecksum.Finish(InternetChecksum.Add(pseudo, udp));
        BinaryPrimitives.WriteUInt16BigEndian(udp[6..], checksum == 0 && !isPartial ? (ushort)0xFFFF : checksum);
        return Send(endpoints, FrameFormat.Udp, length, FrameFormat.HopLimit, isPartial ? 6 : -1);
    }

    /// <summary>Sends what lies in <see cref="Transport"/>, checksum and all, in fragments where it is larger than the MTU.</summary>
    /// <param name="endpoints">The source is ours, or whom we speak for.</param>
    /// <param name="protocol">IANA's number.</param>
    /// <param name="length">Bytes in the buffer, as many as an IP packet can have.</param>
    /// <param name="hopLimit">TTL or hop limit.</param>
    /// <param name="checksumOffset">Where the card is to complete the checksum, or -1.</param>
    public bool Send(in IpEndpoints endpoints, byte protocol, int length, byte hopLimit = FrameFormat.HopLimit, int checksumOffset = -1)
    {
        int header = HeaderOf(endpoints);
        if (length + header > Mtu)
        {
            return SendFragments(endpoints, protocol, length, hopLimit);
        }

        int start = TransportAt - header - FrameFormat.EthernetHeader;
        WriteHeaders(_buffer.AsSpan(start), endpoints, protocol, length, hopLimit, 0);
        return Give(_buffer.AsSpan(start, FrameFormat.EthernetHeader + header + length), header, checksumOffset);
    }

    public int SendTcp(in IpEndpoints endpoints, int headerLength, int payloadLength, int segmentSize)
    {
        PacketOffloads accepts = _link.Accepts;
        segmentSize = Math.Clamp(segmentSize, 1, Math.Max(1, Mtu - HeaderOf(endpoints) - headerLength));
        bool isCut = payloadLength > segmentSize;
        PacketOffloads wanted = (endpoints.IsVersion6 ? PacketOffloads.Tcp6 : PacketOffloads.Tcp4) | PacketOffloads.Checksum;
        return isCut && (accepts & wanted) != wanted
            ? SendPieces(endpoints, headerLength, payloadLength, segmentSize, (accepts & PacketOffloads.Checksum) != 0)
            : SendWhole(endpoints, headerLength, payloadLength, isCut ? segmentSize : 0, (accepts & PacketOffloads.Checksum) != 0);
    }

    private static int HeaderOf(in IpEndpoints endpoints) => endpoints.IsVersion6 ? FrameFormat.Ip6Header : FrameFormat.Ip4Header;

    private static void WriteTcpChecksum(in IpEndpoints endpoints, Span<byte> segment, bool isPartial)
    {
        segment[16..18].Clear();
        ulong sum = InternetChecksum.PseudoHeader(endpoints, FrameFormat.Tcp, segment.Length);
        BinaryPrimitives.WriteUInt16BigEndian(segment[16..], isPartial ? InternetChecksum.Fold(sum) : InternetChecksum.Finish(InternetChecksum.Add(sum, segment)));
    }

    private int SendWhole(in IpEndpoints endpoints, int headerLength, int payloadLength, int segmentSize, bool isPartial)
    {
        int length = headerLength + payloadLength;
        Span<byte> segment = _buffer.AsSpan(TransportAt, length);
        WriteTcpChecksum(endpoints, segment, isPartial);
        int header = HeaderOf(endpoints);
        int start = TransportAt - header - FrameFormat.EthernetHeader;
        WriteHeaders(_buffer.AsSpan(start), endpoints, FrameFormat.Tcp, length, FrameFormat.HopLimit, 0);
        ushort transport = (ushort)(FrameFormat.EthernetHeader + header);
        PacketOffload offload = new(
            NeedsChecksum: isPartial,
            ChecksumStart: isPartial ? transport : (ushort)0,
            ChecksumOffset: isPartial ? (ushort)16 : (ushort)0,
            IsChecksumValid: true,
            Segmentation: segmentSize == 0 ? SegmentationKind.None : endpoints.IsVersion6 ? SegmentationKind.Tcp6 : SegmentationKind.Tcp4,
            SegmentSize: (ushort)segmentSize,
            HeaderLength: segmentSize == 0 ? (ushort)0 : (ushort)(transport + headerLength));
        return _link.TryGive(_buffer.AsSpan(start, transport + length), offload) ? payloadLength : -1;
    }

    private int SendPieces(in IpEndpoints endpoints, int headerLength, int payloadLength, int segmentSize, bool isPartial)
    {
        ReadOnlySpan<byte> whole = _buffer.AsSpan(TransportAt, headerLength + payloadLength);
        uint sequence = BinaryPrimitives.ReadUInt32BigEndian(whole[4..]);
        int header = HeaderOf(endpoints);
        int sent = 0;
        while (sent < payloadLength)
        {
            int size = Math.Min(segmentSize, payloadLength - sent);
            Span<byte> segment = _piece.AsSpan(FrameFormat.EthernetHeader + header, headerLength + size);
            whole[..headerLength].CopyTo(segment);
            whole.Slice(headerLength + sent, size).CopyTo(segment[headerLength..]);
            BinaryPrimitives.WriteUInt32BigEndian(segment[4..], sequence + (uint)sent);
            segment[13] &= (byte)~((sent + size < payloadLength ? FinAndPush : 0) | (sent > 0 ? Cwr : 0));
            WriteTcpChecksum(endpoints, segment, isPartial);
            WriteHeaders(_piece, endpoints, FrameFormat.Tcp, segment.Length, FrameFormat.HopLimit, 0);
            if (!Give(_piece.AsSpan(0, FrameFormat.EthernetHeader + header + segment.Length), header, isPartial ? 16 : -1))
            {
                return sent == 0 ? -1 : sent;
            }

            sent += size;
        }

        return sent;
    }

    private bool SendFragments(in IpEndpoints endpoints, byte protocol, int length, byte hopLimit)
    {
        int header = HeaderOf(endpoints);
        int extra = endpoints.IsVersion6 ? FragmentHeader6 : 0;
        int most = (Mtu - header - extra) & ~7;
        uint identification = ++_identification;
        for (int offset = 0; offset < length; offset += most)
        {
            int size = Math.Min(most, length - offset);
            bool hasMore = offset + size < length;
            int at = FrameFormat.EthernetHeader + header;
            if (endpoints.IsVersion6)
            {
                WriteHeaders(_piece, endpoints, 44, size + extra, hopLimit, 0);
                Span<byte> fragment = _piece.AsSpan(at, FragmentHeader6);
                fragment[0] = protocol;
                fragment[1] = 0;
                BinaryPrimitives.WriteUInt16BigEndian(fragment[2..], (ushort)(offset | (hasMore ? 1 : 0)));
                BinaryPrimitives.WriteUInt32BigEndian(fragment[4..], identification);
                at += extra;
            }
            else
            {
                WriteHeaders(_piece, endpoints, protocol, size, hopLimit, (ushort)((offset >> 3) | (hasMore ? 0x2000 : 0)), (ushort)identification);
            }

            _buffer.AsSpan(TransportAt + offset, size).CopyTo(_piece.AsSpan(at));
            if (!Give(_piece.AsSpan(0, at + size), header, -1))
            {
                return false;
            }
        }

        return true;
    }

    private bool Give(ReadOnlySpan<byte> frame, int header, int checksumOffset) => _link.TryGive(
        frame,
        checksumOffset < 0
            ? new PacketOffload(IsChecksumValid: true)
            : new PacketOffload(true, (ushort)(FrameFormat.EthernetHeader + header), (ushort)checksumOffset, IsChecksumValid: true));

    private void WriteHeaders(Span<byte> frame, in IpEndpoints endpoints, byte protocol, int length, byte hopLimit, ushort fragment, ushort identification = 0)
    {
        ulong mac = MacFor(endpoints);
        FrameFormat.WriteEthernet(frame, mac, endpoints.IsVersion6 ? FrameFormat.TypeIp6 : FrameFormat.TypeIp4);
        Span<byte> ip = frame[FrameFormat.EthernetHeader..];
        if (endpoints.IsVersion6)
        {
            BinaryPrimitives.WriteUInt32BigEndian(ip, 0x6000_0000);
            BinaryPrimitives.WriteUInt16BigEndian(ip[4..], (ushort)length);
            ip[6] = protocol;
            ip[7] = hopLimit;
            BinaryPrimitives.WriteUInt128BigEndian(ip[8..], endpoints.Source);
            BinaryPrimitives.WriteUInt128BigEndian(ip[24..], endpoints.Destination);
            return;
        }

        ip[0] = 0x45;
        ip[1] = 0;
        BinaryPrimitives.WriteUInt16BigEndian(ip[2..], (ushort)(FrameFormat.Ip4Header + length));
        BinaryPrimitives.WriteUInt16BigEndian(ip[4..], identification);
        // A whole packet must not be fragmented on the way, and so needs no identification (RFC 6864).
        BinaryPrimitives.WriteUInt16BigEndian(ip[6..], fragment == 0 && identification == 0 ? (ushort)0x4000 : fragment);
        ip[8] = hopLimit;
        ip[9] = protocol;
        ip[10..12].Clear();
        BinaryPrimitives.WriteUInt32BigEndian(ip[12..], (uint)endpoints.Source);
        BinaryPrimitives.WriteUInt32BigEndian(ip[16..], (uint)endpoints.Destination);
        BinaryPrimitives.WriteUInt16BigEndian(ip[10..], InternetChecksum.Finish(InternetChecksum.Add(0, ip[..FrameFormat.Ip4Header])));
    }

    private ulong MacFor(in IpEndpoints endpoints)
    {
        if (endpoints.IsVersion6)
        {
            // RFC 2464 section 7.
            return (byte)(endpoints.Destination >> 120) == 0xFF ? 0x3333_0000_0000UL | (uint)endpoints.Destination : _link.MacOf(true, endpoints.Destination);
        }

        return (uint)endpoints.Destination == uint.MaxValue ? FrameFormat.BroadcastMac : _link.MacOf(false, endpoints.Destination);
    }
}
