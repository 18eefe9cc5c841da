using System.Numerics;
using System.Runtime.CompilerServices;
using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>
/// What <see cref="CpuState.FlagKind"/> says of the arithmetic flags: bits 0 and 1 are log2 of the operand's bytes, the rest
/// is one of these. Operands and result are kept zero-extended and the flags computed when somebody asks.
/// </summary>
public static class FlagKind
{
    /// <summary><see cref="CpuState.Flags"/> holds them.</summary>
    public const uint Eager = 0;

    /// <summary>FlagResult = FlagLeft + FlagRight.</summary>
    public const uint Add = 1 << 2;

    /// <summary>FlagResult = FlagLeft - FlagRight.</summary>
    public const uint Subtract = 2 << 2;

    /// <summary>CF, OF and AF are clear.</summary>
    public const uint Logic = 3 << 2;

    /// <summary>FlagResult = something + 1; CF is bit 0 of FlagRight.</summary>
    public const uint Increment = 4 << 2;

    /// <summary>FlagResult = something - 1; CF is bit 0 of FlagRight.</summary>
    public const uint Decrement = 5 << 2;

    /// <summary>ZF, SF and PF follow FlagResult; CF, OF and AF stand in FlagLeft at their places in RFLAGS.</summary>
    public const uint Mixed = 6 << 2;
}

/// <summary>Computes arithmetic flags from the last operation that set them.</summary>
public static unsafe class LazyFlags
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Set<TWidth>(CpuState* state, uint kind, ulong result, ulong left, ulong right)
        where TWidth : struct, IWidth
    {
        state->FlagResult = result;
        state->FlagLeft = left;
        state->FlagRight = right;
        state->FlagKind = kind | WidthCode<TWidth>();
    }

    /// <summary>Log2 of the width in bytes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static uint WidthCode<TWidth>()
        where TWidth : struct, IWidth => TWidth.Bytes switch { 1 => 0, 2 => 1, 4 => 2, _ => 3 };

    /// <summary>Stores CF, OF and AF as given and derives the others from the result.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void SetMixed<TWidth>(CpuState* state, ulong result, ulong carryOverflowAdjust)
        where TWidth : struct, IWidth
    {
        state->FlagResult = result;
        state->FlagLeft = carryOverflowAdjust;
        state->FlagKind = FlagKind.Mixed | WidthCode<TWidth>();
    }

    /// <summary>Replaces CF and OF and keeps the rest, without computing what nobody asked for.</summary>
    public static void SetCarryOverflow(CpuState* state, bool carry, bool overflow)
    {
        ulong flags = (carry ? Rflags.Carry : 0) | (overflow ? Rflags.Overflow : 0);
        uint kind = state->FlagKind;
        if (kind == FlagKind.Eager)
        {
            state->Flags = (state->Flags & ~(Rflags.Carry | Rflags.Overflow)) | flags;
            return;
        }

        // ZF, SF and PF go on following FlagResult, whatever kind it came from.
        state->FlagLeft = flags | (Adjust(state) ? Rflags.Adjust : 0);
        state->FlagKind = FlagKind.Mixed | (kind & 3);
    }

    /// <summary>Replaces the bits of RFLAGS under the mask.</summary>
    public static void Replace(CpuState* state, ulong flags, ulong mask)
    {
        ulong current = Get(state);
        state->Flags = ((current & ~mask) | (flags & mask) | Rflags.AlwaysOne) & Rflags.Defined;
        state->FlagKind = FlagKind.Eager;
    }

    /// <summary>Replaces CF and keeps the rest.</summary>
    public static void SetCarry(CpuState* state, bool carry)
    {
        if (state->FlagKind == FlagKind.Eager)
        {
            state->Flags = carry ? state->Flags | Rflags.Carry : state->Flags & ~Rflags.Carry;
            return;
        }

        SetCarryOverflow(state, carry, Overflow(state));
    }

    /// <summary>All of RFLAGS, up to date.</summary>
    public static ulong Get(CpuState* state)
    {
        Materialize(state);
        return state->Flags;
    }

    /// <summary>Replaces the six arithmetic flags.</summary>
    public static void SetArithmetic(CpuState* state, ulong flags)
    {
        state->Flags = (state->Flags & ~Rflags.Arithmetic) | (flags & Rflags.Arithmetic);
        state->FlagKind = FlagKind.Eager;
    }

    /// <summary>Brings the arithmetic bits of <see cref="CpuState.Flags"/> up to date.</summary>
    public static void Materialize(CpuState* state)
    {
        if (state->FlagKind != FlagKind.Eager)
        {
            SetArithmetic(state, Arithmetic(state));
        }
    }

    /// <summary>The six arithmetic flags at their places.</summary>
    public static ulong Arithmetic(CpuState* state)
    {
        if (state->FlagKind == FlagKind.Eager)
        {
            return state->Flags & Rflags.Arithmetic;
        }

        return (Carry(state) ? Rflags.Carry : 0)
            | (Parity(state) ? Rflags.Parity : 0)
            | (Adjust(state) ? Rflags.Adjust : 0)
            | (Zero(state) ? Rflags.Zero : 0)
            | (Sign(state) ? Rflags.Sign : 0)
            | (Overflow(state) ? Rflags.Overflow : 0);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool Zero(CpuState* state) =>
        state->FlagKind != FlagKind.Eager ? state->FlagResult == 0 : (state->Flags & Rflags.Zero) != 0;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool Sign(CpuState* state) =>
        state->FlagKind != FlagKind.Eager
            ? (state->FlagResult & SignBit(state->FlagKind)) != 0
            : (state->Flags & Rflags.Sign) != 0;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool Carry(CpuState* state) => (state->FlagKind & ~3u) switch
    {
        FlagKind.Subtract => state->FlagLeft < state->FlagRight,
        FlagKind.Logic => false,
        FlagKind.Add => state->FlagResult < state->FlagLeft,
        FlagKind.Increment or FlagKind.Decrement => (state->FlagRight & 1) != 0,
        FlagKind.Mixed => (state->FlagLeft & Rflags.Carry) != 0,
        _ => (state->Flags & Rflags.Carry) != 0,
    };

    public static bool Overflow(CpuState* state)
    {
        uint kind = state->FlagKind;
        ulong sign = SignBit(kind);
        switch (kind & ~3u)
        {
            case FlagKind.Subtract:
                return ((state->FlagLeft ^ state->FlagRight) & (state->FlagLeft ^ state->FlagResult) & sign) != 0;
            case FlagKind.Logic:
                return false;
            case FlagKind.Add:
                return ((state->FlagLeft ^ state->FlagResult) & (state->FlagRight ^ state->FlagResult) & sign) != 0;
            case FlagKind.Increment:
                return state->FlagResult == sign;
            case FlagKind.Decrement:
                return state->FlagResult == sign - 1;
            case FlagKind.Mixed:
                return (state->FlagLeft & Rflags.Overflow) != 0;
            default:
                return (state->Flags & Rflags.Overflow) != 0;
        }
    }

    public static bool Adjust(CpuState* state)
    {
        switch (state->FlagKind & ~3u)
        {
            case FlagKind.Subtract or FlagKind.Add:
                return ((state->FlagLeft ^ state->FlagRight ^ state->FlagResult) & 0x10) != 0;
            case FlagKind.Logic:
                return false;
            case FlagKind.Increment:
                return (state->FlagResult & 0xF) == 0;
            case FlagKind.Decrement:
                return (state->FlagResult & 0xF) == 0xF;
            case FlagKind.Mixed:
                return (state->FlagLeft & Rflags.Adjust) != 0;
            default:
                return (state->Flags & Rflags.Adjust) != 0;
        }
    }

    public static bool Parity(CpuState* state) =>
        state->FlagKind != FlagKind.Eager
            ? (BitOperations.PopCount((byte)state->FlagResult) & 1) == 0
            : (state->Flags & Rflags.Parity) != 0;

    /// <summary>SF differs from OF.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool Less(CpuState* state)
    {
        uint kind = state->FlagKind;
        if ((kind & ~3u) == FlagKind.Subtract)
        {
            int shift = 64 - (8 << (int)(kind & 3));
            return (long)(state->FlagLeft << shift) < (long)(state->FlagRight << shift);
        }

        return Sign(state) != Overflow(state);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong SignBit(uint kind) => 1UL << ((8 << (int)(kind & 3)) - 1);
}
