using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>MMX instructions that thunks do not do: stores, EMMS, masked stores. Dst and Src are register numbers.</summary>
// SAFETY for all handlers: register numbers are 0 to 7 (15 for XMM); memory goes through GuestAccess.
internal static unsafe class MmxOps
{
    public static Op* Store<TWidth>(CpuState* state, Op* op)
        where TWidth : struct, IWidth
    {
        if (Unavailable(state, op))
        {
            return Flow.Fault(state, op);
        }

        if (!AnyAddress.TryGet(state, op, TWidth.Bytes, true, out ulong linear)
            || !GuestAccess.Write<TWidth>(state, linear, TWidth.Load(MmxState.Register(state, op->Src))))
        {
            return Flow.Fault(state, op);
        }

        MmxState.Enter(state);
        return op + 1;
    }

    public static Op* Copy(CpuState* state, Op* op)
    {
        if (Unavailable(state, op))
        {
            return Flow.Fault(state, op);
        }

        MmxState.Enter(state);
        byte* destination = MmxState.Register(state, op->Dst);
        *(ulong*)destination = *(ulong*)MmxState.Register(state, op->Src);
        *(ushort*)(destination + 8) = 0xFFFF;
        return op + 1;
    }

    public static Op* CopyToGeneral<TWidth>(CpuState* state, Op* op)
        where TWidth : struct, IWidth
    {
        if (Unavailable(state, op))
        {
            return Flow.Fault(state, op);
        }

        MmxState.Enter(state);
        TWidth.StoreRegister(CpuState.Register(state, op->Dst), TWidth.Load(MmxState.Register(state, op->Src)));
        return op + 1;
    }

    /// <summary>EMMS: all registers empty.</summary>
    public static Op* Empty(CpuState* state, Op* op)
    {
        if (Unavailable(state, op))
        {
            return Flow.Fault(state, op);
        }

        MmxState.Enter(state);
        state->FxArea[MmxState.FxTags] = 0;
        return op + 1;
    }

    public static Op* MaskedStore8(CpuState* state, Op* op)
    {
        if (Unavailable(state, op)
            || !TryMaskedStore(state, op, MmxState.Register(state, op->Src), MmxState.Register(state, op->Dst), 8))
        {
            return Flow.Fault(state, op);
        }

        MmxState.Enter(state);
        return op + 1;
    }

    public static Op* MaskedStore16(CpuState* state, Op* op) =>
        state->FpuTraps != 0 ? VectorOps.SseUnavailable(state, op) : StoreMasked16(state, op);

    /// <summary>MASKMOVDQU or VMASKMOVDQU, once it is known to be available.</summary>
    public static Op* StoreMasked16(CpuState* state, Op* op) =>
        TryMaskedStore(state, op, CpuState.Xmm(state, op->Src), CpuState.Xmm(state, op->Dst), 16) ? op + 1 : Flow.Fault(state, op);

    /// <summary>Stores the bytes whose mask byte has its top bit set; the others are not touched, so they cannot fault either.</summary>
    private static bool TryMaskedStore(CpuState* state, Op* op, byte* value, byte* mask, int size)
    {
        int first = 0;
        while (first < size && mask[first] < 0x80)
        {
            first++;
        }

        if (first == size)
        {
            return true;
        }

        int last = size - 1;
        while (mask[last] < 0x80)
        {
            last--;
        }

        if (!AnyAddress.TryGet(state, op, size, true, out ulong linear)
            || !VectorMemory.ProbeWrite(state, linear + (ulong)first, last - first + 1))
        {
            return false;
        }

        for (int i = first; i <= last; i++)
        {
            if (mask[i] >= 0x80)
            {
                X87Ops.FinishWrite(state, linear + (ulong)i, value + i, 1);
            }
        }

        return true;
    }

    private static bool Unavailable(CpuState* state, Op* op)
    {
        int vector = VectorOps.Unavailability(state, VectorTraits.Mmx);
        if (vector < 0)
        {
            return false;
        }

        Faults.Raise(state, vector, 0);
        return true;
    }
}
