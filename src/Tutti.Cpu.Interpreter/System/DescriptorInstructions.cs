using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>LAR, LSL, VERR, VERW, ARPL: questions about selectors, answered in ZF. Source: Intel SDM volume 2.</summary>
internal static unsafe class DescriptorInstructions
{
    public static Op* Lar(CpuState* state, Op* op)
    {
        if (!TryAsk(state, op, out Descriptor descriptor, out bool found, out Op* fault))
        {
            return fault;
        }

        bool isLong = (state->Mode & CodeMode.LongMode) != 0;
        bool valid = found && (!descriptor.IsSystem || (isLong ? descriptor.Type is 2 or 9 or 11 or 12 : descriptor.Type is 1 or 2 or 3 or 4 or 5 or 9 or 11 or 12));
        if (valid)
        {
            SystemOperand.WriteRegister(state, op->Src, SystemOperand.Size(op), (uint)(descriptor.Raw >> 32) & 0x00FF_FF00);
        }

        return Answer(state, op, valid);
    }

    public static Op* Lsl(CpuState* state, Op* op)
    {
        if (!TryAsk(state, op, out Descriptor descriptor, out bool found, out Op* fault))
        {
            return fault;
        }

        bool isLong = (state->Mode & CodeMode.LongMode) != 0;
        bool valid = found && (!descriptor.IsSystem || (isLong ? descriptor.Type is 2 or 9 or 11 : descriptor.Type is 1 or 2 or 3 or 9 or 11));
        if (valid)
        {
            SystemOperand.WriteRegister(state, op->Src, SystemOperand.Size(op), descriptor.Limit);
        }

        return Answer(state, op, valid);
    }

    public static Op* Verr(CpuState* state, Op* op) =>
        TryAsk(state, op, out Descriptor descriptor, out bool found, out Op* fault)
            ? Answer(state, op, found && descriptor.IsReadable)
            : fault;

    public static Op* Verw(CpuState* state, Op* op) =>
        TryAsk(state, op, out Descriptor descriptor, out bool found, out Op* fault)
            ? Answer(state, op, found && descriptor.IsWritableData)
            : fault;

    /// <summary>ARPL. Src: the register whose RPL the operand must have at least.</summary>
    public static Op* Arpl(CpuState* state, Op* op)
    {
        if (!SegmentInstructions.HasSystemSegments(state))
        {
            return Flow.Raise(state, op, ExceptionVector.InvalidOpcode);
        }

        if (!SystemOperand.TryRead(state, op, 2, out ulong value))
        {
            return Flow.Fault(state, op);
        }

        ulong wanted = *CpuState.Register(state, op->Src) & 3UL;
        bool raises = (value & 3) < wanted;
        if (raises && !SystemOperand.TryWrite(state, op, 2, (value & ~3UL) | wanted))
        {
            return Flow.Fault(state, op);
        }

        return Answer(state, op, raises);
    }

    /// <summary>Reads the selector operand and its descriptor; <paramref name="found"/> where it exists and CPL and RPL may see it.</summary>
    private static bool TryAsk(CpuState* state, Op* op, out Descriptor descriptor, out bool found, out Op* fault)
    {
        descriptor = default;
        found = false;
        fault = null;
        if (!SegmentInstructions.HasSystemSegments(state))
        {
            fault = Flow.Raise(state, op, ExceptionVector.InvalidOpcode);
            return false;
        }

        if (!SystemOperand.TryRead(state, op, 2, out ulong selector))
        {
            fault = Flow.Fault(state, op);
            return false;
        }

        found = SoftwareProcessor.From(state).Tables.TryPeekDescriptor((ushort)selector, out descriptor, out _);
        if (!found && state->FaultVector >= 0)
        {
            fault = Flow.Fault(state, op);
            return false;
        }

        found &= descriptor.IsConformingCode || (descriptor.Dpl >= state->Cpl && descriptor.Dpl >= ((int)selector & 3));
        return true;
    }

    private static Op* Answer(CpuState* state, Op* op, bool zero)
    {
        ulong flags = LazyFlags.Arithmetic(state) & ~Rflags.Zero;
        LazyFlags.SetArithmetic(state, flags | (zero ? Rflags.Zero : 0));
        return op + 1;
    }
}
