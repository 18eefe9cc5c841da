using System.Runtime.CompilerServices;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>A two-operand operation that sets flags, as a type.</summary>
internal unsafe interface IAluOperation
{
    /// <summary>Whether the result goes to the destination (not for CMP and TEST).</summary>
    static abstract bool Writes { get; }

    /// <summary>Sets the flags and returns the result, cut to the width.</summary>
    static abstract ulong Run<TWidth>(CpuState* state, ulong left, ulong right)
        where TWidth : struct, IWidth;
}

internal unsafe struct Add : IAluOperation
{
    public static bool Writes => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Run<TWidth>(CpuState* state, ulong left, ulong right)
        where TWidth : struct, IWidth
    {
        ulong result = TWidth.Truncate(left + right);
        LazyFlags.Set<TWidth>(state, FlagKind.Add, result, left, right);
        return result;
    }
}

internal unsafe struct Subtract : IAluOperation
{
    public static bool Writes => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Run<TWidth>(CpuState* state, ulong left, ulong right)
        where TWidth : struct, IWidth
    {
        ulong result = TWidth.Truncate(left - right);
        LazyFlags.Set<TWidth>(state, FlagKind.Subtract, result, left, right);
        return result;
    }
}

internal unsafe struct Compare : IAluOperation
{
    public static bool Writes => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Run<TWidth>(CpuState* state, ulong left, ulong right)
        where TWidth : struct, IWidth => Subtract.Run<TWidth>(state, left, right);
}

internal unsafe struct And : IAluOperation
{
    public static bool Writes => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Run<TWidth>(CpuState* state, ulong left, ulong right)
        where TWidth : struct, IWidth => Logic.Result<TWidth>(state, left & right);
}

internal unsafe struct Test : IAluOperation
{
    public static bool Writes => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Run<TWidth>(CpuState* state, ulong left, ulong right)
        where TWidth : struct, IWidth => Logic.Result<TWidth>(state, left & right);
}

internal unsafe struct Or : IAluOperation
{
    public static bool Writes => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Run<TWidth>(CpuState* state, ulong left, ulong right)
        where TWidth : struct, IWidth => Logic.Result<TWidth>(state, left | right);
}

internal unsafe struct Xor : IAluOperation
{
    public static bool Writes => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Run<TWidth>(CpuState* state, ulong left, ulong right)
        where TWidth : struct, IWidth => Logic.Result<TWidth>(state, left ^ right);
}

/// <summary>Flags of ADC and SBB without a branch: in long arithmetic they are as good as random.</summary>
internal static class CarryChain
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Bit(bool carry) => carry ? 1UL : 0;

    /// <summary>CF, OF and AF.</summary>
    /// <param name="overflow">OF stands in the operand's sign bit.</param>
    /// <param name="adjust">AF stands in bit 4.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Flags<TWidth>(bool carry, ulong overflow, ulong adjust)
        where TWidth : struct, IWidth
    {
        const int OverflowBit = 11;
        return Bit(carry) | ((overflow >> ((TWidth.Bytes * 8) - 1) << OverflowBit) & Rflags.Overflow) | (adjust & Rflags.Adjust);
    }
}

internal unsafe struct AddWithCarry : IAluOperation
{
    public static bool Writes => true;

    public static ulong Run<TWidth>(CpuState* state, ulong left, ulong right)
        where TWidth : struct, IWidth
    {
        bool carryIn = LazyFlags.Carry(state);
        ulong result = TWidth.Truncate(left + right + CarryChain.Bit(carryIn));
        LazyFlags.SetMixed<TWidth>(
            state,
            result,
            CarryChain.Flags<TWidth>((result < left) | (carryIn & (result == left)), (left ^ result) & (right ^ result), left ^ right ^ result));
        return result;
    }
}

internal unsafe struct SubtractWithBorrow : IAluOperation
{
    public static bool Writes => true;

    public static ulong Run<TWidth>(CpuState* state, ulong left, ulong right)
        where TWidth : struct, IWidth
    {
        bool carryIn = LazyFlags.Carry(state);
        ulong result = TWidth.Truncate(left - right - CarryChain.Bit(carryIn));
        LazyFlags.SetMixed<TWidth>(
            state,
            result,
            CarryChain.Flags<TWidth>((left < right) | (carryIn & (left == right)), (left ^ right) & (left ^ result), left ^ right ^ result));
        return result;
    }
}

internal static unsafe class Logic
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Result<TWidth>(CpuState* state, ulong result)
        where TWidth : struct, IWidth
    {
        LazyFlags.Set<TWidth>(state, FlagKind.Logic, result, 0, 0);
        return result;
    }
}

/// <summary>The handlers of a two-operand operation.</summary>
internal static unsafe class Alu<TOperation, TWidth>
    where TOperation : struct, IAluOperation
    where TWidth : struct, IWidth
{
    public static Op* RegisterRegister(CpuState* state, Op* op)
    {
        byte* destination = CpuState.Register(state, op->Dst);
        ulong result = TOperation.Run<TWidth>(state, TWidth.Load(destination), TWidth.Load(CpuState.Register(state, op->Src)));
        if (TOperation.Writes)
        {
            TWidth.StoreRegister(destination, result);
        }

        return op + 1;
    }

    public static Op* RegisterImmediate(CpuState* state, Op* op)
    {
        byte* destination = CpuState.Register(state, op->Dst);
        ulong result = TOperation.Run<TWidth>(state, TWidth.Load(destination), op->Imm);
        if (TOperation.Writes)
        {
            TWidth.StoreRegister(destination, result);
        }

        return op + 1;
    }

    public static Op* RegisterMemory<TAddress>(CpuState* state, Op* op)
        where TAddress : struct, IAddress
    {
        if (!TAddress.TryGet(state, op, TWidth.Bytes, false, out ulong linear)
            || !GuestAccess.Read<TWidth>(state, linear, out ulong right))
        {
            return Flow.Fault(state, op);
        }

        byte* destination = CpuState.Register(state, op->Dst);
        ulong result = TOperation.Run<TWidth>(state, TWidth.Load(destination), right);
        if (TOperation.Writes)
        {
            TWidth.StoreRegister(destination, result);
        }

        return op + 1;
    }

    public static Op* MemoryRegister<TAddress>(CpuState* state, Op* op)
        where TAddress : struct, IAddress =>
        Memory<TAddress>(state, op, TWidth.Load(CpuState.Register(state, op->Src)));

    public static Op* MemoryImmediate<TAddress>(CpuState* state, Op* op)
        where TAddress : struct, IAddress => Memory<TAddress>(state, op, op->Imm);

    public static Op* LockedMemoryRegister(CpuState* state, Op* op) =>
        Locked(state, op, TWidth.Load(CpuState.Register(state, op->Src)));

    public static Op* LockedMemoryImmediate(CpuState* state, Op* op) => Locked(state, op, op->Imm);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Op* Memory<TAddress>(CpuState* state, Op* op, ulong right)
        where TAddress : struct, IAddress
    {
        if (!TAddress.TryGet(state, op, TWidth.Bytes, TOperation.Writes, out ulong linear))
        {
            return Flow.Fault(state, op);
        }

        if (!TOperation.Writes)
        {
            if (!GuestAccess.Read<TWidth>(state, linear, out ulong left))
            {
                return Flow.Fault(state, op);
            }

            TOperation.Run<TWidth>(state, left, right);
            return op + 1;
        }

        byte* operand = GuestAccess.BeginModify(state, linear, TWidth.Bytes);
        if (operand == null)
        {
            return Flow.Fault(state, op);
        }

        TWidth.Store(operand, TOperation.Run<TWidth>(state, TWidth.Load(operand), right));
        GuestAccess.EndModify(state);
        return op + 1;
    }

    private static Op* Locked(CpuState* state, Op* op, ulong right)
    {
        byte* operand = OperandAddress.BeginModify(state, op, TWidth.Bytes);
        if (operand == null)
        {
            return Flow.Fault(state, op);
        }

        // ADC and SBB read the carry, which a lost race must not have changed.
        LazyFlags.Materialize(state);
        ulong flags = state->Flags;
        while (true)
        {
            ulong left = TWidth.Load(operand);
            ulong result = TOperation.Run<TWidth>(state, left, right);
            if (Atomic.CompareExchange<TWidth>(operand, result, left) == left)
            {
                break;
            }

            state->Flags = flags;
            state->FlagKind = FlagKind.Eager;
        }

        GuestAccess.EndModify(state);
        return op + 1;
    }
}
