using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>
/// Single-stepping, breakpoints and interrupt shadows. While any of them is on, Attention.Step makes the run loop take one
/// instruction at a time between <see cref="TryBeginStep"/> and <see cref="AfterStep"/>. Source: Intel SDM volume 3, chapter "Debug".
/// </summary>
internal sealed unsafe partial class SoftwareProcessor
{
    /// <summary>After STI: interrupts wait.</summary>
    public const int ShadowOfSti = 1;

    /// <summary>After a load of SS: interrupts and debug exceptions wait.</summary>
    public const int ShadowOfStackLoad = 2;

    /// <summary>RFLAGS.TF was set when the instruction began, and nothing since took the trap away.</summary>
    private bool _trapAfterStep;

    private bool _shadowBeforeStep;

    /// <summary>Between <see cref="TryBeginStep"/> and <see cref="AfterStep"/>, which raises what traps there are.</summary>
    private bool _isStepping;

    /// <summary>The running instruction loaded RF itself (IRET, a task switch), so it stays for the next one.</summary>
    private bool _keepsResumeFlag;

    private ulong _countBeforeStep;

    /// <summary>B0 to B3 of data and port breakpoints that the running instruction has hit.</summary>
    private ulong _breakpointHits;

    /// <summary>Hits of a load of SS, which are told behind the next instruction.</summary>
    private ulong _heldHits;

    private bool HasBreakpoints => (State->Dr[7] & Dr7.EnableMask) != 0;

    private bool HasCodeBreakpoints
    {
        get
        {
            ulong dr7 = State->Dr[7];
            for (int i = 0; HasBreakpoints && i < 4; i++)
            {
                if (Dr7.IsEnabled(dr7, i) && Dr7.Condition(dr7, i) == 0)
                {
                    return true;
                }
            }

            return false;
        }
    }

    /// <summary>Keeps Attention.Step set exactly while something needs it.</summary>
    private void UpdateStepping()
    {
        bool needed = (State->Flags & Rflags.Trap) != 0 || State->InterruptShadow != 0 || HasBreakpoints;
        int attention = Volatile.Read(ref State->Attention);
        if (needed && (attention & Interpreter.Attention.Step) == 0)
        {
            Interlocked.Or(ref State->Attention, Interpreter.Attention.Step);
        }
        else if (!needed && (attention & Interpreter.Attention.Step) != 0)
        {
            Clear(Interpreter.Attention.Step);
        }
    }

    /// <summary>Called before the one instruction of a step; false after #DB for a code breakpoint.</summary>
    private bool TryBeginStep()
    {
        CpuState* state = State;
        _isStepping = true;
        _breakpointHits = 0;
        _keepsResumeFlag = false;
        _countBeforeStep = state->InstructionCount;
        _trapAfterStep = (state->Flags & Rflags.Trap) != 0;
        _shadowBeforeStep = state->InterruptShadow != 0;
        if (!HasBreakpoints || (state->Flags & Rflags.Resume) != 0 || state->InterruptShadow == ShadowOfStackLoad)
        {
            return true;
        }

        ulong linear = Is64BitMode ? state->Rip : (uint)(state->Cs.Base + state->Rip);
        ulong hits = FindBreakpoints(linear, 1, 0, 0);
        if (hits == 0)
        {
            return true;
        }

        RaiseDebug(hits);
        return false;
    }

    /// <summary>Called after the one instruction of a step: ends the shadow, raises #DB for traps.</summary>
    private void AfterStep()
    {
        CpuState* state = State;
        if (_shadowBeforeStep)
        {
            state->InterruptShadow = 0;
        }

        if (state->FaultVector == NothingPending)
        {
            if (state->InstructionCount != _countBeforeStep && !_keepsResumeFlag)
            {
                state->Flags &= ~Rflags.Resume;
            }

            ulong hits = _heldHits | _breakpointHits | (_trapAfterStep ? Dr6.SingleStep : 0);
            bool holds = state->InterruptShadow == ShadowOfStackLoad;
            _heldHits = holds ? hits & ~Dr6.SingleStep : 0;
            if (hits != 0 && !holds)
            {
                RaiseDebug(hits);
            }
        }
        else
        {
            _heldHits = 0;
        }

        _breakpointHits = 0;
        _trapAfterStep = false;
        _isStepping = false;
        UpdateStepping();
        if (state->InterruptShadow == 0)
        {
            InterruptsEnabled();
        }
    }

    /// <summary>
    /// SYSCALL and SYSRET look at TF when they have loaded it, where other instructions trap by what it was when they began: the handler is
    /// not stepped into where SFMASK clears TF, and SYSRET with TF in R11 traps before the first instruction that it returns to, as if
    /// SYSCALL had just been stepped over.
    /// </summary>
    private void TrapByNewFlags()
    {
        bool traps = (State->Flags & Rflags.Trap) != 0;
        _trapAfterStep = traps && _isStepping;
        if (traps && !_isStepping)
        {
            RaiseDebug(Dr6.SingleStep);
        }
    }

    /// <summary>
    /// Notes the reasons in DR6 and raises #DB, which also turns general detect off. B0 to B3 tell of this one alone; the other bits stay until
    /// software clears them.
    /// </summary>
    private void RaiseDebug(ulong reasons)
    {
        State->Dr[6] = (State->Dr[6] & ~Dr6.BreakpointMask) | reasons;
        State->Dr[7] &= ~Dr7.GeneralDetect;
        RaiseFault(State, ExceptionVector.Debug, 0);
    }

    /// <summary>INT1 right behind a load of SS is the one #DB for itself and for what that load has hit; INT n and INT3 are not.</summary>
    private void TellHeldHits()
    {
        if (_heldHits != 0)
        {
            State->Dr[6] = (State->Dr[6] & ~Dr6.BreakpointMask) | _heldHits;
            _heldHits = 0;
        }
    }

    /// <summary>B0 to B3 of the enabled breakpoints with one of two conditions that [address, address+size) touches.</summary>
    private ulong FindBreakpoints(ulong address, int size, int condition, int otherCondition)
    {
        ulong dr7 = State->Dr[7];
        ulong hits = 0;
        for (int i = 0; i < 4; i++)
        {
            int wanted = Dr7.Condition(dr7, i);
            if (!Dr7.IsEnabled(dr7, i) || (wanted != condition && wanted != otherCondition))
            {
                continue;
            }

            ulong length = condition == 0 ? 1UL : (ulong)Dr7.Length(dr7, i);
            ulong start = State->Dr[i] & ~(length - 1);
            start = IsLongMode ? start : (uint)start;
            // Differences, so that the last page of the address space has an end.
            if (start - address < (ulong)size || address - start < length)
            {
                hits |= 1UL << i;
            }
        }

        return hits;
    }

    private void CheckWatchpoints(ulong linear, int size, bool write)
    {
        if (HasBreakpoints)
        {
            _breakpointHits |= FindBreakpoints(linear, size, 3, write ? 1 : 3);
        }
    }

    /// <summary>Port breakpoints, with CR4.DE.</summary>
    public void CheckPortBreakpoints(ushort port, int size)
    {
        if (HasBreakpoints && (State->Cr4 & Cr4.DebuggingExtensions) != 0)
        {
            _breakpointHits |= FindBreakpoints(port, size, 2, 2);
        }
    }

    /// <summary>Whether a data breakpoint lies in the page, so that accesses to it must take the slow path.</summary>
    private bool IsWatched(ulong linear) =>
        HasBreakpoints && FindBreakpoints(linear & ~0xFFFUL, 4096, 3, 1) != 0;

    /// <summary>MOV to or from DR0 to DR7: privilege, CR4.DE and general detect. False after a fault.</summary>
    public bool TryAccessDebugRegister(ref int index)
    {
        if (index is 4 or 5)
        {
            if ((State->Cr4 & Cr4.DebuggingExtensions) != 0)
            {
                return Refuse(ExceptionVector.InvalidOpcode);
            }

            index += 2;
        }

        if (State->Cpl != 0)
        {
            return Refuse(ExceptionVector.GeneralProtection);
        }

        if ((State->Dr[7] & Dr7.GeneralDetect) != 0)
        {
            RaiseDebug(Dr6.RegisterAccess);
            return false;
        }

        return true;
    }

    public bool TryWriteDebugRegister(int index, ulong value)
    {
        if (index >= 6 && value > uint.MaxValue)
        {
            return Refuse(ExceptionVector.GeneralProtection);
        }

        State->Dr[index] = index switch
        {
            6 => (value & Dr6.Writable) | Dr6.AlwaysOne,
            7 => (value & Dr7.Writable) | Dr7.AlwaysOne,
            _ => value,
        };

        // Watched pages must lose, and others regain, their TLB entries.
        if (index != 6)
        {
            FlushTlb();
            UpdateStepping();
        }

        return true;
    }
}
