namespace Tutti.Cpu.Interpreter.Tests.Vector;

/// <summary>Random state with many edge values.</summary>
internal static unsafe class Values
{
    /// <summary>Memory operands lie inside this part of the memory.</summary>
    public const int WindowStart = 1024;

    public const int WindowSize = 320;

    private static readonly uint[] Singles =
    [
        0, 0x8000_0000, 0x3F80_0000, 0xBF80_0000, 0x7F80_0000, 0xFF80_0000, 0x7FC0_0000, 0xFFC0_1234, 0x7F80_0001, 0xFFA5_A5A5,
        1, 0x8000_0001, 0x007F_FFFF, 0x0080_0000, 0x7F7F_FFFF, 0xFF7F_FFFF, 0x4F00_0000, 0xCF00_0000, 0x5F00_0000, 0x3F00_0000,
    ];

    private static readonly ulong[] Doubles =
    [
        0, 1UL << 63, 0x3FF0_0000_0000_0000, 0xBFF0_0000_0000_0000, 0x7FF0_0000_0000_0000, 0xFFF0_0000_0000_0000,
        0x7FF8_0000_0000_0000, 0xFFF8_0000_0000_1234, 0x7FF0_0000_0000_0001, 0xFFF4_0000_0000_0000, 1, 0x8000_0000_0000_0001,
        0x000F_FFFF_FFFF_FFFF, 0x0010_0000_0000_0000, 0x7FEF_FFFF_FFFF_FFFF, 0x41E0_0000_0000_0000, 0xC1E0_0000_0020_0000,
        0x43E0_0000_0000_0000, 0x47EF_FFFF_F000_0000, 0x3810_0000_0000_0000, 0x3690_0000_0000_0000, 0x3FE0_0000_0000_0000,
    ];

    private static readonly ulong[] Integers = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0x7FFF_FFFF, 0x8000_0000, ulong.MaxValue, 1UL << 63, long.MaxValue];

    private static readonly (ulong Mantissa, ushort Exponent)[] Extended =
    [
        (0, 0), (0, 0x8000), (1UL << 63, 0x3FFF), (1UL << 63, 0xBFFF), (1UL << 63, 0x7FFF), (1UL << 63, 0xFFFF),
        (3UL << 62, 0x7FFF), (3UL << 62 | 77, 0xFFFF), (1UL << 63 | 5, 0x7FFF), (1, 0), (1UL << 62, 0x8000), (1UL << 63, 0),
        (ulong.MaxValue, 0x7FFE), (1UL << 63, 1), (1UL << 62, 0x4000), (5, 0x7FFF), (1UL << 63, 0x403E), (1UL << 63, 0x401E),
    ];

    public static void Fill(BareCpu cpu, Random random)
    {
        CpuState* state = cpu.State;
        for (int i = 0; i < 16; i++)
        {
            state->Gpr[i] = random.Next(3) == 0 ? Integers[random.Next(Integers.Length)] : (ulong)random.NextInt64(long.MinValue, long.MaxValue);
        }

        state->Gpr[3] = (ulong)cpu.Memory + WindowStart;
        state->Gpr[7] = (ulong)cpu.Memory + WindowStart + 256 + (ulong)random.Next(16);
        state->Flags = 2 | ((ulong)random.Next() & 0x8D5);
        state->FlagKind = FlagKind.Eager;
        random.NextBytes(new Span<byte>(cpu.Memory + WindowStart, WindowSize));
        Element(cpu.Memory + WindowStart + 64, random);
        for (int i = 0; i < 16; i++)
        {
            Element((byte*)cpu.Xmm(i), random);
        }

        // Rounding, flush-to-zero, denormals-are-zero and sticky flags at random; all masked.
        cpu.Mxcsr = ((uint)random.Next(0x10000) & 0xE07F) | 0x1F80;
        FillX87(cpu, random);
    }

    private static void FillX87(BareCpu cpu, Random random)
    {
        byte* area = cpu.State->FxArea;
        cpu.X87Control = (ushort)(0x40 | ((random.Next() & 15) << 8) | (random.Next(3) == 0 ? random.Next(64) : 0x3F));
        int masked = cpu.X87Control & 0x3F;
        cpu.X87Status = (ushort)((random.Next() & 0x7F00) | (random.Next() & masked & (random.Next(2) == 0 ? 0x3F : 0)));
        area[4] = (byte)(random.Next(3) == 0 ? random.Next() : 0xFF);
        for (int i = 0; i < 8; i++)
        {
            byte* register = area + 32 + (16 * i);
            (ulong mantissa, ushort exponent) = random.Next(3) switch
            {
                0 => Extended[random.Next(Extended.Length)],
                1 => ((ulong)random.NextInt64() | (1UL << 63), (ushort)(0x3FFF - 40 + random.Next(80) + (random.Next(2) << 15))),
                _ => ((ulong)random.NextInt64(long.MinValue, long.MaxValue), (ushort)random.Next()),
            };
            *(ulong*)register = mantissa;
            *(ulong*)(register + 8) = exponent;
        }
    }

    private static void Element(byte* to, Random random)
    {
        switch (random.Next(5))
        {
            case 0:
                for (int i = 0; i < 4; i++)
                {
                    ((uint*)to)[i] = random.Next(2) == 0 ? Singles[random.Next(Singles.Length)]
                        : BitConverter.SingleToUInt32Bits((float)((random.NextDouble() - 0.5) * Math.Pow(2, random.Next(-20, 40))));
                }

                break;
            case 1:
                for (int i = 0; i < 2; i++)
                {
                    ((ulong*)to)[i] = random.Next(2) == 0 ? Doubles[random.Next(Doubles.Length)]
                        : BitConverter.DoubleToUInt64Bits((random.NextDouble() - 0.5) * Math.Pow(2, random.Next(-20, 70)));
                }

                break;
            case 2:
                ((ulong*)to)[0] = Integers[random.Next(Integers.Length)];
                ((ulong*)to)[1] = Integers[random.Next(Integers.Length)];
                break;
            case 3:
                // An 80-bit number, for x87 loads.
                (ulong mantissa, ushort exponent) = Extended[random.Next(Extended.Length)];
                ((ulong*)to)[0] = mantissa;
                ((ulong*)to)[1] = exponent;
                break;
            default:
                random.NextBytes(new Span<byte>(to, 16));
                break;
        }
    }
}
