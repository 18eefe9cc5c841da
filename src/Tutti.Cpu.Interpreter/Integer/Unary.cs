using System.Buffers.Binary;
using System.Runtime.CompilerServices;

namespace Tutti.Cpu.Interpreter;

/// <summary>A one-operand operation, as a type.</summary>
internal unsafe interface IUnaryOperation
{
    static abstract ulong Run<TWidth>(CpuState* state, ulong value)
        where TWidth : struct, IWidth;
}

internal unsafe struct Increment : IUnaryOperation
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Run<TWidth>(CpuState* state, ulong value)
        where TWidth : struct, IWidth
    {
        ulong carry = LazyFlags.Carry(state) ? 1UL : 0;
        ulong result = TWidth.Truncate(value + 1);
        LazyFlags.Set<TWidth>(state, FlagKind.Increment, result, 0, carry);
        return result;
    }
}

internal unsafe struct Decrement : IUnaryOperation
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Run<TWidth>(CpuState* state, ulong value)
        where TWidth : struct, IWidth
    {
        ulong carry = LazyFlags.Carry(state) ? 1UL : 0;
        ulong result = TWidth.Truncate(value - 1);
        LazyFlags.Set<TWidth>(state, FlagKind.Decrement, result, 0, carry);
        return result;
    }
}

internal unsafe struct Negate : IUnaryOperation
{
    public static ulong Run<TWidth>(CpuState* state, ulong value)
        where TWidth : struct, IWidth => Subtract.Run<TWidth>(state, 0, value);
}

internal unsafe struct Not : IUnaryOperation
{
    public static ulong Run<TWidth>(CpuState* state, ulong value)
        where TWidth : struct, IWidth => TWidth.Truncate(~value);
}

/// <summary>The handlers of a one-operand operation.</summary>
internal static unsafe class Unary<TOperation, TWidth>
    where TOperation : struct, IUnaryOperation
    where TWidth : struct, IWidth
{
    public static Op* Register(CpuState* state, Op* op)
    {
        byte* operand = CpuState.Register(state, op->Dst);
        TWidth.StoreRegister(operand, TOperation.Run<TWidth>(state, TWidth.Load(operand)));
        return op + 1;
    }

    public static Op* Memory<TAddress>(CpuState* state, Op* op)
        where TAddress : struct, IAddress
    {
        if (!TAddress.TryGet(state, op, TWidth.Bytes, true, out ulong linear))
        {
            return Flow.Fault(state, op);
        }

        byte* operand = GuestAccess.BeginModify(state, linear, TWidth.Bytes);
        if (operand == null)
        {
            return Flow.Fault(state, op);
        }

        TWidth.Store(operand, TOperation.Run<TWidth>(state, TWidth.Load(operand)));
        GuestAccess.EndModify(state);
        return op + 1;
    }

    public static Op* Locked(CpuState* state, Op* op)
    {
        byte* operand = OperandAddress.BeginModify(state, op, TWidth.Bytes);
        if (operand == null)
        {
            return Flow.Fault(state, op);
        }

        LazyFlags.Materialize(state);
        ulong flags = state->Flags;
        while (true)
        {
            ulong value = TWidth.Load(operand);
            ulong result = TOperation.Run<TWidth>(state, value);
            if (Atomic.CompareExchange<TWidth>(operand, result, value) == value)
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

/// <summary>One-operand oddities of registers.</summary>
internal static unsafe class RegisterOperations
{
    public static Op* ByteSwap32(CpuState* state, Op* op)
    {
        byte* operand = CpuState.Register(state, op->Dst);
        W32.StoreRegister(operand, BinaryPrimitives.ReverseEndianness(*(uint*)operand));
        return op + 1;
    }

    public static Op* ByteSwap64(CpuState* state, Op* op)
    {
        byte* operand = CpuState.Register(state, op->Dst);
        *(ulong*)operand = BinaryPrimitives.ReverseEndianness(*(ulong*)operand);
        return op + 1;
    }

    /// <summary>BSWAP of a 16-bit register is undefined; processors clear it.</summary>
    public static Op* ByteSwap16(CpuState* state, Op* op)
    {
        *(ushort*)CpuState.Register(state, op->Dst) = 0;
        return op + 1;
    }

    /// <summary>CBW, CWDE, CDQE: RAX from its lower half. <typeparamref name="TWidth"/> is the result's.</summary>
    public static Op* ExtendAccumulator<TWidth>(CpuState* state, Op* op)
        where TWidth : struct, IWidth
    {
        byte* rax = (byte*)state->Gpr;
        long value = TWidth.Bytes switch { 2 => *(sbyte*)rax, 4 => *(short*)rax, _ => *(int*)rax };
        TWidth.StoreRegister(rax, TWidth.Truncate((ulong)value));
        return op + 1;
    }

    /// <summary>CWD, CDQ, CQO: RDX from the sign of RAX.</summary>
    public static Op* ExtendIntoData<TWidth>(CpuState* state, Op* op)
        where TWidth : struct, IWidth
    {
        long sign = TWidth.SignExtend(state->Gpr[0]) >> 63;
        TWidth.StoreRegister((byte*)(state->Gpr + 2), TWidth.Truncate((ulong)sign));
        return op + 1;
    }
}
