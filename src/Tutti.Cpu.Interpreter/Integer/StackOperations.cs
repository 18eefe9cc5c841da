using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>PUSH, POP, ENTER, LEAVE of general registers and memory.</summary>
internal static unsafe class StackOperations<TWidth>
    where TWidth : struct, IWidth
{
    private const int Rsp = 4;
    private const int Rbp = 5;

    public static Op* PushRegister(CpuState* state, Op* op) =>
        Stack.Push<TWidth>(state, TWidth.Load(CpuState.Register(state, op->Src))) ? op + 1 : Flow.Fault(state, op);

    public static Op* PushImmediate(CpuState* state, Op* op) =>
        Stack.Push<TWidth>(state, op->Imm) ? op + 1 : Flow.Fault(state, op);

    public static Op* PushMemory(CpuState* state, Op* op) =>
        AnyAddress.TryGet(state, op, TWidth.Bytes, false, out ulong linear)
        && GuestAccess.Read<TWidth>(state, linear, out ulong value)
        && Stack.Push<TWidth>(state, value)
            ? op + 1
            : Flow.Fault(state, op);

    public static Op* PopRegister(CpuState* state, Op* op)
    {
        if (!Stack.Pop<TWidth>(state, out ulong value))
        {
            return Flow.Fault(state, op);
        }

        TWidth.StoreRegister(CpuState.Register(state, op->Dst), value);
        return op + 1;
    }

    /// <summary>POP to memory: an address through RSP counts from its value after the pop.</summary>
    public static Op* PopMemory(CpuState* state, Op* op)
    {
        if (!Stack.Peek<TWidth>(state, 0, out ulong value))
        {
            return Flow.Fault(state, op);
        }

        ulong rsp = state->Gpr[Rsp];
        Stack.Move(state, TWidth.Bytes);
        if (AnyAddress.TryGet(state, op, TWidth.Bytes, true, out ulong linear)
            && GuestAccess.Write<TWidth>(state, linear, value))
        {
            return op + 1;
        }

        state->Gpr[Rsp] = rsp;
        return Flow.Fault(state, op);
    }

    public static Op* Leave(CpuState* state, Op* op)
    {
        ulong rsp = state->Gpr[Rsp];
        Stack.SetPointer(state, state->Gpr[Rbp]);
        if (!Stack.Pop<TWidth>(state, out ulong value))
        {
            state->Gpr[Rsp] = rsp;
            return Flow.Fault(state, op);
        }

        TWidth.StoreRegister((byte*)(state->Gpr + Rbp), value);
        return op + 1;
    }

    /// <summary>ENTER: frame size in Imm, nesting level in Aux.</summary>
    public static Op* Enter(CpuState* state, Op* op)
    {
        ulong rsp = state->Gpr[Rsp];
        ulong rbp = state->Gpr[Rbp];
        int level = op->Aux & 31;
        bool done = Stack.Push<TWidth>(state, TWidth.Load((byte*)(state->Gpr + Rbp)));
        ulong frame = state->Gpr[Rsp];
        for (int i = 1; done && i < level; i++)
        {
            ulong pointer = Stack.Wrap(state, rbp - (ulong)(i * TWidth.Bytes));
            done = Addressing.TrySegmented(state, 2, pointer, TWidth.Bytes, false, out ulong linear)
                && GuestAccess.Read<TWidth>(state, linear, out ulong value)
                && Stack.Push<TWidth>(state, value);
        }

        done = done && (level == 0 || Stack.Push<TWidth>(state, frame));
        ulong top = Stack.Wrap(state, state->Gpr[Rsp] - op->Imm);

        // The processor checks that the new top of the stack could be written before it commits.
        done = done && Addressing.TrySegmented(state, 2, top, TWidth.Bytes, true, out ulong topLinear)
            && LoadStoreUnit.From(state).TryAccess(topLinear, TWidth.Bytes, null, Access.Write | Access.Probe);
        if (!done)
        {
            state->Gpr[Rsp] = rsp;
            return Flow.Fault(state, op);
        }

        Stack.SetPointer(state, top);
        TWidth.StoreRegister((byte*)(state->Gpr + Rbp), frame);
        return op + 1;
    }

    /// <summary>PUSHA and PUSHAD.</summary>
    public static Op* PushAll(CpuState* state, Op* op)
    {
        ulong rsp = state->Gpr[Rsp];
        for (int i = 0; i < 8; i++)
        {
            ulong value = i == Rsp ? rsp : state->Gpr[i];
            if (!Stack.Push<TWidth>(state, TWidth.Truncate(value)))
            {
                state->Gpr[Rsp] = rsp;
                return Flow.Fault(state, op);
            }
        }

        return op + 1;
    }

    /// <summary>POPA and POPAD: the stack pointer's own slot is skipped.</summary>
    public static Op* PopAll(CpuState* state, Op* op)
    {
        // SAFETY: indices are 0 to 7, the registers of POPA.
        ulong* values = stackalloc ulong[8];
        for (int i = 0; i < 8; i++)
        {
            if (!Stack.Peek<TWidth>(state, i * TWidth.Bytes, out values[7 - i]))
            {
                return Flow.Fault(state, op);
            }
        }

        for (int i = 0; i < 8; i++)
        {
            if (i != Rsp)
            {
                TWidth.StoreRegister((byte*)(state->Gpr + i), values[i]);
            }
        }

        Stack.Move(state, 8 * TWidth.Bytes);
        return op + 1;
    }
}

/// <summary>XLAT.</summary>
internal static unsafe class TableLookup
{
    public static Op* Xlat(CpuState* state, Op* op)
    {
        ulong offset = Addressing.Truncate(state->Gpr[3] + *(byte*)state->Gpr, op->AddressSize);
        if (!Addressing.TrySegmented(state, op->Segment, offset, 1, false, out ulong linear)
            || !GuestAccess.Read<W8>(state, linear, out ulong value))
        {
            return Flow.Fault(state, op);
        }

        *(byte*)state->Gpr = (byte)value;
        return op + 1;
    }
}

/// <summary>MOVSXD with a 16-bit destination and its source in memory: four bytes are read, of which two are taken, as AMD's processors do.</summary>
internal static unsafe class NarrowLoad
{
    public static Op* LoadLowWord(CpuState* state, Op* op)
    {
        if (!AnyAddress.TryGet(state, op, 4, false, out ulong linear) || !GuestAccess.Read<W32>(state, linear, out ulong value))
        {
            return Flow.Fault(state, op);
        }

        W16.StoreRegister(CpuState.Register(state, op->Dst), (ushort)value);
        return op + 1;
    }
}
