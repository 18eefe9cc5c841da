using System.Runtime.CompilerServices;

namespace Tutti.Cpu.Interpreter;

/// <summary>One of the 16 conditions of Jcc, SETcc and CMOVcc, as a type.</summary>
internal unsafe interface ICondition
{
    static abstract bool Holds(CpuState* state);

    /// <summary>Whether it holds after CMP, straight from the operands.</summary>
    static abstract bool HoldsAfterCompare<TWidth>(CpuState* state, ulong left, ulong right)
        where TWidth : struct, IWidth;

    /// <summary>Whether it holds after TEST, straight from the result.</summary>
    static abstract bool HoldsAfterTest<TWidth>(CpuState* state, ulong result)
        where TWidth : struct, IWidth;
}

/// <summary>The opposite of a condition: odd condition codes are the even ones negated.</summary>
internal unsafe struct Unless<TCondition> : ICondition
    where TCondition : struct, ICondition
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool Holds(CpuState* state) => !TCondition.Holds(state);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool HoldsAfterCompare<TWidth>(CpuState* state, ulong left, ulong right)
        where TWidth : struct, IWidth => !TCondition.HoldsAfterCompare<TWidth>(state, left, right);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool HoldsAfterTest<TWidth>(CpuState* state, ulong result)
        where TWidth : struct, IWidth => !TCondition.HoldsAfterTest<TWidth>(state, result);
}

internal unsafe struct IfOverflow : ICondition
{
    public static bool Holds(CpuState* state) => LazyFlags.Overflow(state);

    public static bool HoldsAfterCompare<TWidth>(CpuState* state, ulong left, ulong right)
        where TWidth : struct, IWidth => LazyFlags.Overflow(state);

    public static bool HoldsAfterTest<TWidth>(CpuState* state, ulong result)
        where TWidth : struct, IWidth => false;
}

internal unsafe struct IfBelow : ICondition
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool Holds(CpuState* state) => LazyFlags.Carry(state);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool HoldsAfterCompare<TWidth>(CpuState* state, ulong left, ulong right)
        where TWidth : struct, IWidth => left < right;

    public static bool HoldsAfterTest<TWidth>(CpuState* state, ulong result)
        where TWidth : struct, IWidth => false;
}

internal unsafe struct IfZero : ICondition
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool Holds(CpuState* state) => LazyFlags.Zero(state);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool HoldsAfterCompare<TWidth>(CpuState* state, ulong left, ulong right)
        where TWidth : struct, IWidth => left == right;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool HoldsAfterTest<TWidth>(CpuState* state, ulong result)
        where TWidth : struct, IWidth => result == 0;
}

internal unsafe struct IfBelowOrEqual : ICondition
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool Holds(CpuState* state) => LazyFlags.Zero(state) || LazyFlags.Carry(state);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool HoldsAfterCompare<TWidth>(CpuState* state, ulong left, ulong right)
        where TWidth : struct, IWidth => left <= right;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool HoldsAfterTest<TWidth>(CpuState* state, ulong result)
        where TWidth : struct, IWidth => result == 0;
}

internal unsafe struct IfSign : ICondition
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool Holds(CpuState* state) => LazyFlags.Sign(state);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool HoldsAfterCompare<TWidth>(CpuState* state, ulong left, ulong right)
        where TWidth : struct, IWidth => TWidth.SignExtend(left - right) < 0;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool HoldsAfterTest<TWidth>(CpuState* state, ulong result)
        where TWidth : struct, IWidth => TWidth.SignExtend(result) < 0;
}

internal unsafe struct IfParity : ICondition
{
    public static bool Holds(CpuState* state) => LazyFlags.Parity(state);

    public static bool HoldsAfterCompare<TWidth>(CpuState* state, ulong left, ulong right)
        where TWidth : struct, IWidth => LazyFlags.Parity(state);

    public static bool HoldsAfterTest<TWidth>(CpuState* state, ulong result)
        where TWidth : struct, IWidth => LazyFlags.Parity(state);
}

internal unsafe struct IfLess : ICondition
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool Holds(CpuState* state) => LazyFlags.Less(state);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool HoldsAfterCompare<TWidth>(CpuState* state, ulong left, ulong right)
        where TWidth : struct, IWidth => TWidth.SignExtend(left) < TWidth.SignExtend(right);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool HoldsAfterTest<TWidth>(CpuState* state, ulong result)
        where TWidth : struct, IWidth => TWidth.SignExtend(result) < 0;
}

internal unsafe struct IfLessOrEqual : ICondition
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool Holds(CpuState* state) => LazyFlags.Zero(state) || LazyFlags.Less(state);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool HoldsAfterCompare<TWidth>(CpuState* state, ulong left, ulong right)
        where TWidth : struct, IWidth => TWidth.SignExtend(left) <= TWidth.SignExtend(right);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool HoldsAfterTest<TWidth>(CpuState* state, ulong result)
        where TWidth : struct, IWidth => TWidth.SignExtend(result) <= 0;
}
