using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>CLI, STI, PUSHF, POPF, CLAC, STAC, with the virtual interrupt flag. Source: Intel SDM volume 2 and volume 3, chapter "8086 Emulation".</summary>
internal static unsafe class FlagInstructions
{
    public static Op* Cli(CpuState* state, Op* op)
    {
        if (MayChangeInterruptFlag(state))
        {
            state->Flags &= ~Rflags.Interrupt;
            return op + 1;
        }

        if (HasVirtualInterruptFlag(state))
        {
            state->Flags &= ~Rflags.VirtualInterrupt;
            return op + 1;
        }

        return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
    }

    public static Op* Sti(CpuState* state, Op* op)
    {
        if (MayChangeInterruptFlag(state))
        {
            bool wasClear = (state->Flags & Rflags.Interrupt) == 0;
            state->Flags |= Rflags.Interrupt;
            return wasClear ? Shadow(state, op, PendingEvents.ShadowOfSti) : op + 1;
        }

        if (HasVirtualInterruptFlag(state) && (state->Flags & Rflags.VirtualInterruptPending) == 0)
        {
            state->Flags |= Rflags.VirtualInterrupt;
            return op + 1;
        }

        return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
    }

    /// <summary>
    /// Lets one more instruction run before events. Nothing is needed while the next instruction is in this block and no event
    /// waits, because events are taken between blocks only.
    /// </summary>
    public static Op* Shadow(CpuState* state, Op* op, int kind)
    {
        SoftwareProcessor processor = SoftwareProcessor.From(state);

        // Only the op that ends a block stands for no instruction bytes.
        bool lastInBlock = (op + 1)->Length == 0;
        if (!lastInBlock && !processor.Pending.IsAny)
        {
            return op + 1;
        }

        processor.Pending.BeginInterruptShadow();
        state->InterruptShadow = kind;
        return Flow.Leave(state, op);
    }

    public static Op* Pushf(CpuState* state, Op* op)
    {
        int size = SystemOperand.Size(op);
        ulong flags = LazyFlags.Get(state) & ~(Rflags.Resume | Rflags.Virtual8086);
        bool virtual8086 = (state->Mode & CodeMode.Virtual8086) != 0;
        if (virtual8086 && Iopl(state) < 3)
        {
            if (size != 2 || (state->Cr4 & Cr4.Virtual8086Extensions) == 0)
            {
                return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
            }

            // The image shows VIF as IF, and IOPL 3.
            flags = (flags & ~Rflags.Interrupt) | Rflags.Iopl;
            flags |= (flags & Rflags.VirtualInterrupt) != 0 ? Rflags.Interrupt : 0;
        }

        bool done = size switch
        {
            2 => Stack.Push<W16>(state, (ushort)flags),
            4 => Stack.Push<W32>(state, flags),
            _ => Stack.Push<W64>(state, flags),
        };
        return done ? op + 1 : FaultOnStack(state, op);
    }

    public static Op* Popf(CpuState* state, Op* op)
    {
        int size = SystemOperand.Size(op);
        bool virtual8086 = (state->Mode & CodeMode.Virtual8086) != 0;
        bool usesVirtual = virtual8086 && Iopl(state) < 3;
        if (usesVirtual && (size != 2 || (state->Cr4 & Cr4.Virtual8086Extensions) == 0))
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        if (!TryPeek(state, size, out ulong value))
        {
            return FaultOnStack(state, op);
        }

        ulong mask = Rflags.Arithmetic | Rflags.Trap | Rflags.Direction | Rflags.NestedTask;
        if (usesVirtual)
        {
            bool sets = (value & Rflags.Interrupt) != 0;
            if ((value & Rflags.Trap) != 0 || (sets && (state->Flags & Rflags.VirtualInterruptPending) != 0))
            {
                return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
            }

            mask |= Rflags.VirtualInterrupt;
            value = (value & 0xFFFF) | (sets ? Rflags.VirtualInterrupt : 0);
        }
        else
        {
            mask |= size > 2 ? Rflags.AlignmentCheck | Rflags.Identification : 0;
            mask |= state->Cpl <= Iopl(state) ? Rflags.Interrupt : 0;
            mask |= state->Cpl == 0 ? Rflags.Iopl : 0;
        }

        Stack.Move(state, size);
        return Replace(state, op, value, mask, size > 2);
    }

    public static Op* Clac(CpuState* state, Op* op) => SetAccess(state, op, 0);

    public static Op* Stac(CpuState* state, Op* op) => SetAccess(state, op, Rflags.AlignmentCheck);

    private static bool TryPeek(CpuState* state, int size, out ulong value) => size switch
    {
        2 => Stack.Peek<W16>(state, 0, out value),
        4 => Stack.Peek<W32>(state, 0, out value),
        _ => Stack.Peek<W64>(state, 0, out value),
    };

    private static Op* Replace(CpuState* state, Op* op, ulong value, ulong mask, bool clearsResume)
    {
        ulong before = LazyFlags.Get(state);
        ulong after = (before & ~mask) | (value & mask);
        after &= clearsResume ? ~Rflags.Resume : ulong.MaxValue;
        state->Flags = after;
        ulong changed = before ^ after;
        SoftwareProcessor processor = SoftwareProcessor.From(state);
        if ((changed & Rflags.AlignmentCheck) != 0)
        {
            processor.Tlb.SelectSet();
        }

        bool enabled = (changed & after & Rflags.Interrupt) != 0;
        if (enabled)
        {
            processor.Pending.LookAgain();
        }

        if ((changed & Rflags.Trap) != 0)
        {
            ulong next = Flow.NextRip(state, op);
            processor.Mode.Update();
            state->Rip = next;
            state->InstructionCount += op->Count;
            return null;
        }

        return enabled && processor.Pending.IsAny ? Flow.Leave(state, op) : op + 1;
    }

    private static Op* SetAccess(CpuState* state, Op* op, ulong value)
    {
        if (state->Cpl != 0)
        {
            return Flow.Raise(state, op, ExceptionVector.InvalidOpcode);
        }

        if ((state->Flags & Rflags.AlignmentCheck) != value)
        {
            state->Flags ^= Rflags.AlignmentCheck;
            SoftwareProcessor.From(state).Tlb.SelectSet();
        }

        return op + 1;
    }

    /// <summary>A fault of a push or pop: what is not canonical is #SS(0).</summary>
    public static Op* FaultOnStack(CpuState* state, Op* op)
    {
        if (state->FaultVector == Faults.NonCanonical)
        {
            Faults.Raise(state, ExceptionVector.StackFault, 0);
        }

        return Flow.Fault(state, op);
    }

    private static int Iopl(CpuState* state) => (int)(state->Flags >> Rflags.IoplShift) & 3;

    private static bool MayChangeInterruptFlag(CpuState* state) => state->Cpl <= Iopl(state);

    /// <summary>VME in virtual-8086 mode, PVI at level 3 of protected mode.</summary>
    private static bool HasVirtualInterruptFlag(CpuState* state) => (state->Mode & CodeMode.Virtual8086) != 0
        ? (state->Cr4 & Cr4.Virtual8086Extensions) != 0
        : state->Cpl == 3 && (state->Cr4 & Cr4.ProtectedVirtualInterrupts) != 0;
}
