using System.Buffers.Binary;

namespace Tutti.Cpu.Interpreter.Tests.Oracle;

/// <summary>Compares two FXSAVE64 images in what an MMX or SSE instruction can change.</summary>
internal static class FxComparison
{
    private const int Mxcsr = 24;
    private const int Stack = 32;
    private const int Xmm = 160;

    private const uint Precision = 1 << 5;
    private const uint OverflowAndUnderflow = 0b1_1000;
    private const int MaskShift = 7;

    /// <summary>The first register that differs, or null.</summary>
    /// <param name="host">What the host left.</param>
    /// <param name="mine">What the interpreter left.</param>
    /// <param name="trapped">The instruction took #XM.</param>
    public static string? Difference(ReadOnlySpan<byte> host, ReadOnlySpan<byte> mine, bool trapped)
    {
        for (int i = 0; i < 16; i++)
        {
            int at = Xmm + (16 * i);
            if (!host.Slice(at, 16).SequenceEqual(mine.Slice(at, 16)))
            {
                return $"xmm{i}: host {Text(host.Slice(at, 16))}, interpreter {Text(mine.Slice(at, 16))}";
            }
        }

        uint hostMxcsr = BinaryPrimitives.ReadUInt32LittleEndian(host[Mxcsr..]);
        uint mineMxcsr = BinaryPrimitives.ReadUInt32LittleEndian(mine[Mxcsr..]);

        // Beside an unmasked overflow or underflow PE tells whether the result would be inexact with an exponent without
        // bounds. The interpreter computes with exceptions masked, so it has no such result to look at.
        bool unbounded = trapped && (hostMxcsr & ~(hostMxcsr >> MaskShift) & OverflowAndUnderflow) != 0;
        if (((hostMxcsr ^ mineMxcsr) & ~(unbounded ? Precision : 0)) != 0)
        {
            return $"mxcsr: host {hostMxcsr:x}, interpreter {mineMxcsr:x}";
        }

        // FCW, FSW and the abridged tag word.
        if (!host[..5].SequenceEqual(mine[..5]))
        {
            return $"x87 control, status, tags: host {Convert.ToHexString(host[..5])}, interpreter {Convert.ToHexString(mine[..5])}";
        }

        for (int i = 0; i < 8; i++)
        {
            int at = Stack + (16 * i);
            if (!host.Slice(at, 10).SequenceEqual(mine.Slice(at, 10)))
            {
                return $"st{i}: host {Text(host.Slice(at, 10))}, interpreter {Text(mine.Slice(at, 10))}";
            }
        }

        return null;
    }

    /// <summary>The first upper half of a YMM register that differs, or null.</summary>
    public static string? UpperDifference(ReadOnlySpan<byte> host, ReadOnlySpan<byte> mine)
    {
        for (int at = 0; at < host.Length; at += 16)
        {
            if (!host.Slice(at, 16).SequenceEqual(mine.Slice(at, 16)))
            {
                return $"upper half of ymm{at / 16}: host {Text(host.Slice(at, 16))}, interpreter {Text(mine.Slice(at, 16))}";
            }
        }

        return null;
    }

    private static string Text(ReadOnlySpan<byte> value)
    {
        byte[] bytes = value.ToArray();
        Array.Reverse(bytes);
        return Convert.ToHexString(bytes);
    }
}
