using System.Buffers.Binary;

namespace Tutti.Guest.Tests;

/// <summary>The vmlinux inside a bzImage. Source: Linux kernel, Documentation/arch/x86/boot.rst ("payload_offset").</summary>
internal static class CompressedKernel
{
    /// <summary>Unpacks the payload; null where it is in another format than the one for LZ4.</summary>
    public static byte[]? TryExtract(ReadOnlySpan<byte> bzImage)
    {
        int start = (bzImage[0x1F1] + 1) * 512;
        int offset = BinaryPrimitives.ReadInt32LittleEndian(bzImage[0x248..]);
        int length = BinaryPrimitives.ReadInt32LittleEndian(bzImage[0x24C..]);
        ReadOnlySpan<byte> payload = bzImage.Slice(start + offset, length);
        if (BinaryPrimitives.ReadUInt32LittleEndian(payload) != 0x184C_2102)
        {
            return null;
        }

        // The kernel's build puts the unpacked size behind the compressed data.
        byte[] kernel = new byte[BinaryPrimitives.ReadInt32LittleEndian(payload[^4..])];
        int written = Lz4Legacy(payload[4..^4], kernel);
        Assert.Equal(kernel.Length, written);
        return kernel;
    }

    /// <summary>Blocks, each with its compressed size in front. Source: LZ4 Frame Format Description, "Legacy frame".</summary>
    private static int Lz4Legacy(ReadOnlySpan<byte> input, Span<byte> output)
    {
        int written = 0;
        while (!input.IsEmpty)
        {
            int size = BinaryPrimitives.ReadInt32LittleEndian(input);
            written += Lz4Block(input.Slice(4, size), output[written..]);
            input = input[(4 + size)..];
        }

        return written;
    }

    /// <summary>Source: LZ4 Block Format Description.</summary>
    private static int Lz4Block(ReadOnlySpan<byte> input, Span<byte> output)
    {
        int from = 0;
        int to = 0;
        while (true)
        {
            byte token = input[from++];
            int literals = Length(token >> 4, input, ref from);
            input.Slice(from, literals).CopyTo(output[to..]);
            from += literals;
            to += literals;
            if (from == input.Length)
            {
                return to;
            }

            int distance = BinaryPrimitives.ReadUInt16LittleEndian(input[from..]);
            from += 2;
            int match = Length(token & 15, input, ref from) + 4;
            for (int end = to + match; to < end; to++)
            {
                output[to] = output[to - distance];
            }
        }
    }

    private static int Length(int nibble, ReadOnlySpan<byte> input, ref int from)
    {
        int length = nibble;
        for (byte more = (byte)(nibble == 15 ? 255 : 0); more == 255;)
        {
            more = input[from++];
            length += more;
        }

        return length;
    }
}
