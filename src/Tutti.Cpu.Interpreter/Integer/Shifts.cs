using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>A shift or rotate, as a type. The count is cut to 5 bits (6 for 64-bit operands) and not 0.</summary>
internal unsafe interface IShiftOperation
{
    static abstract ulong Run<TWidth>(CpuState* state, ulong value, int count)
        where TWidth : struct, IWidth;
}

internal unsafe struct ShiftLeft : IShiftOperation
{
    public static ulong Run<TWidth>(CpuState* state, ulong value, int count)
        where TWidth : struct, IWidth
    {
        int bits = TWidth.Bytes * 8;
        ulong result = TWidth.Truncate(value << count);
        bool carry = count <= bits && ((value >> (bits - count)) & 1) != 0;
        bool sign = ((result >> (bits - 1)) & 1) != 0;
        LazyFlags.SetMixed<TWidth>(state, result, (carry ? Rflags.Carry : 0) | (carry != sign ? Rflags.Overflow : 0));
        return result;
    }
}

internal unsafe struct ShiftRight : IShiftOperation
{
    public static ulong Run<TWidth>(CpuState* state, ulong value, int count)
        where TWidth : struct, IWidth
    {
        int bits = TWidth.Bytes * 8;
        ulong result = value >> count;
        bool carry = ((value >> (count - 1)) & 1) != 0;

        // Defined for a shift by one only: the operand's top bit, which is the xor of the result's two top bits.
        bool overflow = (((result >> (bits - 1)) ^ (result >> (bits - 2))) & 1) != 0;
        LazyFlags.SetMixed<TWidth>(state, result, (carry ? Rflags.Carry : 0) | (overflow ? Rflags.Overflow : 0));
        return result;
    }
}

internal unsafe struct ShiftRightArithmetic : IShiftOperation
{
    public static ulong Run<TWidth>(CpuState* state, ulong value, int count)
        where TWidth : struct, IWidth
    {
        long signed = TWidth.SignExtend(value);
        ulong result = TWidth.Truncate((ulong)(signed >> count));
        bool carry = ((signed >> (count - 1)) & 1) != 0;
        LazyFlags.SetMixed<TWidth>(state, result, carry ? Rflags.Carry : 0);
        return result;
    }
}

internal unsafe struct RotateLeft : IShiftOperation
{
    public static ulong Run<TWidth>(CpuState* state, ulong value, int count)
        where TWidth : struct, IWidth
    {
        int bits = TWidth.Bytes * 8;
        int turn = count & (bits - 1);
        ulong result = turn == 0 ? value : TWidth.Truncate((value << turn) | (value >> (bits - turn)));
        bool carry = (result & 1) != 0;
        bool sign = ((result >> (bits - 1)) & 1) != 0;
        LazyFlags.SetCarryOverflow(state, carry, carry != sign);
        return result;
    }
}

internal unsafe struct RotateRight : IShiftOperation
{
    public static ulong Run<TWidth>(CpuState* state, ulong value, int count)
        where TWidth : struct, IWidth
    {
        int bits = TWidth.Bytes * 8;
        int turn = count & (bits - 1);
        ulong result = turn == 0 ? value : TWidth.Truncate((value >> turn) | (value << (bits - turn)));
        bool carry = ((result >> (bits - 1)) & 1) != 0;
        bool next = ((result >> (bits - 2)) & 1) != 0;
        LazyFlags.SetCarryOverflow(state, carry, carry != next);
        return result;
    }
}

internal unsafe struct RotateCarryLeft : IShiftOperation
{
    public static ulong Run<TWidth>(CpuState* state, ulong value, int count)
        where TWidth : struct, IWidth
    {
        int bits = TWidth.Bytes * 8;
        bool carry = LazyFlags.Carry(state);
        int turn = bits < 32 ? count % (bits + 1) : count;
        if (turn == 0)
        {
            // All the way round: as with a count of 0, no flag changes, OF neither.
            return value;
        }

        for (int i = 0; i < turn; i++)
        {
            bool top = ((value >> (bits - 1)) & 1) != 0;
            value = TWidth.Truncate((value << 1) | (carry ? 1UL : 0));
            carry = top;
        }

        bool sign = ((value >> (bits - 1)) & 1) != 0;
        LazyFlags.SetCarryOverflow(state, carry, carry != sign);
        return value;
    }
}

internal unsafe struct RotateCarryRight : IShiftOperation
{
    public static ulong Run<TWidth>(CpuState* state, ulong value, int count)
        where TWidth : struct, IWidth
    {
        int bits = TWidth.Bytes * 8;
        bool carry = LazyFlags.Carry(state);
        int turn = bits < 32 ? count % (bits + 1) : count;
        if (turn == 0)
        {
            // All the way round: as with a count of 0, no flag changes, OF neither.
            return value;
        }

        for (int i = 0; i < turn; i++)
        {
            bool low = (value & 1) != 0;
            value = (value >> 1) | (carry ? 1UL << (bits - 1) : 0);
            carry = low;
        }

        bool overflow = (((value >> (bits - 1)) ^ (value >> (bits - 2))) & 1) != 0;
        LazyFlags.SetCarryOverflow(state, carry, overflow);
        return value;
    }
}

/// <summary>The handlers of a shift: the count is an immediate (cut at translation) or CL.</summary>
internal static unsafe class Shift<TOperation, TWidth>
    where TOperation : struct, IShiftOperation
    where TWidth : struct, IWidth
{
    public static Op* RegisterImmediate(CpuState* state, Op* op) => Register(state, op, (int)op->Imm);

    public static Op* RegisterCl(CpuState* state, Op* op) => Register(state, op, CountInCl(state));

    public static Op* MemoryImmediate(CpuState* state, Op* op) => Memory(state, op, (int)op->Imm);

    public static Op* MemoryCl(CpuState* state, Op* op) => Memory(state, op, CountInCl(state));

    private static int CountInCl(CpuState* state) => (int)state->Gpr[1] & (TWidth.Bytes == 8 ? 63 : 31);

    private static Op* Register(CpuState* state, Op* op, int count)
    {
        byte* operand = CpuState.Register(state, op->Dst);
        ulong value = TWidth.Load(operand);
        TWidth.StoreRegister(operand, count == 0 ? value : TOperation.Run<TWidth>(state, value, count));
        return op + 1;
    }

    private static Op* Memory(CpuState* state, Op* op, int count)
    {
        byte* operand = OperandAddress.BeginModify(state, op, TWidth.Bytes);
        if (operand == null)
        {
            return Flow.Fault(state, op);
        }

        ulong value = TWidth.Load(operand);
        TWidth.Store(operand, count == 0 ? value : TOperation.Run<TWidth>(state, value, count));
        GuestAccess.EndModify(state);
        return op + 1;
    }
}

/// <summary>SHLD and SHRD. Aux is 1 when the count is in CL, else it is Imm.</summary>
internal static unsafe class DoubleShift<TWidth>
    where TWidth : struct, IWidth
{
    public static Op* LeftRegister(CpuState* state, Op* op) => Register(state, op, true);

    public static Op* RightRegister(CpuState* state, Op* op) => Register(state, op, false);

    public static Op* LeftMemory(CpuState* state, Op* op) => Memory(state, op, true);

    public static Op* RightMemory(CpuState* state, Op* op) => Memory(state, op, false);

    private static Op* Register(CpuState* state, Op* op, bool left)
    {
        byte* operand = CpuState.Register(state, op->Dst);
        TWidth.StoreRegister(operand, Run(state, op, TWidth.Load(operand), left));
        return op + 1;
    }

    private static Op* Memory(CpuState* state, Op* op, bool left)
    {
        byte* operand = OperandAddress.BeginModify(state, op, TWidth.Bytes);
        if (operand == null)
        {
            return Flow.Fault(state, op);
        }

        TWidth.Store(operand, Run(state, op, TWidth.Load(operand), left));
        GuestAccess.EndModify(state);
        return op + 1;
    }

    private static ulong Run(CpuState* state, Op* op, ulong value, bool left)
    {
        int bits = TWidth.Bytes * 8;
        int count = (op->Aux == 1 ? (int)state->Gpr[1] : (int)op->Imm) & (bits == 64 ? 63 : 31);
        if (count == 0)
        {
            return value;
        }

        ulong filler = TWidth.Load(CpuState.Register(state, op->Src));

        // 16-bit operands shifted by more than 16 are undefined; processors go on with the destination's bits again.
        UInt128 wide = ((UInt128)value << (2 * bits)) | ((UInt128)filler << bits) | value;
        ulong result;
        bool carry;
        if (bits == 64)
        {
            result = left ? (value << count) | (filler >> (64 - count)) : (value >> count) | (filler << (64 - count));
            carry = left ? ((value >> (64 - count)) & 1) != 0 : ((value >> (count - 1)) & 1) != 0;
        }
        else if (left)
        {
            result = TWidth.Truncate((ulong)(wide >> ((2 * bits) - count)));
            carry = ((ulong)(wide >> ((3 * bits) - count)) & 1) != 0;
        }
        else
        {
            result = TWidth.Truncate((ulong)(wide >> count));
            carry = ((ulong)(wide >> (count - 1)) & 1) != 0;
        }

        bool overflow = (((result ^ value) >> (bits - 1)) & 1) != 0;
        LazyFlags.SetMixed<TWidth>(state, result, (carry ? Rflags.Carry : 0) | (overflow ? Rflags.Overflow : 0));
        return result;
    }
}
