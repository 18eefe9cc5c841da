using System.Numerics;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>What BT, BTS, BTR and BTC do to the tested bit, as a type.</summary>
internal interface IBitOperation
{
    static abstract bool Writes { get; }

    static abstract ulong Run(ulong value, ulong mask);
}

internal struct BitTest : IBitOperation
{
    public static bool Writes => false;

    public static ulong Run(ulong value, ulong mask) => value;
}

internal struct BitSet : IBitOperation
{
    public static bool Writes => true;

    public static ulong Run(ulong value, ulong mask) => value | mask;
}

internal struct BitReset : IBitOperation
{
    public static bool Writes => true;

    public static ulong Run(ulong value, ulong mask) => value & ~mask;
}

internal struct BitComplement : IBitOperation
{
    public static bool Writes => true;

    public static ulong Run(ulong value, ulong mask) => value ^ mask;
}

/// <summary>Handlers of the bit tests. CF takes the bit; the other flags stay, as on processors. A register bit offset into memory is signed and reaches beyond the operand.</summary>
internal static unsafe class Bits<TOperation, TWidth>
    where TOperation : struct, IBitOperation
    where TWidth : struct, IWidth
{
    private static int WidthBits => TWidth.Bytes * 8;

    public static Op* RegisterRegister(CpuState* state, Op* op) =>
        Register(state, op, TWidth.Load(CpuState.Register(state, op->Src)));

    public static Op* RegisterImmediate(CpuState* state, Op* op) => Register(state, op, op->Imm);

    public static Op* MemoryImmediate(CpuState* state, Op* op) => Memory(state, op, 0, op->Imm);

    public static Op* MemoryRegister(CpuState* state, Op* op)
    {
        long bit = TWidth.SignExtend(TWidth.Load(CpuState.Register(state, op->Src)));
        long unit = (bit & ~(long)(WidthBits - 1)) / 8;
        return Memory(state, op, unit, (ulong)bit);
    }

    private static Op* Register(CpuState* state, Op* op, ulong bit)
    {
        byte* operand = CpuState.Register(state, op->Dst);
        ulong mask = 1UL << (int)(bit & (ulong)(WidthBits - 1));
        ulong value = TWidth.Load(operand);
        if (TOperation.Writes)
        {
            TWidth.StoreRegister(operand, TOperation.Run(value, mask));
        }

        LazyFlags.SetCarry(state, (value & mask) != 0);
        return op + 1;
    }

    private static Op* Memory(CpuState* state, Op* op, long distance, ulong bit)
    {
        ulong offset = Addressing.Truncate(OperandAddress.Offset(state, op) + (ulong)distance, op->AddressSize);
        if (!Addressing.TrySegmented(state, op->Segment, offset, TWidth.Bytes, TOperation.Writes, out ulong linear))
        {
            return Flow.Fault(state, op);
        }

        ulong mask = 1UL << (int)(bit & (ulong)(WidthBits - 1));
        if (!TOperation.Writes)
        {
            if (!GuestAccess.Read<TWidth>(state, linear, out ulong tested))
            {
                return Flow.Fault(state, op);
            }

            LazyFlags.SetCarry(state, (tested & mask) != 0);
            return op + 1;
        }

        byte* operand = GuestAccess.BeginModify(state, linear, TWidth.Bytes);
        if (operand == null)
        {
            return Flow.Fault(state, op);
        }

        ulong value = TWidth.Load(operand);
        if ((op->Flags & OpFlags.Lock) == 0)
        {
            TWidth.Store(operand, TOperation.Run(value, mask));
        }
        else
        {
            ulong seen;
            while ((seen = Atomic.CompareExchange<TWidth>(operand, TWidth.Truncate(TOperation.Run(value, mask)), value)) != value)
            {
                value = seen;
            }
        }

        LazyFlags.SetCarry(state, (value & mask) != 0);
        GuestAccess.EndModify(state);
        return op + 1;
    }
}

/// <summary>BSF and BSR: a source of zero sets ZF and leaves the destination as it was.</summary>
internal static unsafe class BitScan<TWidth>
    where TWidth : struct, IWidth
{
    public static Op* ForwardRegister(CpuState* state, Op* op) =>
        Run(state, op, TWidth.Load(CpuState.Register(state, op->Src)), true);

    public static Op* ReverseRegister(CpuState* state, Op* op) =>
        Run(state, op, TWidth.Load(CpuState.Register(state, op->Src)), false);

    public static Op* ForwardMemory(CpuState* state, Op* op) => Memory(state, op, true);

    public static Op* ReverseMemory(CpuState* state, Op* op) => Memory(state, op, false);

    private static Op* Memory(CpuState* state, Op* op, bool forward) =>
        AnyAddress.TryGet(state, op, TWidth.Bytes, false, out ulong linear)
        && GuestAccess.Read<TWidth>(state, linear, out ulong value)
            ? Run(state, op, value, forward)
            : Flow.Fault(state, op);

    private static Op* Run(CpuState* state, Op* op, ulong value, bool forward)
    {
        LazyFlags.Materialize(state);
        if (value == 0)
        {
            state->Flags |= Rflags.Zero;
            return op + 1;
        }

        state->Flags &= ~Rflags.Zero;
        int index = forward ? BitOperations.TrailingZeroCount(value) : 63 - BitOperations.LeadingZeroCount(value);
        TWidth.StoreRegister(CpuState.Register(state, op->Dst), (ulong)index);
        return op + 1;
    }
}
