using System.Runtime.CompilerServices;

namespace Tutti.Cpu.Interpreter;

/// <summary>MOV, LEA and XLAT.</summary>
internal static unsafe class Move<TWidth>
    where TWidth : struct, IWidth
{
    public static Op* RegisterRegister(CpuState* state, Op* op)
    {
        TWidth.StoreRegister(CpuState.Register(state, op->Dst), TWidth.Load(CpuState.Register(state, op->Src)));
        return op + 1;
    }

    public static Op* RegisterImmediate(CpuState* state, Op* op)
    {
        TWidth.StoreRegister(CpuState.Register(state, op->Dst), op->Imm);
        return op + 1;
    }

    public static Op* RegisterMemory<TAddress>(CpuState* state, Op* op)
        where TAddress : struct, IAddress
    {
        if (!TAddress.TryGet(state, op, TWidth.Bytes, false, out ulong linear)
            || !GuestAccess.Read<TWidth>(state, linear, out ulong value))
        {
            return Flow.Fault(state, op);
        }

        TWidth.StoreRegister(CpuState.Register(state, op->Dst), value);
        return op + 1;
    }

    public static Op* MemoryRegister<TAddress>(CpuState* state, Op* op)
        where TAddress : struct, IAddress =>
        TAddress.TryGet(state, op, TWidth.Bytes, true, out ulong linear)
        && GuestAccess.Write<TWidth>(state, linear, TWidth.Load(CpuState.Register(state, op->Src)))
            ? op + 1
            : Flow.Fault(state, op);

    public static Op* MemoryImmediate<TAddress>(CpuState* state, Op* op)
        where TAddress : struct, IAddress =>
        TAddress.TryGet(state, op, TWidth.Bytes, true, out ulong linear)
        && GuestAccess.Write<TWidth>(state, linear, op->Imm)
            ? op + 1
            : Flow.Fault(state, op);

    /// <summary>MOV with a 64-bit absolute address, which stands in Imm.</summary>
    public static Op* AccumulatorAbsolute(CpuState* state, Op* op)
    {
        if (!GuestAccess.Read<TWidth>(state, Addressing.SegmentBase64(state, op->Segment) + op->Imm, out ulong value))
        {
            return Flow.Fault(state, op);
        }

        TWidth.StoreRegister((byte*)state->Gpr, value);
        return op + 1;
    }

    public static Op* AbsoluteAccumulator(CpuState* state, Op* op) =>
        GuestAccess.Write<TWidth>(state, Addressing.SegmentBase64(state, op->Segment) + op->Imm, TWidth.Load((byte*)state->Gpr))
            ? op + 1
            : Flow.Fault(state, op);

    /// <summary>LEA with a 64-bit address size.</summary>
    public static Op* Address(CpuState* state, Op* op)
    {
        TWidth.StoreRegister(CpuState.Register(state, op->Dst), OperandAddress.Offset(state, op));
        return op + 1;
    }

    /// <summary>LEA with a shorter address size.</summary>
    public static Op* ShortAddress(CpuState* state, Op* op)
    {
        TWidth.StoreRegister(CpuState.Register(state, op->Dst), Addressing.Truncate(OperandAddress.Offset(state, op), op->AddressSize));
        return op + 1;
    }
}

/// <summary>MOVZX.</summary>
internal static unsafe class MoveZeroExtended<TTo, TFrom>
    where TTo : struct, IWidth
    where TFrom : struct, IWidth
{
    public static Op* Register(CpuState* state, Op* op)
    {
        TTo.StoreRegister(CpuState.Register(state, op->Dst), TFrom.Load(CpuState.Register(state, op->Src)));
        return op + 1;
    }

    public static Op* Memory<TAddress>(CpuState* state, Op* op)
        where TAddress : struct, IAddress
    {
        if (!TAddress.TryGet(state, op, TFrom.Bytes, false, out ulong linear)
            || !GuestAccess.Read<TFrom>(state, linear, out ulong value))
        {
            return Flow.Fault(state, op);
        }

        TTo.StoreRegister(CpuState.Register(state, op->Dst), value);
        return op + 1;
    }
}

/// <summary>MOVSX and MOVSXD.</summary>
internal static unsafe class MoveSignExtended<TTo, TFrom>
    where TTo : struct, IWidth
    where TFrom : struct, IWidth
{
    public static Op* Register(CpuState* state, Op* op)
    {
        ulong value = TFrom.Load(CpuState.Register(state, op->Src));
        TTo.StoreRegister(CpuState.Register(state, op->Dst), (ulong)TFrom.SignExtend(value));
        return op + 1;
    }

    public static Op* Memory<TAddress>(CpuState* state, Op* op)
        where TAddress : struct, IAddress
    {
        if (!TAddress.TryGet(state, op, TFrom.Bytes, false, out ulong linear)
            || !GuestAccess.Read<TFrom>(state, linear, out ulong value))
        {
            return Flow.Fault(state, op);
        }

        TTo.StoreRegister(CpuState.Register(state, op->Dst), (ulong)TFrom.SignExtend(value));
        return op + 1;
    }
}

/// <summary>CMOVcc: the source is read, and a 32-bit destination zero-extended, whether or not the condition holds.</summary>
internal static unsafe class ConditionalMove<TCondition, TWidth>
    where TCondition : struct, ICondition
    where TWidth : struct, IWidth
{
    public static Op* Register(CpuState* state, Op* op)
    {
        byte* destination = CpuState.Register(state, op->Dst);
        TWidth.StoreRegister(destination, TWidth.Load(TCondition.Holds(state) ? CpuState.Register(state, op->Src) : destination));
        return op + 1;
    }

    public static Op* Memory(CpuState* state, Op* op)
    {
        if (!AnyAddress.TryGet(state, op, TWidth.Bytes, false, out ulong linear)
            || !GuestAccess.Read<TWidth>(state, linear, out ulong value))
        {
            return Flow.Fault(state, op);
        }

        byte* destination = CpuState.Register(state, op->Dst);
        TWidth.StoreRegister(destination, TCondition.Holds(state) ? value : TWidth.Load(destination));
        return op + 1;
    }
}

/// <summary>SETcc.</summary>
internal static unsafe class SetIf<TCondition>
    where TCondition : struct, ICondition
{
    public static Op* Register(CpuState* state, Op* op)
    {
        *CpuState.Register(state, op->Dst) = TCondition.Holds(state) ? (byte)1 : (byte)0;
        return op + 1;
    }

    public static Op* Memory(CpuState* state, Op* op) =>
        AnyAddress.TryGet(state, op, 1, true, out ulong linear)
        && GuestAccess.Write<W8>(state, linear, TCondition.Holds(state) ? 1UL : 0)
            ? op + 1
            : Flow.Fault(state, op);
}

/// <summary>XCHG, XADD, CMPXCHG and their wide forms. A memory operand of XCHG is always locked.</summary>
internal static unsafe class Exchange<TWidth>
    where TWidth : struct, IWidth
{
    public static Op* Registers(CpuState* state, Op* op)
    {
        byte* left = CpuState.Register(state, op->Dst);
        byte* right = CpuState.Register(state, op->Src);
        ulong value = TWidth.Load(left);
        TWidth.StoreRegister(left, TWidth.Load(right));
        TWidth.StoreRegister(right, value);
        return op + 1;
    }

    public static Op* Memory(CpuState* state, Op* op)
    {
        byte* operand = Operand(state, op);
        if (operand == null)
        {
            return Flow.Fault(state, op);
        }

        byte* register = CpuState.Register(state, op->Src);
        TWidth.StoreRegister(register, Atomic.Exchange<TWidth>(operand, TWidth.Load(register)));
        GuestAccess.EndModify(state);
        return op + 1;
    }

    public static Op* AddRegisters(CpuState* state, Op* op)
    {
        byte* left = CpuState.Register(state, op->Dst);
        byte* right = CpuState.Register(state, op->Src);
        ulong old = TWidth.Load(left);
        ulong sum = Add.Run<TWidth>(state, old, TWidth.Load(right));
        TWidth.StoreRegister(right, old);
        TWidth.StoreRegister(left, sum);
        return op + 1;
    }

    public static Op* AddMemory(CpuState* state, Op* op)
    {
        byte* operand = Operand(state, op);
        if (operand == null)
        {
            return Flow.Fault(state, op);
        }

        byte* register = CpuState.Register(state, op->Src);
        ulong addend = TWidth.Load(register);
        ulong old = TWidth.Load(operand);
        while (true)
        {
            ulong seen = Atomic.CompareExchange<TWidth>(operand, TWidth.Truncate(old + addend), old);
            if (seen == old)
            {
                break;
            }

            old = seen;
        }

        Add.Run<TWidth>(state, old, addend);
        TWidth.StoreRegister(register, old);
        GuestAccess.EndModify(state);
        return op + 1;
    }

    public static Op* CompareRegisters(CpuState* state, Op* op)
    {
        byte* destination = CpuState.Register(state, op->Dst);
        ulong accumulator = TWidth.Load((byte*)state->Gpr);
        ulong old = TWidth.Load(destination);
        Subtract.Run<TWidth>(state, accumulator, old);
        if (old == accumulator)
        {
            TWidth.StoreRegister(destination, TWidth.Load(CpuState.Register(state, op->Src)));
        }
        else
        {
            TWidth.StoreRegister((byte*)state->Gpr, old);
        }

        return op + 1;
    }

    public static Op* CompareMemory(CpuState* state, Op* op)
    {
        byte* operand = Operand(state, op);
        if (operand == null)
        {
            return Flow.Fault(state, op);
        }

        ulong accumulator = TWidth.Load((byte*)state->Gpr);
        ulong old = Atomic.CompareExchange<TWidth>(operand, TWidth.Load(CpuState.Register(state, op->Src)), accumulator);
        Subtract.Run<TWidth>(state, accumulator, old);
        if (old != accumulator)
        {
            TWidth.StoreRegister((byte*)state->Gpr, old);
        }

        GuestAccess.EndModify(state);
        return op + 1;
    }

    private static byte* Operand(CpuState* state, Op* op) => OperandAddress.BeginModify(state, op, TWidth.Bytes);
}
