using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>Hardware task switching, outside long mode. Source: Intel SDM volume 3, chapter "Task Management".</summary>
public sealed unsafe class TaskSwitch
{
    /// <summary>Bytes of a TSS that a switch reads: the static part, without the I/O map.</summary>
    private const int Tss32Size = 104;
    private const int Tss16Size = 44;

    /// <summary>Offset of EIP (IP): where the dynamic part, which a switch saves, begins.</summary>
    private const int Tss32Eip = 32;
    private const int Tss16Ip = 14;
    private const int Tss32Ldt = 96;
    private const int Tss16Ldt = 42;

    private readonly CpuState* _state;
    private readonly PendingEvents _pending;
    private readonly Tlb _tlb;
    private readonly LoadStoreUnit _loadStore;
    private readonly DebugUnit _debug;
    private readonly OperatingMode _mode;
    private readonly DescriptorTables _tables;
    private readonly SegmentLoader _segments;
    private readonly StackFrames _frames;

    private bool _switchedTask;
    private bool _taskTrap;

    internal TaskSwitch(
        CpuState* state, PendingEvents pending, Tlb tlb, LoadStoreUnit loadStore, DebugUnit debug, OperatingMode mode,
        DescriptorTables tables, SegmentLoader segments, StackFrames frames)
    {
        _state = state;
        _pending = pending;
        _tlb = tlb;
        _loadStore = loadStore;
        _debug = debug;
        _mode = mode;
        _tables = tables;
        _segments = segments;
        _frames = frames;
    }

    /// <summary>A transfer begins that may switch tasks: none has yet.</summary>
    internal void Begin() => _switchedTask = false;

    /// <summary>Whether the transfer that just failed had already switched tasks: its fault belongs to the new task.</summary>
    public bool TakeSwitchedTask()
    {
        bool switched = _switchedTask;
        _switchedTask = false;
        return switched;
    }

    /// <summary>A far JMP or CALL to something that is neither code nor call gate: a TSS or a task gate.</summary>
    internal bool TryTransferToTask(ushort selector, Descriptor target, TaskSwitchCause cause, ulong nextRip)
    {
        _switchedTask = false;
        uint error = selector & 0xFFFCu;
        bool gate = target.Type == SystemDescriptorType.TaskGate;
        bool tss = target.Type is SystemDescriptorType.AvailableTss or SystemDescriptorType.AvailableTss16;
        if (_state->IsLongMode || (!gate && !tss) || target.Dpl < _state->Cpl || target.Dpl < (selector & 3))
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection, error);
        }

        if (!target.Present)
        {
            return Faults.Refuse(_state, ExceptionVector.SegmentNotPresent, error);
        }

        ushort tssSelector = gate ? target.GateSelector : selector;
        return TryReadTss(tssSelector, 0, out Descriptor descriptor, out ulong address)
            && TrySwitchTask(tssSelector, descriptor, address, cause, nextRip, 0)
            && FinishTaskSwitch();
    }

    /// <summary>An interrupt or exception through a task gate; pushes the error code in the new task.</summary>
    internal bool TryInterruptToTask(ushort selector, bool pushesError, uint error, uint external, ulong returnRip, ulong resume)
    {
        if (!TryReadTss(selector, external, out Descriptor descriptor, out ulong address)
            || !TrySwitchTask(selector, descriptor, address, TaskSwitchCause.Call, returnRip, resume))
        {
            return false;
        }

        if (pushesError)
        {
            _mode.Update();
            ulong item = error;
            int size = (descriptor.Type & 8) != 0 ? 4 : 2;
            if (!_frames.TryPushItems(&_state->Ss, _state->StackMask, _state->Gpr[4], &item, 1, size, false, external, out ulong rsp))
            {
                return false;
            }

            Stack.SetPointer(_state, rsp);
        }

        return FinishTaskSwitch();
    }

    /// <summary>IRET with NT set: back to the task that the link names.</summary>
    internal bool TryReturnToTask(ulong nextRip)
    {
        _switchedTask = false;
        if (!_tables.TryReadTable(_state->Tr.Base, out ushort link))
        {
            return false;
        }

        uint error = link & 0xFFFCu;
        if ((link & 4) != 0 || !_tables.TryReadDescriptor(link, ExceptionVector.InvalidTss, 0, out Descriptor descriptor, out ulong address))
        {
            return (link & 4) != 0 && Faults.Refuse(_state, ExceptionVector.InvalidTss, error);
        }

        if (!descriptor.IsSystem || descriptor.Type is not (SystemDescriptorType.BusyTss or SystemDescriptorType.BusyTss16))
        {
            return Faults.Refuse(_state, ExceptionVector.InvalidTss, error);
        }

        if (!descriptor.Present)
        {
            return Faults.Refuse(_state, ExceptionVector.SegmentNotPresent, error);
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
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection, error);
        }

        if (!_tables.TryReadDescriptor(selector, ExceptionVector.GeneralProtection, external, out descriptor, out address))
        {
            return false;
        }

        if (!descriptor.IsSystem || descriptor.Type is not (SystemDescriptorType.AvailableTss or SystemDescriptorType.AvailableTss16))
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection, error);
        }

        return descriptor.Present || Faults.Refuse(_state, ExceptionVector.SegmentNotPresent, error);
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
            return Faults.Refuse(_state, ExceptionVector.InvalidTss, selector & 0xFFFCu);
        }

        // SAFETY: a 32-bit TSS is the larger one, and no more than its size is read or appended.
        byte* image = stackalloc byte[Tss32Size];
        bool was32 = (_state->Tr.Attributes & 8) != 0;
        int oldSize = was32 ? Tss32Size : Tss16Size;

        // Every page that the switch touches is checked before anything changes.
        if (!_loadStore.TryAccess((uint)descriptor.Base, size, image, Access.System)
            || !_loadStore.TryAccess((uint)_state->Tr.Base, oldSize, null, Access.System | Access.Write | Access.Probe)
            || (cause == TaskSwitchCause.Call && !_loadStore.TryAccess((uint)descriptor.Base, 2, null, Access.System | Access.Write | Access.Probe))
            || !_loadStore.TryAccess((uint)address, 8, null, Access.System | Access.Write | Access.Probe))
        {
            return false;
        }

        ulong flags = LazyFlags.Get(_state) | resume;
        flags &= cause == TaskSwitchCause.Return ? ~Rflags.NestedTask : ulong.MaxValue;
        if (!TrySaveTask(was32, flags, nextRip)
            || (cause != TaskSwitchCause.Call && !TrySetBusy(_state->Tr.Selector, false))
            || (cause != TaskSwitchCause.Return && !_tables.TryWriteTable(address + 5, (byte)((descriptor.Raw >> 40) | 2)))
            || (cause == TaskSwitchCause.Call && !_tables.TryWriteTable(descriptor.Base, _state->Tr.Selector)))
        {
            return false;
        }

        _switchedTask = true;
        SegmentLoader.FillSegment(&_state->Tr, selector, new Descriptor(descriptor.Raw | (1UL << 41)));
        _state->Cr0 |= Cr0.TaskSwitched;
        _state->Dr[7] &= ~Dr7.LocalEnables;
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
            Append(image, ref position, is32, _state->Gpr[i]);
        }

        // ES, CS, SS, DS; a 32-bit TSS also has FS and GS.
        for (int i = 0; i < (is32 ? 6 : 4); i++)
        {
            Append(image, ref position, is32, CpuState.SegmentOf(_state, i)->Selector);
        }

        ulong address = _state->Tr.Base + (is32 ? (ulong)Tss32Eip : Tss16Ip);
        return _loadStore.TryAccess((uint)address, position, image, Access.System | Access.Write);
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
        ulong address = _state->Gdtr.Base + (selector & 0xFFF8u) + 5;
        return _tables.TryReadTable(address, out byte access) && _tables.TryWriteTable(address, (byte)(busy ? access | 2 : access & ~2));
    }

    /// <summary>CR3, EIP, EFLAGS, the general registers and all selectors; the segments behind them come later.</summary>
    private void LoadTaskRegisters(byte* image, bool is32, bool nested)
    {
        if (is32 && (_state->Cr0 & Cr0.Paging) != 0)
        {
            _state->Cr3 = *(uint*)(image + 28);
            _tlb.Flush();
        }

        int position = is32 ? Tss32Eip : Tss16Ip;
        _state->Rip = Take(image, ref position, is32);
        ulong flags = Take(image, ref position, is32);
        _state->Flags = (flags & Rflags.Defined) | Rflags.AlwaysOne | (nested ? Rflags.NestedTask : 0);
        _state->FlagKind = FlagKind.Eager;
        for (int i = 0; i < 8; i++)
        {
            _state->Gpr[i] = Take(image, ref position, is32);
        }

        for (int i = 0; i < 6; i++)
        {
            ushort selector = i < 4 || is32 ? (ushort)Take(image, ref position, is32) : (ushort)0;
            SegmentLoader.ClearSegment(CpuState.SegmentOf(_state, i), selector);
        }

        SegmentLoader.ClearSegment(&_state->Ldtr, *(ushort*)(image + (is32 ? Tss32Ldt : Tss16Ldt)));
        _state->Cpl = _state->IsVirtual8086 ? 3 : _state->Cs.Selector & 3;
    }

    private static uint Take(byte* image, ref int position, bool is32)
    {
        uint value = is32 ? *(uint*)(image + position) : *(ushort*)(image + position);
        position += is32 ? 4 : 2;
        return value;
    }

    private bool TryLoadTaskSegments(byte* image, bool is32)
    {
        if (!TryLoadTaskLdt(_state->Ldtr.Selector))
        {
            _mode.Update();
            return false;
        }

        if (_state->IsVirtual8086)
        {
            for (int i = 0; i < 6; i++)
            {
                Segment* segment = CpuState.SegmentOf(_state, i);
                SegmentLoader.FillRealSegment(segment, segment->Selector, true);
            }
        }
        else if (!TryLoadTaskCode(_state->Cs.Selector) || !TryLoadTaskStack(_state->Ss.Selector)
            || !TryLoadTaskData(&_state->Es) || !TryLoadTaskData(&_state->Ds) || !TryLoadTaskData(&_state->Fs) || !TryLoadTaskData(&_state->Gs))
        {
            _mode.Update();
            return false;
        }

        _mode.Update();
        if (_state->Rip > _state->Cs.Limit)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        // T, bit 0 of the word at 100: #DB before the task's first instruction.
        _taskTrap = is32 && (image[100] & 1) != 0;
        return true;
    }

    private bool FinishTaskSwitch()
    {
        _switchedTask = false;
        _debug.KeepResumeFlag();
        _mode.Update();
        if (_taskTrap)
        {
            _taskTrap = false;
            _debug.RaiseDebug(Dr6.TaskSwitch);
        }

        _pending.LookAgain();
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
            return Faults.Refuse(_state, ExceptionVector.InvalidTss, error);
        }

        if (!_tables.TryReadDescriptor(selector, ExceptionVector.InvalidTss, 0, out Descriptor descriptor, out _))
        {
            return false;
        }

        if (!descriptor.IsSystem || descriptor.Type != SystemDescriptorType.LocalDescriptorTable || !descriptor.Present)
        {
            return Faults.Refuse(_state, ExceptionVector.InvalidTss, error);
        }

        SegmentLoader.FillSegment(&_state->Ldtr, selector, descriptor);
        return true;
    }

    private bool TryLoadTaskCode(ushort selector)
    {
        uint error = selector & 0xFFFCu;
        if (error == 0)
        {
            return Faults.Refuse(_state, ExceptionVector.InvalidTss);
        }

        if (!_tables.TryReadDescriptor(selector, ExceptionVector.InvalidTss, 0, out Descriptor code, out ulong address))
        {
            return false;
        }

        int rpl = selector & 3;
        if (!code.IsCode || (code.IsConformingCode ? code.Dpl > rpl : code.Dpl != rpl))
        {
            return Faults.Refuse(_state, ExceptionVector.InvalidTss, error);
        }

        if (!code.Present)
        {
            return Faults.Refuse(_state, ExceptionVector.SegmentNotPresent, error);
        }

        if (!_tables.TrySetAccessed(address, ref code))
        {
            return false;
        }

        _segments.SetCode(selector, code, rpl);
        return true;
    }

    private bool TryLoadTaskStack(ushort selector)
    {
        uint error = selector & 0xFFFCu;
        if (error == 0)
        {
            return Faults.Refuse(_state, ExceptionVector.InvalidTss);
        }

        if (!_tables.TryReadDescriptor(selector, ExceptionVector.InvalidTss, 0, out Descriptor stack, out ulong address))
        {
            return false;
        }

        if (!SegmentLoader.IsUsableStack(stack, selector, _state->Cpl))
        {
            return Faults.Refuse(_state, ExceptionVector.InvalidTss, error);
        }

        if (!stack.Present)
        {
            return Faults.Refuse(_state, ExceptionVector.StackFault, error);
        }

        if (!_tables.TrySetAccessed(address, ref stack))
        {
            return false;
        }

        SegmentLoader.FillSegment(&_state->Ss, selector, stack);
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

        if (!_tables.TryReadDescriptor(selector, ExceptionVector.InvalidTss, 0, out Descriptor data, out ulong address))
        {
            return false;
        }

        if (!SegmentLoader.IsUsableData(data, selector, _state->Cpl))
        {
            return Faults.Refuse(_state, ExceptionVector.InvalidTss, error);
        }

        if (!data.Present)
        {
            return Faults.Refuse(_state, ExceptionVector.SegmentNotPresent, error);
        }

        if (!_tables.TrySetAccessed(address, ref data))
        {
            return false;
        }

        SegmentLoader.FillSegment(segment, selector, data);
        return true;
    }
}
