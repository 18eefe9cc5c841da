using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>IRET in all modes. Sources: Intel SDM volume 2, "IRET/IRETD/IRETQ"; AMD APM volume 3, "IRET".</summary>
public sealed unsafe class InterruptReturns
{
    private readonly CpuState* _state;
    private readonly PendingEvents _pending;
    private readonly Breakpoints _breakpoints;
    private readonly DebugUnit _debug;
    private readonly OperatingMode _mode;
    private readonly DescriptorTables _tables;
    private readonly SegmentLoader _segments;
    private readonly StackFrames _frames;
    private readonly TaskSwitch _tasks;
    private readonly FarTransfers _transfers;
    private readonly FarReturns _returns;

    internal InterruptReturns(
        CpuState* state, PendingEvents pending, Breakpoints breakpoints, DebugUnit debug, OperatingMode mode, DescriptorTables tables,
        SegmentLoader segments, StackFrames frames, TaskSwitch tasks, FarTransfers transfers, FarReturns returns)
    {
        _state = state;
        _pending = pending;
        _breakpoints = breakpoints;
        _debug = debug;
        _mode = mode;
        _tables = tables;
        _segments = segments;
        _frames = frames;
        _tasks = tasks;
        _transfers = transfers;
        _returns = returns;
    }

    /// <summary>Who is told of plain returns by IRETQ; null where nobody wants to know.</summary>
    internal IReturnObserver? Observer { get; set; }

    /// <summary>Returns from an interrupt; <paramref name="size"/> is the operand size in bytes. False, and nothing changed, after a fault.</summary>
    public bool TryReturnFromInterrupt(int size, ulong nextRip)
    {
        bool done = !_state->IsProtected || _state->IsVirtual8086 ? TryReturnReal(size)
            : !_state->IsLongMode && (_state->Flags & Rflags.NestedTask) != 0 ? _tasks.TryReturnToTask(nextRip)
            : TryReturnProtected(size);
        if (done)
        {
            // NMIs come again even where the return was not from theirs.
            _pending.IsNmiBlocked = false;
            _debug.KeepResumeFlag();
            if ((_state->Flags & Rflags.Resume) != 0 && !_breakpoints.IsAnyOnCode)
            {
                _state->Flags &= ~Rflags.Resume;
            }

            _mode.Update();
            _pending.LookAgain();
        }

        return done;
    }

    private bool TryReturnProtected(int size)
    {
        if ((_state->Flags & Rflags.NestedTask) != 0)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        if (!_frames.TryPeekStack(size, 0, out ulong rip) || !_frames.TryPeekStack(size, 1, out ulong cs) || !_frames.TryPeekStack(size, 2, out ulong flags))
        {
            return false;
        }

        if (!_state->IsLongMode && size == 4 && (flags & Rflags.Virtual8086) != 0 && _state->Cpl == 0)
        {
            return TryReturnToVirtual8086(rip, cs, flags);
        }

        ushort selector = (ushort)cs;
        if (!_returns.TryReadReturnCode(selector, out Descriptor code, out ulong address))
        {
            return false;
        }

        int cpl = selector & 3;
        bool movesStack = _state->Is64BitMode || cpl > _state->Cpl;
        ulong rsp = 0;
        ulong ss = 0;
        if (movesStack && (!_frames.TryPeekStack(size, 3, out rsp) || !_frames.TryPeekStack(size, 4, out ss)))
        {
            return false;
        }

        Descriptor stack = default;
        ulong stackAddress = 0;
        if (movesStack && !_returns.TryReadReturnStack((ushort)ss, selector, code, out stack, out stackAddress))
        {
            return false;
        }

        if (!_segments.IsReachable(code, _state->IsLongMode, rip))
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        if (!_tables.TrySetAccessed(address, ref code) || (movesStack && stack.Raw != 0 && !_tables.TrySetAccessed(stackAddress, ref stack)))
        {
            return false;
        }

        bool outer = cpl > _state->Cpl;
        if (size == 8 && code.IsLong && _state->Cpl == 0 && cpl is 0 or 3 && ((selector | ss) & 4) == 0 && _state->Is64BitMode)
        {
            Observer?.NoteReturn(selector, (ushort)ss, code, stack);
        }

        ulong changeable = ChangeableByReturn(size);
        if (!movesStack)
        {
            Stack.Move(_state, 3 * size);
        }

        _segments.SetCode(selector, code, cpl);
        if (movesStack)
        {
            _returns.SetReturnStack((ushort)ss, stack, rsp);
        }

        if (outer)
        {
            _segments.DropInnerSegments();
        }

        _state->Rip = rip;
        LazyFlags.Replace(_state, flags, changeable);
        return true;
    }

    /// <summary>
    /// Whether IRETQ changes nothing but RIP, RSP, RFLAGS, CS, SS and the level, apart from what it reads: no NMI has been blocked, no
    /// breakpoint waits for RF, no data segment is one that user code must not have. Not at levels 1 and 2.
    /// </summary>
    public bool ReturnsPlainly => !_pending.IsNmiBlocked && !_breakpoints.IsAnyEnabled && _state->Cpl is 0 or 3
        && !(SegmentLoader.IsInner(&_state->Es) || SegmentLoader.IsInner(&_state->Ds) || SegmentLoader.IsInner(&_state->Fs) || SegmentLoader.IsInner(&_state->Gs));

    /// <summary>What a return that <see cref="IReturnObserver.NoteReturn"/> has been told of makes of CS, SS and the level.</summary>
    public void SetReturned(ushort code, ushort stack, Descriptor codeDescriptor, Descriptor stackDescriptor)
    {
        _segments.SetCode(code, codeDescriptor, code & 3);
        _returns.SetReturnStack(stack, stackDescriptor, _state->Gpr[4]);
        _mode.Update();
    }

    /// <summary>The RFLAGS bits that IRET may change at the current level.</summary>
    private ulong ChangeableByReturn(int size)
    {
        ulong mask = Rflags.Arithmetic | Rflags.Trap | Rflags.Direction | Rflags.NestedTask;
        if (size > 2)
        {
            mask |= Rflags.Resume | Rflags.AlignmentCheck | Rflags.Identification;
            mask |= _state->Cpl == 0 ? Rflags.VirtualInterrupt | Rflags.VirtualInterruptPending : 0;
        }

        mask |= _state->Cpl <= _state->Iopl ? Rflags.Interrupt : 0;
        mask |= _state->Cpl == 0 ? Rflags.Iopl : 0;
        return mask;
    }

    /// <summary>IRET in real and virtual-8086 mode.</summary>
    private bool TryReturnReal(int size)
    {
        bool virtual8086 = _state->IsVirtual8086;
        bool usesVirtual = virtual8086 && _state->Iopl < 3;
        if (usesVirtual && (size != 2 || (_state->Cr4 & Cr4.Virtual8086Extensions) == 0))
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        if (!_frames.TryPeekStack(size, 0, out ulong rip) || !_frames.TryPeekStack(size, 1, out ulong cs) || !_frames.TryPeekStack(size, 2, out ulong flags))
        {
            return false;
        }

        ulong mask = Rflags.Arithmetic | Rflags.Trap | Rflags.Direction | Rflags.NestedTask;
        mask |= size > 2 ? Rflags.Resume | Rflags.AlignmentCheck | Rflags.Identification : 0;
        if (usesVirtual)
        {
            bool sets = (flags & Rflags.Interrupt) != 0;
            if ((flags & Rflags.Trap) != 0 || (sets && (_state->Flags & Rflags.VirtualInterruptPending) != 0))
            {
                return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
            }

            flags = (flags & 0xFFFF) | (sets ? Rflags.VirtualInterrupt : 0);
            mask |= Rflags.VirtualInterrupt;
        }
        else
        {
            mask |= Rflags.Interrupt | (virtual8086 ? 0 : Rflags.Iopl);
        }

        if (rip > _state->Cs.Limit)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        Stack.Move(_state, 3 * size);
        LazyFlags.Replace(_state, flags, mask);
        return _transfers.TryEnterRealCode((ushort)cs, rip);
    }

    /// <summary>IRETD at level 0 to an image with VM set.</summary>
    private bool TryReturnToVirtual8086(ulong rip, ulong cs, ulong flags)
    {
        // SAFETY: six items, each of which is read below.
        ulong* items = stackalloc ulong[6];
        for (int i = 0; i < 6; i++)
        {
            if (!_frames.TryPeekStack(4, 3 + i, out items[i]))
            {
                return false;
            }
        }

        if (rip > 0xFFFF)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        LazyFlags.Replace(_state, flags, Rflags.Defined);
        SegmentLoader.FillRealSegment(&_state->Cs, (ushort)cs, true);
        SegmentLoader.FillRealSegment(&_state->Ss, (ushort)items[1], true);
        SegmentLoader.FillRealSegment(&_state->Es, (ushort)items[2], true);
        SegmentLoader.FillRealSegment(&_state->Ds, (ushort)items[3], true);
        SegmentLoader.FillRealSegment(&_state->Fs, (ushort)items[4], true);
        SegmentLoader.FillRealSegment(&_state->Gs, (ushort)items[5], true);
        _state->Gpr[4] = (uint)items[0];
        _state->Rip = rip;
        _state->Cpl = 3;
        return true;
    }
}
