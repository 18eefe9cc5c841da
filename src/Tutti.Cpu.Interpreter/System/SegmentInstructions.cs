using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>Segment registers, their bases, descriptor-table registers. Sources: Intel SDM volume 2; AMD APM volume 3.</summary>
internal static unsafe class SegmentInstructions
{
    private const int Ss = 2;

    /// <summary>Aux: number of the segment register. To memory always 16 bits.</summary>
    public static Op* MovFromSegment(CpuState* state, Op* op)
    {
        int size = (op->Flags & SystemOperand.InMemory) != 0 ? 2 : SystemOperand.Size(op);
        return SystemOperand.TryWrite(state, op, size, CpuState.SegmentOf(state, op->Aux)->Selector) ? op + 1 : Flow.Fault(state, op);
    }

    public static Op* MovToSegment(CpuState* state, Op* op)
    {
        if (!SystemOperand.TryRead(state, op, 2, out ulong selector)
            || !SoftwareProcessor.From(state).Segments.TryLoadSegment(op->Aux, (ushort)selector))
        {
            return Flow.Fault(state, op);
        }

        return op->Aux == Ss ? AfterStackLoad(state, op, isShadowed: true) : op + 1;
    }

    public static Op* Push(CpuState* state, Op* op)
    {
        ulong selector = CpuState.SegmentOf(state, op->Aux)->Selector;
        bool done = SystemOperand.Size(op) switch
        {
            2 => Stack.Push<W16>(state, selector),
            4 => Stack.Push<W32>(state, selector),
            _ => Stack.Push<W64>(state, selector),
        };
        return done ? op + 1 : FlagInstructions.FaultOnStack(state, op);
    }

    public static Op* Pop(CpuState* state, Op* op)
    {
        if (!Stack.Peek<W16>(state, 0, out ulong selector))
        {
            return FlagInstructions.FaultOnStack(state, op);
        }

        // The stack pointer moves in the width of the old stack.
        ulong before = state->Gpr[4];
        Stack.Move(state, SystemOperand.Size(op));
        if (!SoftwareProcessor.From(state).Segments.TryLoadSegment(op->Aux, (ushort)selector))
        {
            state->Gpr[4] = before;
            return Flow.Fault(state, op);
        }

        return op->Aux == Ss ? AfterStackLoad(state, op, isShadowed: true) : op + 1;
    }

    /// <summary>LDS, LES, LFS, LGS, LSS: offset, then selector, from memory. Src: the register; Aux: the segment.</summary>
    public static Op* LoadFarPointer(CpuState* state, Op* op)
    {
        int size = SystemOperand.Size(op);
        if (!SystemOperand.TryReadMemory(state, op, 0, size, out ulong offset)
            || !SystemOperand.TryReadMemory(state, op, size, 2, out ulong selector)
            || !SoftwareProcessor.From(state).Segments.TryLoadSegment(op->Aux, (ushort)selector))
        {
            return Flow.Fault(state, op);
        }

        SystemOperand.WriteRegister(state, op->Src, size, offset);
        return op->Aux == Ss ? AfterStackLoad(state, op, isShadowed: false) : op + 1;
    }

    /// <summary>Aux: 0 GDTR, 1 IDTR. The size says how much of the base counts.</summary>
    public static Op* LoadTable(CpuState* state, Op* op)
    {
        if (state->Cpl != 0)
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        int size = SystemOperand.Size(op);
        if (!SystemOperand.TryReadMemory(state, op, 0, 2, out ulong limit)
            || !SystemOperand.TryReadMemory(state, op, 2, size == 8 ? 8 : 4, out ulong tableBase))
        {
            return Flow.Fault(state, op);
        }

        if (size == 8 && !SoftwareProcessor.From(state).Control.IsLoadable(tableBase))
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        Segment* table = op->Aux == 0 ? &state->Gdtr : &state->Idtr;
        table->Limit = (ushort)limit;
        table->Base = size == 2 ? tableBase & 0xFF_FFFF : tableBase;
        return op + 1;
    }

    public static Op* StoreTable(CpuState* state, Op* op)
    {
        if (IsPrevented(state))
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        Segment* table = op->Aux == 0 ? &state->Gdtr : &state->Idtr;
        int size = SystemOperand.Size(op) == 8 ? 8 : 4;
        // SAFETY: a limit of 2 bytes and a base of at most 8.
        byte* bytes = stackalloc byte[10];
        *(ushort*)bytes = (ushort)table->Limit;
        *(ulong*)(bytes + 2) = table->Base;
        return SystemOperand.TryGetAddress(state, op, 0, size + 2, true, out ulong linear) && GuestAccess.WriteBytes(state, linear, bytes, size + 2)
            ? op + 1
            : Flow.Fault(state, op);
    }

    /// <summary>Aux: 0 SLDT, 1 STR.</summary>
    public static Op* StoreSystemSegment(CpuState* state, Op* op)
    {
        if (!HasSystemSegments(state))
        {
            return Flow.Raise(state, op, ExceptionVector.InvalidOpcode);
        }

        if (IsPrevented(state))
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        int size = (op->Flags & SystemOperand.InMemory) != 0 ? 2 : SystemOperand.Size(op);
        ulong selector = op->Aux == 0 ? state->Ldtr.Selector : state->Tr.Selector;
        return SystemOperand.TryWrite(state, op, size, selector) ? op + 1 : Flow.Fault(state, op);
    }

    /// <summary>Aux: 0 LLDT, 1 LTR.</summary>
    public static Op* LoadSystemSegment(CpuState* state, Op* op)
    {
        if (!HasSystemSegments(state))
        {
            return Flow.Raise(state, op, ExceptionVector.InvalidOpcode);
        }

        if (state->Cpl != 0)
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        SoftwareProcessor processor = SoftwareProcessor.From(state);
        return SystemOperand.TryRead(state, op, 2, out ulong selector)
            && (op->Aux == 0 ? processor.SystemSegments.TryLoadLdtr((ushort)selector) : processor.SystemSegments.TryLoadTr((ushort)selector))
            ? op + 1
            : Flow.Fault(state, op);
    }

    public static Op* Swapgs(CpuState* state, Op* op)
    {
        if (state->Cpl != 0)
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        (state->Gs.Base, state->KernelGsBase) = (state->KernelGsBase, state->Gs.Base);
        return op + 1;
    }

    /// <summary>RDFSBASE and RDGSBASE. Aux: 4 FS, 5 GS.</summary>
    public static Op* ReadBase(CpuState* state, Op* op)
    {
        if ((state->Cr4 & Cr4.FsGsBase) == 0)
        {
            return Flow.Raise(state, op, ExceptionVector.InvalidOpcode);
        }

        SystemOperand.WriteRegister(state, op->Dst, SystemOperand.Size(op), CpuState.SegmentOf(state, op->Aux)->Base);
        return op + 1;
    }

    /// <summary>WRFSBASE and WRGSBASE.</summary>
    public static Op* WriteBase(CpuState* state, Op* op)
    {
        if ((state->Cr4 & Cr4.FsGsBase) == 0)
        {
            return Flow.Raise(state, op, ExceptionVector.InvalidOpcode);
        }

        SystemOperand.TryRead(state, op, SystemOperand.Size(op), out ulong value);
        if (!SoftwareProcessor.From(state).Control.IsLoadable(value))
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        CpuState.SegmentOf(state, op->Aux)->Base = value;
        return op + 1;
    }

    /// <summary>SLDT, STR, LLDT, LTR, LAR, LSL, VERR, VERW and ARPL are for protected mode only.</summary>
    public static bool HasSystemSegments(CpuState* state) =>
        (state->Mode & (CodeMode.Protected | CodeMode.Virtual8086)) == CodeMode.Protected;

    /// <summary>CR4.UMIP: SGDT, SIDT, SLDT, STR and SMSW are for level 0 alone.</summary>
    public static bool IsPrevented(CpuState* state) => state->Cpl != 0 && (state->Cr4 & Cr4.UserModeInstructionPrevention) != 0;

    /// <param name="isShadowed">MOV and POP, not LSS, which loads the stack pointer with SS: events wait for the instruction behind.</param>
    private static Op* AfterStackLoad(CpuState* state, Op* op, bool isShadowed)
    {
        uint mode = state->Mode;
        SoftwareProcessor processor = SoftwareProcessor.From(state);
        ulong next = Flow.NextRip(state, op);
        processor.Mode.Update();
        if (state->Mode == mode && (state->Attention & Attention.Step) == 0)
        {
            return isShadowed ? FlagInstructions.Shadow(state, op, PendingEvents.ShadowOfStackLoad) : op + 1;
        }

        if (isShadowed)
        {
            processor.Pending.BeginInterruptShadow();
            state->InterruptShadow = PendingEvents.ShadowOfStackLoad;
        }

        state->Rip = next;
        state->InstructionCount += op->Count;
        return null;
    }
}
