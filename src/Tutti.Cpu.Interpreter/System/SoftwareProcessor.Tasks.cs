using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

internal enum TaskSwitchCause
{
    Jump,

    /// <summary>CALL, an interrupt or an exception: the new task is nested in the old one.</summary>
    Call,

    Return,
}

/// <summary>Hardware task switching, outside long mode. Source: Intel SDM volume 3, chapter "Task Management".</summary>
internal sealed unsafe partial class SoftwareProcessor
{
    /// <summary>Bytes of a TSS that a switch reads: the static part, without the I/O map.</summary>
    private const int Tss32Size = 104;

    private const int Tss16Size = 44;

    /// <summary>Offset of EIP (IP): where the dynamic part, which a switch saves, begins.</summary>
    private const int Tss32Eip = 32;

    private const int Tss16Ip = 14;
    private const int Tss32Ldt = 96;
    private const int Tss16Ldt = 42;

    private bool _switchedTask;

    /// <summary>Whether the transfer that just failed had already switched tasks: its fault belongs to the new task.</summary>
    public bool TakeSwitchedTask()
    {
        bool switched = _switchedTask;
        _switchedTask = false;
        return switched;
    }

    /// <summary>A far JMP or CALL to something that is neither code nor call gate: a TSS or a task gate.</summary>
    private bool TryTransferToTask(ushort selector, Descriptor target, TaskSwitchCause cause, ulong nextRip)
    {
        _switchedTask = false;
        uint error = selector & 0xFFFCu;
        bool gate = target.Type == SystemDescriptorType.TaskGate;
        bool tss = target.Type is SystemDescriptorType.AvailableTss or SystemDescriptorType.AvailableTss16;
        if (IsLongMode || (!gate && !tss) || target.Dpl < State->Cpl || target.Dpl < (selector & 3))
        {
            return Refuse(ExceptionVector.GeneralProtection, error);
        }

        if (!target.Present)
        {
            return Refuse(ExceptionVector.SegmentNotPresent, error);
        }

        ushort tssSelector = gate ? target.GateSelector : selector;
        return TryReadTss(tssSelector, 0, out Descriptor descriptor, out ulong address)
            && TrySwitchTask(tssSelector, descriptor, address, cause, nextRip, 0)
            && FinishTaskSwitch();
    }

    /// <summary>An interrupt or exception through a task gate; pushes the error code in the new task.</summary>
    private bool TryInterruptToTask(ushort selector, bool pushesError, uint error, uint external, ulong returnRip, ulong resume)
    {
        if (!TryReadTss(selector, external, out Descriptor descriptor, out ulong address)
            || !TrySwitchTask(selector, descriptor, address, TaskSwitchCause.Call, returnRip, resume))
        {
            return false;
        }

        if (pushesError)
        {
            UpdateMode();
            ulong item = error;
            int size = (descriptor.Type & 8) != 0 ? 4 : 2;
            if (!TryPushItems(&State->Ss, StackMask, State->Gpr[4], &item, 1, size, false, external, out ulong rsp))
            {
                return false;
            }

            Stack.SetPointer(State, rsp);
        }

        return FinishTaskSwitch();
    }

    /// <summary>IRET with NT set: back to the task that the link names.</summary>
    private bool TryReturnToTask(ulong nextRip)
    {
        _switchedTask = false;
        if (!TryReadTable(State->Tr.Base, out ushort link))
        {
            return false;
        }

        uint error = link & 0xFFFCu;
        if ((link & 4) != 0 || !TryReadDescriptor(link, ExceptionVector.InvalidTss, 0, out Descriptor descriptor, out ulong address))
        {
            return (link & 4) != 0 && Refuse(ExceptionVector.InvalidTss, error);
        }

        if (!descriptor.IsSystem || descriptor.Type is not (SystemDescriptorType.BusyTss or SystemDescriptorType.BusyTss16))
        {
            return Refuse(ExceptionVector.InvalidTss, error);
        }

        if (!descriptor.Present)
        {
            return Refuse(ExceptionVector.SegmentNotPresent, error);
        }

        return TrySwitchTask(link, descriptor, address, TaskSwitchCause.Return, nextRip, 0) && FinishTaskSwitch();
    }

    /// <summary>Reads the descriptor of an available TSS; #GP with the selector where it is none.</summary>
    private bool TryReadTss(ushort selector, uint external, out Descriptor descriptor, out ulong address)
    {
        descriptor = default;
        address = 0;
        uint error = (selector & 0xFFFCu) | external;
        if ((selector & 4) != 0 || (selector & 0xFFFC) == 0)
        {
            return Refuse(ExceptionVector.GeneralProtection, error);
        }

        if (!TryReadDescriptor(selector, ExceptionVector.GeneralProtection, external, out descriptor, out address))
        {
            return false;
        }

        if (!descriptor.IsSystem || descriptor.Type is not (SystemDescriptorType.AvailableTss or SystemDescriptorType.AvailableTss16))
        {
            return Refuse(ExceptionVector.GeneralProtection, error);
        }

        return descriptor.Present || Refuse(ExceptionVector.SegmentNotPresent, error);
    }

    /// <summary>
    /// Saves the old task, loads the new one. After the point of no return a fault makes <see cref="TakeSwitchedTask"/> true and
    /// the registers as the new task has them.
    /// </summary>
    private bool TrySwitchTask(ushort selector, Descriptor descriptor, ulong address, TaskSwitchCause cause, ulong nextRip, ulong resume)
    {
        bool is32 = (descriptor.Type & 8) != 0;
        int size = is32 ? Tss32Size : Tss16Size;
        if (descriptor.Limit < (uint)size - 1)
        {
            return Refuse(ExceptionVector.InvalidTss, selector & 0xFFFCu);
        }

        // SAFETY: a 32-bit TSS is the larger one, and no more than its size is read or appended.
        byte* image = stackalloc byte[Tss32Size];
        bool was32 = (State->Tr.Attributes & 8) != 0;
        int oldSize = was32 ? Tss32Size : Tss16Size;

        // Every page that the switch touches is checked before anything changes.
        if (!AccessSlow((uint)descriptor.Base, size, image, Access.System)
            || !AccessSlow((uint)State->Tr.Base, oldSize, null, Access.System | Access.Write | Access.Probe)
            || (cause == TaskSwitchCause.Call && !AccessSlow((uint)descriptor.Base, 2, null, Access.System | Access.Write | Access.Probe))
            || !AccessSlow((uint)address, 8, null, Access.System | Access.Write | Access.Probe))
        {
            return false;
        }

        ulong flags = LazyFlags.Get(State) | resume;
        flags &= cause == TaskSwitchCause.Return ? ~Rflags.NestedTask : ulong.MaxValue;
        if (!TrySaveTask(was32, flags, nextRip)
            || (cause != TaskSwitchCause.Call && !TrySetBusy(State->Tr.Selector, false))
            || (cause != TaskSwitchCause.Return && !TryWriteTable(address + 5, (byte)((descriptor.Raw >> 40) | 2)))
            || (cause == TaskSwitchCause.Call && !TryWriteTable(descriptor.Base, State->Tr.Selector)))
        {
            return false;
        }

        _switchedTask = true;
        FillSegment(&State->Tr, selector, new Descriptor(descriptor.Raw | (1UL << 41)));
        State->Cr0 |= Cr0.TaskSwitched;
        State->Dr[7] &= ~Dr7.LocalEnables;
        LoadTaskRegisters(image, is32, cause == TaskSwitchCause.Call);
        return TryLoadTaskSegments(image, is32);
    }

    private bool TrySaveTask(bool is32, ulong flags, ulong rip)
    {
        byte* image = stackalloc byte[Tss32Size];
        int position = 0;
        Append(image, ref position, is32, rip);
        Append(image, ref position, is32, flags);
        for (int i = 0; i < 8; i++)
        {
            Append(image, ref position, is32, State->Gpr[i]);
        }

        // ES, CS, SS, DS; a 32-bit TSS also has FS and GS.
        for (int i = 0; i < (is32 ? 6 : 4); i++)
        {
            Append(image, ref position, is32, CpuState.SegmentOf(State, i)->Selector);
        }

        ulong address = State->Tr.Base + (is32 ? (ulong)Tss32Eip : Tss16Ip);
        return AccessSlow((uint)address, position, image, Access.System | Access.Write);
    }

    private static void Append(byte* image, ref int position, bool is32, ulong value)
    {
        if (is32)
        {
            *(uint*)(image + position) = (uint)value;
            position += 4;
        }
        else
        {
            *(ushort*)(image + position) = (ushort)value;
            position += 2;
        }
    }

    private bool TrySetBusy(ushort selector, bool busy)
    {
        ulong address = State->Gdtr.Base + (selector & 0xFFF8u) + 5;
        return TryReadTable(address, out byte access) && TryWriteTable(address, (byte)(busy ? access | 2 : access & ~2));
    }

    /// <summary>CR3, EIP, EFLAGS, the general registers and all selectors; the segments behind them come later.</summary>
    private void LoadTaskRegisters(byte* image, bool is32, bool nested)
    {
        if (is32 && (State->Cr0 & Cr0.Paging) != 0)
        {
            State->Cr3 = *(uint*)(image + 28);
            FlushTlb();
        }

        int position = is32 ? Tss32Eip : Tss16Ip;
        State->Rip = Take(image, ref position, is32);
        ulong flags = Take(image, ref position, is32);
        State->Flags = (flags & Rflags.Defined) | Rflags.AlwaysOne | (nested ? Rflags.NestedTask : 0);
        State->FlagKind = FlagKind.Eager;
        for (int i = 0; i < 8; i++)
        {
            State->Gpr[i] = Take(image, ref position, is32);
        }

        for (int i = 0; i < 6; i++)
        {
            ushort selector = i < 4 || is32 ? (ushort)Take(image, ref position, is32) : (ushort)0;
            ClearSegment(CpuState.SegmentOf(State, i), selector);
        }

        ClearSegment(&State->Ldtr, *(ushort*)(image + (is32 ? Tss32Ldt : Tss16Ldt)));
        State->Cpl = IsVirtual8086 ? 3 : State->Cs.Selector & 3;
    }

    private static uint Take(byte* image, ref int position, bool is32)
    {
        uint value = is32 ? *(uint*)(image + position) : *(ushort*)(image + position);
        position += is32 ? 4 : 2;
        return value;
    }

    private bool TryLoadTaskSegments(byte* image, bool is32)
    {
        if (!TryLoadTaskLdt(State->Ldtr.Selector))
        {
            UpdateMode();
            return false;
        }

        if (IsVirtual8086)
        {
            for (int i = 0; i < 6; i++)
            {
                Segment* segment = CpuState.SegmentOf(State, i);
                FillRealSegment(segment, segment->Selector, true);
            }
        }
        else if (!TryLoadTaskCode(State->Cs.Selector) || !TryLoadTaskStack(State->Ss.Selector)
            || !TryLoadTaskData(&State->Es) || !TryLoadTaskData(&State->Ds) || !TryLoadTaskData(&State->Fs) || !TryLoadTaskData(&State->Gs))
        {
            UpdateMode();
            return false;
        }

        UpdateMode();
        if (State->Rip > State->Cs.Limit)
        {
            return Refuse(ExceptionVector.GeneralProtection);
        }

        // T, bit 0 of the word at 100: #DB before the task's first instruction.
        _taskTrap = is32 && (image[100] & 1) != 0;
        return true;
    }

    private bool _taskTrap;

    private bool FinishTaskSwitch()
    {
        _switchedTask = false;
        _keepsResumeFlag = true;
        UpdateMode();
        if (_taskTrap)
        {
            _taskTrap = false;
            RaiseDebug(Dr6.TaskSwitch);
        }

        InterruptsEnabled();
        return true;
    }

    private bool TryLoadTaskLdt(ushort selector)
    {
        if ((selector & 0xFFFC) == 0)
        {
            return true;
        }

        uint error = selector & 0xFFFCu;
        if ((selector & 4) != 0)
        {
            return Refuse(ExceptionVector.InvalidTss, error);
        }

        if (!TryReadDescriptor(selector, ExceptionVector.InvalidTss, 0, out Descriptor descriptor, out _))
        {
            return false;
        }

        if (!descriptor.IsSystem || descriptor.Type != SystemDescriptorType.LocalDescriptorTable || !descriptor.Present)
        {
            return Refuse(ExceptionVector.InvalidTss, error);
        }

        FillSegment(&State->Ldtr, selector, descriptor);
        return true;
    }

    private bool TryLoadTaskCode(ushort selector)
    {
        uint error = selector & 0xFFFCu;
        if (error == 0)
        {
            return Refuse(ExceptionVector.InvalidTss);
        }

        if (!TryReadDescriptor(selector, ExceptionVector.InvalidTss, 0, out Descriptor code, out ulong address))
        {
            return false;
        }

        int rpl = selector & 3;
        if (!code.IsCode || (code.IsConformingCode ? code.Dpl > rpl : code.Dpl != rpl))
        {
            return Refuse(ExceptionVector.InvalidTss, error);
        }

        if (!code.Present)
        {
            return Refuse(ExceptionVector.SegmentNotPresent, error);
        }

        if (!TrySetAccessed(address, ref code))
        {
            return false;
        }

        SetCode(selector, code, rpl);
        return true;
    }

    private bool TryLoadTaskStack(ushort selector)
    {
        uint error = selector & 0xFFFCu;
        if (error == 0)
        {
            return Refuse(ExceptionVector.InvalidTss);
        }

        if (!TryReadDescriptor(selector, ExceptionVector.InvalidTss, 0, out Descriptor stack, out ulong address))
        {
            return false;
        }

        if (!IsUsableStack(stack, selector, State->Cpl))
        {
            return Refuse(ExceptionVector.InvalidTss, error);
        }

        if (!stack.Present)
        {
            return Refuse(ExceptionVector.StackFault, error);
        }

        if (!TrySetAccessed(address, ref stack))
        {
            return false;
        }

        FillSegment(&State->Ss, selector, stack);
        return true;
    }

    private bool TryLoadTaskData(Segment* segment)
    {
        ushort selector = segment->Selector;
        uint error = selector & 0xFFFCu;
        if (error == 0)
        {
            return true;
        }

        if (!TryReadDescriptor(selector, ExceptionVector.InvalidTss, 0, out Descriptor data, out ulong address))
        {
            return false;
        }

        if (!IsUsableData(data, selector, State->Cpl))
        {
            return Refuse(ExceptionVector.InvalidTss, error);
        }

        if (!data.Present)
        {
            return Refuse(ExceptionVector.SegmentNotPresent, error);
        }

        if (!TrySetAccessed(address, ref data))
        {
            return false;
        }

        FillSegment(segment, selector, data);
        return true;
    }
}
