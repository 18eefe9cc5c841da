using System.Buffers.Binary;
using Tutti.Devices.Network;
using Tutti.Virtio.Network;

namespace Tutti.Virtio.Tests.Network;

public sealed class VirtioNetHeaderTests
{
    private const ulong All = VirtioNetLayout.FeatureCsum | VirtioNetLayout.FeatureHostTso4 | VirtioNetLayout.FeatureHostTso6 | VirtioNetLayout.FeatureHostEcn;
    private const int Mtu = 1500;

    [Theory]
    [InlineData(13, false)]
    [InlineData(14, true)]
    [InlineData(1522, true)]
    [InlineData(1523, false)]
    public void A_plain_frame_must_have_a_header_and_keep_the_mtu(int length, bool isGood) =>
        Assert.Equal(isGood, VirtioNetHeader.TryRead(new byte[12], new byte[length], All, Mtu, out _));

    [Theory]
    [InlineData(34, 16, true)]
    [InlineData(82, 16, true)]
    [InlineData(83, 16, false)]
    [InlineData(13, 16, false)]
    [InlineData(0xFFFF, 0xFFFF, false)]
    [InlineData(34, 65, true)]
    [InlineData(34, 0xFFFF, false)]
    public void The_checksum_must_lie_in_the_frame(int start, int offset, bool isGood)
    {
        byte[] header = Header(1, 0, 0, start, offset);
        Assert.Equal(isGood, VirtioNetHeader.TryRead(header, new byte[100 + (offset == 65 ? 1 : 0)], All, Mtu, out PacketOffload offload));
        if (isGood)
        {
            Assert.Equal(new PacketOffload(true, (ushort)start, (ushort)offset), offload);
        }

        Assert.False(VirtioNetHeader.TryRead(header, new byte[101], All & ~VirtioNetLayout.FeatureCsum, Mtu, out _));
    }

    [Theory]
    [InlineData(1, false, 0, SegmentationKind.Tcp4)]
    [InlineData(4, true, 0, SegmentationKind.Tcp6)]
    [InlineData(1, false, 1, SegmentationKind.Tcp4)]
    [InlineData(4, true, 2, SegmentationKind.Tcp6)]
    public void A_long_tcp_frame_says_how_it_is_cut(byte type, bool isIp6, int tags, SegmentationKind kind)
    {
        byte[] frame = TcpFrame(isIp6, tags, 9000, out int tcp);
        byte[] header = Header(1, type, 1448, tcp, 16);
        Assert.True(VirtioNetHeader.TryRead(header, frame, All, Mtu, out PacketOffload offload));
        Assert.Equal(new PacketOffload(true, (ushort)tcp, 16, false, kind, 1448, (ushort)(tcp + 32)), offload);
        header[1] |= 0x80;
        Assert.True(VirtioNetHeader.TryRead(header, frame, All, Mtu, out offload));
        Assert.True(offload.HasEcn);
        Assert.False(VirtioNetHeader.TryRead(header, frame, All & ~VirtioNetLayout.FeatureHostEcn, Mtu, out _));
        header[1] &= 0x7F;
        Assert.False(VirtioNetHeader.TryRead(header, frame, All & ~(VirtioNetLayout.FeatureHostTso4 | VirtioNetLayout.FeatureHostTso6), Mtu, out _));
    }

    [Theory]
    [InlineData(0, 1, 1448, 34, 16)]
    [InlineData(1, 1, 0, 34, 16)]
    [InlineData(1, 1, 7, 34, 16)]
    [InlineData(1, 1, 1448, 34, 6)]
    [InlineData(1, 1, 1448, 33, 16)]
    [InlineData(1, 1, 1448, 8990, 16)]
    [InlineData(1, 3, 1448, 34, 16)]
    [InlineData(1, 4, 1448, 34, 16)]
    [InlineData(1, 5, 1448, 34, 16)]
    [InlineData(1, 0x80, 1448, 34, 16)]
    public void Senseless_segmentation_is_refused(byte flags, byte type, int size, int start, int offset)
    {
        byte[] frame = TcpFrame(false, 0, 9000, out _);
        Assert.False(VirtioNetHeader.TryRead(Header(flags, type, size, start, offset), frame, All, Mtu, out _));
    }

    [Fact]
    public void A_tcp_header_that_is_too_short_or_leaves_no_payload_is_refused()
    {
        byte[] frame = TcpFrame(false, 0, 34 + 32 + 1, out int tcp);
        byte[] header = Header(1, 1, 1448, tcp, 16);
        Assert.True(VirtioNetHeader.TryRead(header, frame, All, Mtu, out _));
        Assert.False(VirtioNetHeader.TryRead(header, frame.AsSpan(0, frame.Length - 1), All, Mtu, out _));
        frame[tcp + 12] = 0x40;
        Assert.False(VirtioNetHeader.TryRead(header, frame, All, Mtu, out _));
    }

    [Fact]
    public void What_is_written_for_the_guest_reads_back_as_it_was()
    {
        byte[] frame = TcpFrame(true, 0, 5000, out int tcp);
        PacketOffload offload = new(true, (ushort)tcp, 16, false, SegmentationKind.Tcp6, 1440, (ushort)(tcp + 32), true);
        byte[] header = new byte[12];
        VirtioNetHeader.Write(header, offload, 3);
        Assert.True(VirtioNetHeader.TryRead(header, frame, All, Mtu, out PacketOffload back));
        Assert.Equal(offload, back);
        Assert.Equal(3, header[10]);
        VirtioNetHeader.Write(header, new PacketOffload(IsChecksumValid: true), 1);
        Assert.Equal([2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], header);
    }

    [Fact]
    [Trait("Category", "Fuzz")]
    public void Random_headers_and_frames_never_leave_the_frame()
    {
        Random random = new(5);
        byte[] header = new byte[12];
        byte[] bytes = TcpFrame(false, 1, 300, out _);
        for (int i = 0; i < 200_000; i++)
        {
            random.NextBytes(header);
            header[0] &= 3;
            header[1] &= 0x87;
            header[random.Next(6, 10)] = 0;
            header[7] = 0;
            bytes[random.Next(bytes.Length)] = (byte)random.Next();
            ReadOnlySpan<byte> frame = bytes.AsSpan(0, random.Next(bytes.Length));
            if (VirtioNetHeader.TryRead(header, frame, All, Mtu, out PacketOffload offload))
            {
                Assert.True(!offload.NeedsChecksum || offload.ChecksumStart + offload.ChecksumOffset + 2 <= frame.Length);
                Assert.True(offload.HeaderLength < frame.Length);
                Assert.True(offload.Segmentation == SegmentationKind.None || offload is { NeedsChecksum: true, SegmentSize: >= 8, HeaderLength: >= 54 });
            }
        }
    }

    internal static byte[] Header(byte flags, byte type, int size, int start, int offset)
    {
        byte[] header = new byte[12];
        header[0] = flags;
        header[1] = type;
        BinaryPrimitives.WriteUInt16LittleEndian(header.AsSpan(4), (ushort)size);
        BinaryPrimitives.WriteUInt16LittleEndian(header.AsSpan(6), (ushort)start);
        BinaryPrimitives.WriteUInt16LittleEndian(header.AsSpan(8), (ushort)offset);
        return header;
    }

    /// <summary>An Ethernet frame of an IP packet with a TCP header of 32 bytes.</summary>
    internal static byte[] TcpFrame(bool isIp6, int tags, int length, out int tcp)
    {
        byte[] frame = new byte[length];
        int type = 12;
        for (int i = 0; i < tags; i++, type += 4)
        {
            frame[type] = i == 0 && tags > 1 ? (byte)0x88 : (byte)0x81;
            frame[type + 1] = i == 0 && tags > 1 ? (byte)0xA8 : (byte)0;
        }

        BinaryPrimitives.WriteUInt16BigEndian(frame.AsSpan(type), isIp6 ? (ushort)0x86DD : (ushort)0x0800);
        tcp = type + 2 + (isIp6 ? 40 : 20);
        frame[tcp + 12] = 0x80;
        return frame;
    }
}
