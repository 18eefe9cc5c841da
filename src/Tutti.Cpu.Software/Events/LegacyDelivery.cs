using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>
/// Interrupts and exceptions outside long mode: real mode's vector table, gates of protected mode, virtual-8086 mode with its redirection
/// bitmap. Source: Intel SDM volume 3, chapters "Interrupt and Exception Handling" and "8086 Emulation".
/// </summary>
internal sealed unsafe class LegacyDelivery
{
    private readonly CpuState* _state;
    private readonly DescriptorTables _tables;
    private readonly StackFrames _frames;
    private readonly TaskSwitch _tasks;

    public LegacyDelivery(CpuState* state, DescriptorTables tables, StackFrames frames, TaskSwitch tasks)
    {
        _state = state;
        _tables = tables;
        _frames = frames;
        _tasks = tasks;
    }

    public bool TryDeliverReal(int vector, ulong returnRip)
    {
        uint offset = (uint)vector * 4;
        if (offset + 3 > _state->Idtr.Limit)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        return _tables.TryReadTable(_state->Idtr.Base + offset, out uint pointer)
            && TryEnterRealHandler(pointer, returnRip, LazyFlags.Get(_state), Rflags.Interrupt | Rflags.Trap | Rflags.AlignmentCheck | Rflags.Resume);
    }

    /// <summary>Pushes FLAGS, CS and IP as the 8086 does and goes to a pointer of its vector table.</summary>
    private bool TryEnterRealHandler(uint pointer, ulong returnRip, ulong flagsImage, ulong cleared)
    {
        // SAFETY: each callee is told how many items there are; the largest frame, out of virtual-8086 mode with an error code, has 10.
        ulong* items = stackalloc ulong[3] { flagsImage, _state->Cs.Selector, returnRip };
        if (!_frames.TryPushItems(&_state->Ss, _state->StackMask, _state->Gpr[4], items, 3, 2, false, 0, out ulong rsp))
        {
            return false;
        }

        Stack.SetPointer(_state, rsp);
        _state->Flags = LazyFlags.Get(_state) & ~cleared;
        _state->Cs.Selector = (ushort)(pointer >> 16);
        _state->Cs.Base = (ulong)_state->Cs.Selector << 4;
        _state->Rip = (ushort)pointer;
        return true;
    }

    public bool TryDeliverProtected(int vector, bool pushesError, uint error, EventSource source, ulong returnRip, ulong resume)
    {
        if (_state->IsVirtual8086 && source == EventSource.Software)
        {
            if (!TryRedirect(vector, returnRip, out bool redirected) || redirected)
            {
                return redirected;
            }
        }

        uint external = source >= EventSource.Breakpoint ? 0u : 1u;
        uint gateError = ((uint)vector * 8) + 2 + external;
        uint offset = (uint)vector * 8;
        if (offset + 7 > _state->Idtr.Limit)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection, gateError);
        }

        if (!_tables.TryReadTable(_state->Idtr.Base + offset, out ulong raw))
        {
            return false;
        }

        var gate = new Descriptor(raw);
        bool known = gate.Type is SystemDescriptorType.TaskGate or SystemDescriptorType.InterruptGate16 or SystemDescriptorType.TrapGate16
            or SystemDescriptorType.InterruptGate or SystemDescriptorType.TrapGate;
        if (!gate.IsSystem || !known || (source >= EventSource.Breakpoint && gate.Dpl < _state->Cpl))
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection, gateError);
        }

        if (!gate.Present)
        {
            return Faults.Refuse(_state, ExceptionVector.SegmentNotPresent, gateError);
        }

        return gate.Type == SystemDescriptorType.TaskGate
            ? _tasks.TryInterruptToTask(gate.GateSelector, pushesError, error, external, returnRip, resume)
            : TryInterruptThroughGate(gate, pushesError, error, external, returnRip, resume);
    }

    private bool TryInterruptThroughGate(Descriptor gate, bool pushesError, uint error, uint external, ulong returnRip, ulong resume)
    {
        if (!_tables.TryReadGateTarget(gate.GateSelector, external, out Descriptor code))
        {
            return false;
        }

        bool virtual8086 = _state->IsVirtual8086;
        int cpl = code.IsConformingCode ? _state->Cpl : code.Dpl;
        bool is32 = (gate.Type & 8) != 0;
        ulong rip = is32 ? gate.GateOffset : (ushort)gate.GateOffset;
        if (virtual8086 && cpl != 0)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection, (gate.GateSelector & 0xFFFCu) | external);
        }

        Segment stack = _state->Ss;
        ulong mask = _state->StackMask;
        ulong top = _state->Gpr[4];
        bool inner = cpl < _state->Cpl;
        if (inner && !_frames.TryFindInnerStack(cpl, external, out stack, out mask, out top))
        {
            return false;
        }

        if (rip > code.Limit)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection, external);
        }

        ulong flags = LazyFlags.Get(_state);
        ulong* items = stackalloc ulong[10];
        int count = 0;
        if (virtual8086)
        {
            items[count++] = _state->Gs.Selector;
            items[count++] = _state->Fs.Selector;
            items[count++] = _state->Ds.Selector;
            items[count++] = _state->Es.Selector;
        }

        if (inner)
        {
            items[count++] = _state->Ss.Selector;
            items[count++] = _state->Gpr[4];
        }

        items[count++] = flags | resume;
        items[count++] = _state->Cs.Selector;
        items[count++] = returnRip;
        if (pushesError)
        {
            items[count++] = error;
        }

        uint stackError = (inner ? stack.Selector & 0xFFFCu : 0) | external;
        if (!_frames.TryPushItems(&stack, mask, top, items, count, is32 ? 4 : 2, inner, stackError, out top))
        {
            return false;
        }

        _frames.EnterInnerLevel(gate.GateSelector, code, cpl, stack, mask, top & mask);
        if (virtual8086)
        {
            SegmentLoader.ClearSegment(&_state->Es, 0);
            SegmentLoader.ClearSegment(&_state->Ds, 0);
            SegmentLoader.ClearSegment(&_state->Fs, 0);
            SegmentLoader.ClearSegment(&_state->Gs, 0);
        }

        _state->Rip = rip;
        bool interruptGate = gate.Type is SystemDescriptorType.InterruptGate or SystemDescriptorType.InterruptGate16;
        _state->Flags = flags & ~(EventDelivery.ClearedByDelivery | (interruptGate ? Rflags.Interrupt : 0));
        return true;
    }

    /// <summary>
    /// INT n in virtual-8086 mode: with VME the bitmap below the I/O map may send it straight to the 8086 vector table; else
    /// IOPL must be 3. False after a fault, and with <paramref name="redirected"/> when the gate is to be used.
    /// </summary>
    private bool TryRedirect(int vector, ulong returnRip, out bool redirected)
    {
        redirected = false;
        bool redirects = false;
        if ((_state->Cr4 & Cr4.Virtual8086Extensions) != 0 && !TryReadRedirection(vector, out redirects))
        {
            return false;
        }

        if (!redirects)
        {
            return _state->Iopl == 3 || Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        if (!GuestAccess.Read<W32>(_state, (ulong)vector * 4, out ulong pointer))
        {
            return false;
        }

        ulong flags = LazyFlags.Get(_state);
        ulong cleared = Rflags.Trap | Rflags.Resume | Rflags.NestedTask;
        if (_state->Iopl < 3)
        {
            // The handler sees VIF as IF; clearing "IF" clears VIF.
            flags = (flags & ~Rflags.Interrupt) | Rflags.Iopl | ((flags & Rflags.VirtualInterrupt) != 0 ? Rflags.Interrupt : 0);
            cleared |= Rflags.VirtualInterrupt;
        }
        else
        {
            cleared |= Rflags.Interrupt;
        }

        redirected = TryEnterRealHandler((uint)pointer, returnRip, flags, cleared);
        return redirected;
    }

    /// <summary>Reads the bit of a vector in the software interrupt redirection bitmap, the 32 bytes below the I/O map; clear redirects.</summary>
    private bool TryReadRedirection(int vector, out bool redirects)
    {
        redirects = false;
        bool is32 = (_state->Tr.Attributes & 8) != 0;
        if (!is32 || _state->Tr.Limit < DescriptorTables.IoMapBase + 1)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        if (!_tables.TryReadTable(_state->Tr.Base + DescriptorTables.IoMapBase, out ushort mapBase))
        {
            return false;
        }

        uint offset = (uint)mapBase - 32 + ((uint)vector >> 3);
        if (mapBase < 32 || offset > _state->Tr.Limit)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        if (!_tables.TryReadTable(_state->Tr.Base + offset, out byte bits))
        {
            return false;
        }

        redirects = (bits & (1 << (vector & 7))) == 0;
        return true;
    }
}
