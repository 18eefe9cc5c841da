using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>
/// Single-stepping, breakpoints and interrupt shadows. While any of them is on, Attention.Step makes the run loop take one instruction at a
/// time between <see cref="TryBeginStep"/> and <see cref="AfterStep"/>. Source: Intel SDM volume 3, chapter "Debug".
/// </summary>
public sealed unsafe class DebugUnit
{
    private readonly CpuState* _state;
    private readonly AttentionWord _attention;
    private readonly PendingEvents _pending;
    private readonly Breakpoints _breakpoints;
    private readonly Tlb _tlb;

    /// <summary>RFLAGS.TF was set when the instruction began, and nothing since took the trap away.</summary>
    private bool _trapAfterStep;
    private bool _shadowBeforeStep;

    /// <summary>Between <see cref="TryBeginStep"/> and <see cref="AfterStep"/>, which raises what traps there are.</summary>
    private bool _isStepping;

    /// <summary>The running instruction loaded RF itself (IRET, a task switch), so it stays for the next one.</summary>
    private bool _keepsResumeFlag;

    private ulong _countBeforeStep;

    /// <summary>Hits of a load of SS, which are told behind the next instruction.</summary>
    private ulong _heldHits;

    internal DebugUnit(CpuState* state, AttentionWord attention, PendingEvents pending, Breakpoints breakpoints, Tlb tlb)
    {
        _state = state;
        _attention = attention;
        _pending = pending;
        _breakpoints = breakpoints;
        _tlb = tlb;
    }

    /// <summary>The running instruction has loaded RF itself.</summary>
    internal void KeepResumeFlag() => _keepsResumeFlag = true;

    /// <summary>Delivery of an event takes the running instruction's trap away.</summary>
    internal void ForgetTrap() => _trapAfterStep = false;

    /// <summary>Reset, or registers from outside: nothing that was held is told any more.</summary>
    internal void ForgetHeldHits() => _heldHits = 0;

    /// <summary>Keeps Attention.Step set exactly while something needs it.</summary>
    public void UpdateStepping()
    {
        bool needed = (_state->Flags & Rflags.Trap) != 0 || _state->InterruptShadow != 0 || _breakpoints.IsAnyEnabled;
        int attention = _attention.Value;
        if (needed && (attention & Attention.Step) == 0)
        {
            _attention.Set(Attention.Step);
        }
        else if (!needed && (attention & Attention.Step) != 0)
        {
            _attention.Clear(Attention.Step);
        }
    }

    /// <summary>Called before the one instruction of a step; false after #DB for a code breakpoint.</summary>
    internal bool TryBeginStep()
    {
        CpuState* state = _state;
        _isStepping = true;
        _breakpoints.ForgetHits();
        _keepsResumeFlag = false;
        _countBeforeStep = state->InstructionCount;
        _trapAfterStep = (state->Flags & Rflags.Trap) != 0;
        _shadowBeforeStep = state->InterruptShadow != 0;
        if (!_breakpoints.IsAnyEnabled || (state->Flags & Rflags.Resume) != 0 || state->InterruptShadow == PendingEvents.ShadowOfStackLoad)
        {
            return true;
        }

        ulong linear = _state->Is64BitMode ? state->Rip : (uint)(state->Cs.Base + state->Rip);
        ulong hits = _breakpoints.Find(linear, 1, 0, 0);
        if (hits == 0)
        {
            return true;
        }

        RaiseDebug(hits);
        return false;
    }

    /// <summary>Called after the one instruction of a step: ends the shadow, raises #DB for traps.</summary>
    internal void AfterStep()
    {
        CpuState* state = _state;
        if (_shadowBeforeStep)
        {
            state->InterruptShadow = 0;
        }

        if (state->FaultVector == Faults.None)
        {
            if (state->InstructionCount != _countBeforeStep && !_keepsResumeFlag)
            {
                state->Flags &= ~Rflags.Resume;
            }

            ulong hits = _heldHits | _breakpoints.Hits | (_trapAfterStep ? Dr6.SingleStep : 0);
            bool holds = state->InterruptShadow == PendingEvents.ShadowOfStackLoad;
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

        _breakpoints.ForgetHits();
        _trapAfterStep = false;
        _isStepping = false;
        UpdateStepping();
        if (state->InterruptShadow == 0)
        {
            _pending.LookAgain();
        }
    }

    /// <summary>
    /// SYSCALL and SYSRET look at TF when they have loaded it, where other instructions trap by what it was when they began: the handler is
    /// not stepped into where SFMASK clears TF, and SYSRET with TF in R11 traps before the first instruction that it returns to, as if
    /// SYSCALL had just been stepped over.
    /// </summary>
    internal void TrapByNewFlags()
    {
        bool traps = (_state->Flags & Rflags.Trap) != 0;
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
    public void RaiseDebug(ulong reasons)
    {
        _state->Dr[6] = (_state->Dr[6] & ~Dr6.BreakpointMask) | reasons;
        _state->Dr[7] &= ~Dr7.GeneralDetect;
        Faults.Raise(_state, ExceptionVector.Debug, 0);
    }

    /// <summary>INT1 right behind a load of SS is the one #DB for itself and for what that load has hit; INT n and INT3 are not.</summary>
    internal void TellHeldHits()
    {
        if (_heldHits != 0)
        {
            _state->Dr[6] = (_state->Dr[6] & ~Dr6.BreakpointMask) | _heldHits;
            _heldHits = 0;
        }
    }

    /// <summary>MOV to or from DR0 to DR7: privilege, CR4.DE and general detect. False after a fault.</summary>
    public bool TryAccessDebugRegister(ref int index)
    {
        if (index is 4 or 5)
        {
            if ((_state->Cr4 & Cr4.DebuggingExtensions) != 0)
            {
                return Faults.Refuse(_state, ExceptionVector.InvalidOpcode);
            }

            index += 2;
        }

        if (_state->Cpl != 0)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        if ((_state->Dr[7] & Dr7.GeneralDetect) != 0)
        {
            RaiseDebug(Dr6.RegisterAccess);
            return false;
        }

        return true;
    }

    /// <summary>The write itself, to 0 to 3, 6 or 7; false after #GP(0) for bits that must be 0.</summary>
    public bool TryWriteDebugRegister(int index, ulong value)
    {
        if (index >= 6 && value > uint.MaxValue)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        _state->Dr[index] = index switch
        {
            6 => (value & Dr6.Writable) | Dr6.AlwaysOne,
            7 => (value & Dr7.Writable) | Dr7.AlwaysOne,
            _ => value,
        };

        // Watched pages must lose, and others regain, their TLB entries.
        if (index != 6)
        {
            _tlb.Flush();
            UpdateStepping();
        }

        return true;
    }
}
