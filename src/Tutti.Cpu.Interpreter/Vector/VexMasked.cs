using System.Runtime.CompilerServices;

namespace Tutti.Cpu.Interpreter;

/// <summary>
/// VMASKMOVPS/PD, VPMASKMOVD/Q and VMASKMOVDQU: the top bit of each element of a mask register selects it, and what is not
/// selected is not accessed, so it cannot fault. Dst is the number of the data register, Aux that of the mask, Src the bytes of
/// the vector, Imm those of an element. Source: Intel SDM volume 2, "VMASKMOV", "VPMASKMOV".
/// </summary>
// SAFETY for all handlers: register numbers are 0 to 15; local copies have the 32 bytes of a register; memory goes through
// checked accessors.
internal static unsafe class VexMasked
{
    private const int Size = 32;

    public static Op* Load(CpuState* state, Op* op)
    {
        if (VexOps.Unavailability(state) is var fault and >= 0)
        {
            return Flow.Raise(state, op, fault);
        }

        // SAFETY: elements up to Src, at most 32, stay inside these.
        byte* mask = stackalloc byte[Size];
        byte* result = stackalloc byte[Size];
        Get(state, op->Aux, mask);
        Unsafe.InitBlockUnaligned(result, 0, Size);
        int element = (int)op->Imm;
        for (int i = 0; i < op->Src; i += element)
        {
            if (!IsSelected(mask, i, element))
            {
                continue;
            }

            byte* memory = TryGetLinear(state, op, i, false, out ulong linear) ? VectorMemory.Read(state, linear, element) : null;
            if (memory == null)
            {
                return Flow.Fault(state, op);
            }

            Unsafe.CopyBlockUnaligned(result + i, memory, (uint)element);
        }

        Set(state, op->Dst, result);
        return op + 1;
    }

    public static Op* Store(CpuState* state, Op* op)
    {
        if (VexOps.Unavailability(state) is var fault and >= 0)
        {
            return Flow.Raise(state, op, fault);
        }

        // SAFETY: as in Load.
        byte* mask = stackalloc byte[Size];
        byte* value = stackalloc byte[Size];
        Get(state, op->Aux, mask);
        Get(state, op->Dst, value);
        int element = (int)op->Imm;
        ulong linear;
        for (int i = 0; i < op->Src; i += element)
        {
            if (IsSelected(mask, i, element)
                && (!TryGetLinear(state, op, i, true, out linear) || !VectorMemory.ProbeWrite(state, linear, element)))
            {
                return Flow.Fault(state, op);
            }
        }

        for (int i = 0; i < op->Src; i += element)
        {
            if (IsSelected(mask, i, element) && TryGetLinear(state, op, i, true, out linear))
            {
                X87Ops.FinishWrite(state, linear, value + i, element);
            }
        }

        return op + 1;
    }

    /// <summary>VMASKMOVDQU; its op is that of MASKMOVDQU.</summary>
    public static Op* StoreBytes(CpuState* state, Op* op) =>
        VexOps.Unavailability(state) is var fault and >= 0 ? Flow.Raise(state, op, fault) : MmxOps.StoreMasked16(state, op);

    /// <summary>Copies both halves of a register out.</summary>
    public static void Get(CpuState* state, int number, byte* to)
    {
        Unsafe.CopyBlockUnaligned(to, CpuState.Xmm(state, number), 16);
        Unsafe.CopyBlockUnaligned(to + 16, CpuState.YmmHighOf(state, number), 16);
    }

    public static void Set(CpuState* state, int number, byte* from)
    {
        Unsafe.CopyBlockUnaligned(CpuState.Xmm(state, number), from, 16);
        Unsafe.CopyBlockUnaligned(CpuState.YmmHighOf(state, number), from + 16, 16);
    }

    private static bool IsSelected(byte* mask, int offset, int element) => mask[offset + element - 1] >= 0x80;

    private static bool TryGetLinear(CpuState* state, Op* op, int distance, bool write, out ulong linear)
    {
        ulong offset = Addressing.Truncate(OperandAddress.Offset(state, op) + (ulong)distance, op->AddressSize);
        return Addressing.TrySegmented(state, op->Segment, offset, (int)op->Imm, write, out linear);
    }
}
