using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>Instructions that work on the arithmetic flags and DF.</summary>
internal static unsafe class FlagOperations
{
    private const ulong InAh = Rflags.Sign | Rflags.Zero | Rflags.Adjust | Rflags.Parity | Rflags.Carry;

    public static Op* ClearCarry(CpuState* state, Op* op)
    {
        LazyFlags.SetCarry(state, false);
        return op + 1;
    }

    public static Op* SetCarry(CpuState* state, Op* op)
    {
        LazyFlags.SetCarry(state, true);
        return op + 1;
    }

    public static Op* ComplementCarry(CpuState* state, Op* op)
    {
        LazyFlags.SetCarry(state, !LazyFlags.Carry(state));
        return op + 1;
    }

    public static Op* ClearDirection(CpuState* state, Op* op)
    {
        state->Flags &= ~Rflags.Direction;
        return op + 1;
    }

    public static Op* SetDirection(CpuState* state, Op* op)
    {
        state->Flags |= Rflags.Direction;
        return op + 1;
    }

    public static Op* LoadAh(CpuState* state, Op* op)
    {
        ((byte*)state->Gpr)[1] = (byte)((LazyFlags.Get(state) & InAh) | Rflags.AlwaysOne);
        return op + 1;
    }

    public static Op* StoreAh(CpuState* state, Op* op)
    {
        LazyFlags.Materialize(state);
        state->Flags = (state->Flags & ~InAh) | (((byte*)state->Gpr)[1] & InAh);
        return op + 1;
    }

    /// <summary>SALC, undocumented: AL = CF ? FF : 00.</summary>
    public static Op* SetAlFromCarry(CpuState* state, Op* op)
    {
        *(byte*)state->Gpr = LazyFlags.Carry(state) ? (byte)0xFF : (byte)0;
        return op + 1;
    }

    public static Op* Nothing(CpuState* state, Op* op) => op + 1;
}

/// <summary>Decimal adjustments, outside 64-bit mode. Source: Intel SDM volume 2, their pseudocode.</summary>
internal static unsafe class DecimalAdjust
{
    public static Op* AfterAddition(CpuState* state, Op* op) => Packed(state, op, true);

    public static Op* AfterSubtraction(CpuState* state, Op* op) => Packed(state, op, false);

    public static Op* AsciiAfterAddition(CpuState* state, Op* op) => Unpacked(state, op, true);

    public static Op* AsciiAfterSubtraction(CpuState* state, Op* op) => Unpacked(state, op, false);

    public static Op* AsciiAfterMultiply(CpuState* state, Op* op)
    {
        byte divisor = (byte)op->Imm;
        if (divisor == 0)
        {
            return Flow.Raise(state, op, ExceptionVector.DivideError);
        }

        byte* al = (byte*)state->Gpr;
        al[1] = (byte)(*al / divisor);
        *al = (byte)(*al % divisor);
        LazyFlags.SetMixed<W8>(state, *al, 0);
        return op + 1;
    }

    public static Op* AsciiBeforeDivision(CpuState* state, Op* op)
    {
        byte* al = (byte*)state->Gpr;
        *al = (byte)(*al + (al[1] * (byte)op->Imm));
        al[1] = 0;
        LazyFlags.SetMixed<W8>(state, *al, 0);
        return op + 1;
    }

    private static Op* Packed(CpuState* state, Op* op, bool add)
    {
        byte* al = (byte*)state->Gpr;
        byte old = *al;
        bool oldCarry = LazyFlags.Carry(state);
        bool adjust = (old & 0xF) > 9 || LazyFlags.Adjust(state);
        int value = old;
        bool carry = false;
        if (adjust)
        {
            value = add ? value + 6 : value - 6;
            carry = oldCarry || value is < 0 or > 0xFF;
        }

        if (old > 0x99 || oldCarry)
        {
            value = add ? value + 0x60 : value - 0x60;
            carry = true;
        }

        *al = (byte)value;
        LazyFlags.SetMixed<W8>(state, *al, (carry ? Rflags.Carry : 0) | (adjust ? Rflags.Adjust : 0));
        return op + 1;
    }

    private static Op* Unpacked(CpuState* state, Op* op, bool add)
    {
        ushort* ax = (ushort*)state->Gpr;
        bool adjust = (*ax & 0xF) > 9 || LazyFlags.Adjust(state);
        if (adjust)
        {
            // The processor adds to AX as a whole when it adjusts upwards, and to AH apart when downwards.
            *ax = add ? (ushort)(*ax + 0x106) : (ushort)(*ax - 6 - 0x100);
        }

        *ax = (ushort)(*ax & 0xFF0F);
        LazyFlags.SetMixed<W8>(state, (byte)*ax, adjust ? Rflags.Carry | Rflags.Adjust : 0);
        return op + 1;
    }
}
