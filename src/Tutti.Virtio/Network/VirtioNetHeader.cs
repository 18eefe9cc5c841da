using System.Buffers.Binary;
using Tutti.Devices.Network;
using static Tutti.Virtio.Network.VirtioNetLayout;

namespace Tutti.Virtio.Network;

/// <summary>Translates between a frame's virtio header and what the network knows of unfinished work on a frame.</summary>
internal static class VirtioNetHeader
{
    private const int EthernetHeaderSize = 14;
    private const int EtherTypeOffset = 12;
    private const int VlanTagSize = 4;
    private const int MaxVlanTags = 2;
    private const ushort EtherTypeIp4 = 0x0800;
    private const ushort EtherTypeIp6 = 0x86DD;
    private const ushort EtherTypeVlan = 0x8100;
    private const ushort EtherTypeServiceVlan = 0x88A8;
    private const int Ip4HeaderSize = 20;
    private const int Ip6HeaderSize = 40;
    private const int TcpHeaderSize = 20;
    private const int TcpDataOffset = 12;
    private const int TcpChecksumOffset = 16;
    private const int ChecksumSize = 2;

    // Linux sends no smaller ones (TCP_MIN_GSO_SIZE). A frame of 64 KiB cut into single bytes would be 64 Ki frames.
    private const int MinSegmentSize = 8;

    /// <summary>Bytes that a frame may have beyond the MTU: Ethernet's header and two VLAN tags.</summary>
    internal const int FrameOverhead = EthernetHeaderSize + (MaxVlanTags * VlanTagSize);

    /// <summary>Reads the header of a frame that the guest sends. Both are private copies.</summary>
    /// <param name="header">The 12 bytes of virtio_net_hdr.</param>
    /// <param name="frame">The frame behind it.</param>
    /// <param name="features">What the driver negotiated.</param>
    /// <param name="mtu">The network's MTU, which frames that are not to be cut must keep.</param>
    /// <param name="offload">What is left to do.</param>
    /// <returns>False for a frame that no network could send.</returns>
    internal static bool TryRead(ReadOnlySpan<byte> header, ReadOnlySpan<byte> frame, ulong features, int mtu, out PacketOffload offload)
    {
        offload = default;
        if (frame.Length < EthernetHeaderSize)
        {
            return false;
        }

        bool needsChecksum = (header[HeaderFlags] & FlagNeedsCsum) != 0;
        ushort start = 0;
        ushort offset = 0;
        if (needsChecksum)
        {
            start = BinaryPrimitives.ReadUInt16LittleEndian(header[HeaderCsumStart..]);
            offset = BinaryPrimitives.ReadUInt16LittleEndian(header[HeaderCsumOffset..]);
            if ((features & FeatureCsum) == 0 || start < EthernetHeaderSize || start + offset + ChecksumSize > frame.Length)
            {
                return false;
            }
        }

        byte gso = header[HeaderGsoType];
        if (gso == GsoNone)
        {
            offload = new PacketOffload(needsChecksum, start, offset);
            return frame.Length <= mtu + FrameOverhead;
        }

        ushort segmentSize = BinaryPrimitives.ReadUInt16LittleEndian(header[HeaderGsoSize..]);
        if (!needsChecksum || offset != TcpChecksumOffset || segmentSize < MinSegmentSize
            || !TryReadSegmentation(gso, frame, start, features, out SegmentationKind kind))
        {
            return false;
        }

        // hdr_len is a hint that drivers fill as they like: the headers say themselves where they end.
        int headerLength = start + ((frame[start + TcpDataOffset] >> 4) * 4);
        if (headerLength < start + TcpHeaderSize || headerLength >= frame.Length)
        {
            return false;
        }

        offload = new PacketOffload(
            true, start, offset, Segmentation: kind, SegmentSize: segmentSize, HeaderLength: (ushort)headerLength, HasEcn: (gso & GsoEcn) != 0);
        return true;
    }

    /// <summary>Writes the header of a frame that the guest receives.</summary>
    internal static void Write(Span<byte> header, in PacketOffload offload, int numBuffers)
    {
        header.Clear();
        if (offload.NeedsChecksum)
        {
            header[HeaderFlags] = FlagNeedsCsum;
            BinaryPrimitives.WriteUInt16LittleEndian(header[HeaderCsumStart..], offload.ChecksumStart);
            BinaryPrimitives.WriteUInt16LittleEndian(header[HeaderCsumOffset..], offload.ChecksumOffset);
        }
        else if (offload.IsChecksumValid)
        {
            header[HeaderFlags] = FlagDataValid;
        }

        if (offload.Segmentation != SegmentationKind.None)
        {
            header[HeaderGsoType] = (byte)((offload.Segmentation == SegmentationKind.Tcp4 ? GsoTcp4 : GsoTcp6) | (offload.HasEcn ? GsoEcn : 0));
            BinaryPrimitives.WriteUInt16LittleEndian(header[HeaderHdrLen..], offload.HeaderLength);
            BinaryPrimitives.WriteUInt16LittleEndian(header[HeaderGsoSize..], offload.SegmentSize);
        }

        BinaryPrimitives.WriteUInt16LittleEndian(header[HeaderNumBuffers..], (ushort)numBuffers);
    }

    private static bool TryReadSegmentation(byte gso, ReadOnlySpan<byte> frame, int tcp, ulong features, out SegmentationKind kind)
    {
        kind = (gso & ~GsoEcn) switch
        {
            GsoTcp4 when (features & FeatureHostTso4) != 0 => SegmentationKind.Tcp4,
            GsoTcp6 when (features & FeatureHostTso6) != 0 => SegmentationKind.Tcp6,
            _ => SegmentationKind.None,
        };
        if (kind == SegmentationKind.None || ((gso & GsoEcn) != 0 && (features & FeatureHostEcn) == 0) || tcp + TcpHeaderSize > frame.Length)
        {
            return false;
        }

        int type = EtherTypeOffset;
        for (int tags = 0; tags < MaxVlanTags && IsVlan(frame, type); tags++)
        {
            type += VlanTagSize;
        }

        int network = type + sizeof(ushort);
        return kind == SegmentationKind.Tcp4
            ? tcp >= network + Ip4HeaderSize && ReadEtherType(frame, type) == EtherTypeIp4
            : tcp >= network + Ip6HeaderSize && ReadEtherType(frame, type) == EtherTypeIp6;
    }

    private static bool IsVlan(ReadOnlySpan<byte> frame, int type) => ReadEtherType(frame, type) is EtherTypeVlan or EtherTypeServiceVlan;

    // The caller has shown that a TCP header lies in the frame behind Ethernet's, so both tags' places do, too.
    private static ushort ReadEtherType(ReadOnlySpan<byte> frame, int type) => BinaryPrimitives.ReadUInt16BigEndian(frame[type..]);
}
