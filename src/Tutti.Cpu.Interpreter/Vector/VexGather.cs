namespace Tutti.Cpu.Interpreter;

/// <summary>
/// VGATHER and VPGATHER: loads each element that the mask selects from an address of its own, and clears its mask. A fault
/// leaves the elements before it loaded and their masks clear, so that the instruction goes on from there. Dst, Src and Aux are
/// the numbers of the destination, index and mask registers. Source: Intel SDM volume 2, "VGATHERDPS/VGATHERQPS".
/// </summary>
internal static unsafe class VexGather
{
    private const int Size = 32;

    /// <summary>What <see cref="Op.Imm"/> of a gather says: bytes of an element, bytes of an index, how many elements.</summary>
    public static ulong Shape(int element, int index, int count) => (ulong)(element | (index << 8) | (count << 16));

    // SAFETY: register numbers are 0 to 15; at most eight elements of 4 or four of 8 bytes stay inside the local copies, which
    // have the 32 bytes of a register; memory goes through GuestAccess.
    public static Op* Run(CpuState* state, Op* op)
    {
        if (VexOps.Unavailability(state) is var fault and >= 0)
        {
            return Flow.Raise(state, op, fault);
        }

        int element = (byte)op->Imm;
        int indexSize = (byte)(op->Imm >> 8);
        int count = (byte)(op->Imm >> 16);
        byte* result = stackalloc byte[Size];
        byte* mask = stackalloc byte[Size];
        byte* indices = stackalloc byte[Size];
        VexMasked.Get(state, op->Dst, result);
        VexMasked.Get(state, op->Aux, mask);
        VexMasked.Get(state, op->Src, indices);
        bool complete = true;
        for (int i = 0; i < count && complete; i++)
        {
            if (mask[(i * element) + element - 1] >= 0x80)
            {
                long index = indexSize == 4 ? ((int*)indices)[i] : ((long*)indices)[i];
                complete = TryLoad(state, op, index, element, result + (i * element));
            }

            if (complete)
            {
                new Span<byte>(mask + (i * element), element).Clear();
            }
        }

        if (complete)
        {
            new Span<byte>(result + (count * element), Size - (count * element)).Clear();
            new Span<byte>(mask, Size).Clear();
        }

        VexMasked.Set(state, op->Dst, result);
        VexMasked.Set(state, op->Aux, mask);
        return complete ? op + 1 : Flow.Fault(state, op);
    }

    private static bool TryLoad(CpuState* state, Op* op, long index, int size, byte* to)
    {
        ulong offset = Addressing.Truncate(OperandAddress.Offset(state, op) + ((ulong)index << op->Scale), op->AddressSize);
        if (!Addressing.TrySegmented(state, op->Segment, offset, size, false, out ulong linear))
        {
            return false;
        }

        ulong value;
        if (size == 4 ? !GuestAccess.Read<W32>(state, linear, out value) : !GuestAccess.Read<W64>(state, linear, out value))
        {
            return false;
        }

        if (size == 4)
        {
            *(uint*)to = (uint)value;
        }
        else
        {
            *(ulong*)to = value;
        }

        return true;
    }
}
