namespace Tutti.Cpu.Interpreter.Tests.Oracle;

/// <summary>A small fast generator (xorshift64*) with the values at which instructions tend to break.</summary>
internal sealed class SeededRandom(ulong seed)
{
    private static readonly ulong[] Edges =
    [
        0, 1, 2, 0x7F, 0x80, 0x81, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x1_0000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0x1_0000_0000,
        0x7FFF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000, 0x8000_0000_0000_0001, ulong.MaxValue, ulong.MaxValue - 1, 0xFFFF_FFFF_8000_0000, 0x0F0F_0F0F_0F0F_0F0F,
    ];

    /// <summary>Single and double precision values: zeros, denormals, limits (of halves too), infinities, quiet and signaling NaNs, halves.</summary>
    private static readonly uint[] Floats =
    [
        0, 0x8000_0000, 1, 0x007F_FFFF, 0x0080_0000, 0x3F80_0000, 0xBF80_0000, 0x3F00_0000, 0x4B00_0001, 0x4F00_0000, 0xCF00_0000, 0x7F7F_FFFF,
        0x7F80_0000, 0xFF80_0000, 0x7FC0_0000, 0x7FC1_2345, 0x7F80_0001, 0xFFA0_0000, 0x4020_0000, 0x5F00_0000,
        0x3380_0000, 0x3300_0001, 0x387F_E000, 0x3880_0000, 0xB8FF_FFFF, 0x477F_E000, 0x477F_F000,
    ];

    private static readonly ulong[] Doubles =
    [
        0, 0x8000_0000_0000_0000, 1, 0x000F_FFFF_FFFF_FFFF, 0x0010_0000_0000_0000, 0x3FF0_0000_0000_0000, 0xBFF0_0000_0000_0000, 0x3FE0_0000_0000_0000,
        0x41E0_0000_0000_0000, 0xC1E0_0000_0020_0000, 0x43E0_0000_0000_0000, 0xC3E0_0000_0000_0000, 0x7FEF_FFFF_FFFF_FFFF, 0x7FF0_0000_0000_0000,
        0xFFF0_0000_0000_0000, 0x7FF8_0000_0000_0000, 0x7FF8_1234_5678_9ABC, 0x7FF0_0000_0000_0001, 0xFFF4_0000_0000_0000, 0x47EF_FFFF_F000_0000, 0x36A0_0000_0000_0000,
    ];

    private ulong _state = (seed * 0x9E37_79B9_7F4A_7C15) | 1;

    public ulong Next()
    {
        _state ^= _state >> 12;
        _state ^= _state << 25;
        _state ^= _state >> 27;
        return _state * 0x2545_F491_4F6C_DD1D;
    }

    /// <summary>0 to <paramref name="count"/> - 1.</summary>
    public int Below(int count) => (int)((Next() >> 32) * (ulong)count >> 32);

    /// <summary>From <paramref name="first"/> to <paramref name="last"/>, both possible.</summary>
    public long Between(long first, long last) => first + (long)((Next() >> 1) % (ulong)(last - first + 1));

    /// <summary>True in so many of a hundred cases.</summary>
    public bool Percent(int percent) => Below(100) < percent;

    public T Pick<T>(IReadOnlyList<T> list) => list[Below(list.Count)];

    /// <summary>An operand: often an edge.</summary>
    public ulong Value() => Below(8) switch
    {
        0 or 1 => Edges[Below(Edges.Length)],
        2 => 1UL << Below(64),
        3 => ~(1UL << Below(64)),
        4 => (ulong)Between(-70, 70),
        5 => Next() >> Below(64),
        _ => Next(),
    };

    /// <summary>Half a vector register: integers, singles or doubles.</summary>
    public ulong VectorValue() => Below(8) switch
    {
        0 or 1 => Floats[Below(Floats.Length)] | ((ulong)Floats[Below(Floats.Length)] << 32),
        2 or 3 => Doubles[Below(Doubles.Length)],
        4 => BitConverter.SingleToUInt32Bits(Between(-1000, 1000) / 8f) | ((ulong)BitConverter.SingleToUInt32Bits(Between(-100_000, 100_000) * 1.37f) << 32),
        5 => BitConverter.DoubleToUInt64Bits(Between(-1_000_000, 1_000_000) / 7.0),
        6 => Value(),
        _ => Next(),
    };
}
