using System.Buffers.Binary;
using Tutti.Devices.Network;
using Tutti.Host;
using Tutti.Network.Ip;

namespace Tutti.Network.Tap;

/// <summary>
/// The header in front of a frame at a TAP device, <c>struct virtio_net_hdr</c> in the host's byte order (<c>linux/virtio_net.h</c>), which says what work on the
/// frame is left.
/// </summary>
internal static class TapHeader
{
    private const int GsoType = 1;
    private const int HdrLen = 2;
    private const int GsoSize = 4;
    private const int CsumStart = 6;
    private const int CsumOffset = 8;
    private const byte NeedsCsum = 1;
    private const byte DataValid = 2;
    private const byte GsoTcp4 = 1;
    private const byte GsoTcp6 = 4;
    private const byte GsoEcn = 0x80;
    private const int TcpHeader = 20;
    private const int TcpDataOffset = 12;
    private const int TcpChecksum = 16;

    /// <summary>For the host's network stack.</summary>
    public static void Write(Span<byte> header, in PacketOffload offload)
    {
        header[..HostTap.HeaderSize].Clear();
        if (offload.NeedsChecksum)
        {
            header[0] = NeedsCsum;
            BinaryPrimitives.WriteUInt16LittleEndian(header[CsumStart..], offload.ChecksumStart);
            BinaryPrimitives.WriteUInt16LittleEndian(header[CsumOffset..], offload.ChecksumOffset);
        }

        if (offload.Segmentation is SegmentationKind.Tcp4 or SegmentationKind.Tcp6)
        {
            header[GsoType] = (byte)((offload.Segmentation == SegmentationKind.Tcp4 ? GsoTcp4 : GsoTcp6) | (offload.HasEcn ? GsoEcn : 0));
            BinaryPrimitives.WriteUInt16LittleEndian(header[HdrLen..], offload.HeaderLength);
            BinaryPrimitives.WriteUInt16LittleEndian(header[GsoSize..], offload.SegmentSize);
        }
    }

    /// <summary>From the host's network stack, or through it from whoever is on the same bridge.</summary>
    /// <returns>False for work that no card takes over.</returns>
    public static bool TryRead(ReadOnlySpan<byte> header, ReadOnlySpan<byte> frame, out PacketOffload offload)
    {
        offload = new PacketOffload(IsChecksumValid: (header[0] & DataValid) != 0);
        ushort start = 0;
        ushort offset = 0;
        bool needsChecksum = (header[0] & NeedsCsum) != 0;
        if (needsChecksum)
        {
            start = BinaryPrimitives.ReadUInt16LittleEndian(header[CsumStart..]);
            offset = BinaryPrimitives.ReadUInt16LittleEndian(header[CsumOffset..]);
            if (start < FrameFormat.EthernetHeader || start + offset + sizeof(ushort) > frame.Length)
            {
                return false;
            }

            offload = new PacketOffload(true, start, offset, IsChecksumValid: true);
        }

        if (header[GsoType] == 0)
        {
            return true;
        }

        SegmentationKind kind = (header[GsoType] & ~GsoEcn) switch
        {
            GsoTcp4 => SegmentationKind.Tcp4,
            GsoTcp6 => SegmentationKind.Tcp6,
            _ => SegmentationKind.None,
        };
        ushort size = BinaryPrimitives.ReadUInt16LittleEndian(header[GsoSize..]);
        if (kind == SegmentationKind.None || size == 0 || !needsChecksum || offset != TcpChecksum || start + TcpHeader > frame.Length)
        {
            return false;
        }

        // The kernel's hdr_len is how much lies in one piece in its memory; the headers themselves say where they end.
        int end = start + ((frame[start + TcpDataOffset] >> 4) * 4);
        if (end < start + TcpHeader || end > frame.Length)
        {
            return false;
        }

        offload = offload with { Segmentation = kind, SegmentSize = size, HeaderLength = (ushort)end, HasEcn = (header[GsoType] & GsoEcn) != 0 };
        return true;
    }
}
