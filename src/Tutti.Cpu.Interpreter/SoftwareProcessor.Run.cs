using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>The run loop: blocks, faults, pending events, halting, single-stepping.</summary>
internal sealed unsafe partial class SoftwareProcessor
{
    private const int NothingPending = -1;

    private bool _interruptWaits;
    private bool _nmiWaits;
    private bool _nmiBlocked;
    private bool _tripleFault;
    private ProcessorActivity _activity;

    private int _isInGuest;

    /// <summary>Whether the vCPU's thread is between taking requests from others and the next time it does so.</summary>
    public bool IsInGuest => Volatile.Read(ref _isInGuest) != 0;

    public ProcessorExit Run()
    {
        SetInGuest(1);
        try
        {
            return RunUntilExit();
        }
        finally
        {
            // Also where the engine breaks: other vCPUs must not wait for this one.
            _bus.Release(this);
            SetInGuest(0);
        }
    }

    private ProcessorExit RunUntilExit()
    {
        while (true)
        {
            // A vCPU that was halted when it was asked to come out is halted when it comes back, whatever else there is to see to.
            bool looks = Volatile.Read(ref State->Attention) != 0 || _activity != ProcessorActivity.Running;
            if (looks && !TryHandleAttention(out ProcessorExit exit))
            {
                return exit;
            }

            // Delivery of an interrupt may have ended in a triple fault, or in a #DB of the task switched to: then no block runs.
            if (!_tripleFault && State->FaultVector == NothingPending)
            {
                RunBlocks();
            }

            if (State->FaultVector != NothingPending)
            {
                DeliverFault();
            }

            if (_tripleFault)
            {
                _tripleFault = false;
                return new ProcessorExit(ProcessorExitKind.TripleFault);
            }
        }
    }

    private void RunBlocks()
    {
        CpuState* state = State;
        bool step = (state->Attention & Interpreter.Attention.Step) != 0;
        if (!step && Tier is { CanRun: true } tier)
        {
            tier.Run();
            return;
        }

        Op* op = !step ? Code.Find() : TryBeginStep() ? Code.FindSingle() : null;
        while (op != null)
        {
            // A step is one instruction, also where it has ended the need for steps (IRET that clears TF) and knows the ops it jumps to.
            Op* next = op->Handler(state, op);
            op = step && next != op + 1 ? null : next;
        }

        if (step)
        {
            AfterStep();
        }
    }

    /// <summary>Within <see cref="RunOne"/>: a branch need not look for the ops of its target.</summary>
    public bool IsRunningOne { get; private set; }

    /// <summary>Interprets the one instruction at RIP, or raises the fault of its fetch.</summary>
    public void RunOne()
    {
        CpuState* state = State;
        Op* op = Code.FindOne();
        if (op == null)
        {
            return;
        }

        CountSingle(Code.NameOf(op));
        IsRunningOne = true;
        Op* next = op->Handler(state, op);
        IsRunningOne = false;
        if (next == op + 1)
        {
            state->Rip = Flow.NextRip(state, op);
            state->InstructionCount += op->Count;
        }
    }

    /// <summary>Looks at why the loop was stopped; false when <see cref="Run"/> is to return.</summary>
    private bool TryHandleAttention(out ProcessorExit exit)
    {
        exit = default;
        while (true)
        {
            int attention = Volatile.Read(ref State->Attention);
            if ((attention & Interpreter.Attention.ExitRequest) != 0)
            {
                Clear(Interpreter.Attention.ExitRequest);
                exit = new ProcessorExit(ProcessorExitKind.Requested);
                return false;
            }

            if ((attention & (Interpreter.Attention.CodeWritten | Interpreter.Attention.FlushCode)) != 0)
            {
                Clear(Interpreter.Attention.CodeWritten | Interpreter.Attention.FlushCode);
                Code.TakePendingInvalidations((attention & Interpreter.Attention.FlushCode) != 0);
            }

            if ((attention & Interpreter.Attention.ReleaseMemory) != 0)
            {
                Clear(Interpreter.Attention.ReleaseMemory);
                Code.ReleaseMemory();
            }

            if ((attention & Interpreter.Attention.BusLocked) != 0)
            {
                Clear(Interpreter.Attention.BusLocked);
                SetInGuest(0);
                SetInGuest(1);
                continue;
            }

            TakeSignals(attention);
            if (_activity != ProcessorActivity.WaitForStartup && TryDeliverPending())
            {
                _activity = ProcessorActivity.Running;
            }

            if (_activity == ProcessorActivity.Running)
            {
                Clear(Interpreter.Attention.Halted);
                return true;
            }

            Wait();
        }
    }

    private void TakeSignals(int attention)
    {
        if ((attention & Interpreter.Attention.Init) != 0)
        {
            Clear(Interpreter.Attention.Init);
            ResetToInit();
        }

        if ((attention & Interpreter.Attention.Startup) != 0)
        {
            Clear(Interpreter.Attention.Startup);
            if (_activity == ProcessorActivity.WaitForStartup)
            {
                Start((byte)Volatile.Read(ref _startupVector));
            }
        }

        if ((attention & Interpreter.Attention.Nmi) != 0)
        {
            Clear(Interpreter.Attention.Nmi);
            _nmiWaits = true;
        }

        if ((attention & Interpreter.Attention.Interrupt) != 0)
        {
            Clear(Interpreter.Attention.Interrupt);
            _interruptWaits = true;
        }
    }

    /// <summary>Delivers a pending NMI or interrupt where the state allows; true when one was delivered.</summary>
    private bool TryDeliverPending()
    {
        if (State->InterruptShadow != 0)
        {
            // One instruction more: the single-step path clears the shadow and comes back here.
            return false;
        }

        if (_nmiWaits && !_nmiBlocked)
        {
            _nmiWaits = false;
            _nmiBlocked = true;
            DeliverInterrupt(ExceptionVector.Nmi);
            return true;
        }

        if (!_interruptWaits || (State->Flags & Rflags.Interrupt) == 0)
        {
            return false;
        }

        _interruptWaits = false;
        LeaveGuest();
        int vector = Lapic.AcknowledgeInterrupt();
        ReenterGuest();
        if (vector < 0)
        {
            return false;
        }

        DeliverInterrupt(vector);
        return true;
    }

    /// <summary>
    /// RFLAGS.IF has been set, or an interrupt shadow or NMI block has ended: makes the loop look for events that
    /// waited for it. Cheap where none waits.
    /// </summary>
    public void InterruptsEnabled()
    {
        int bits = (_interruptWaits ? Interpreter.Attention.Interrupt : 0) | (_nmiWaits ? Interpreter.Attention.Nmi : 0);
        if (bits != 0)
        {
            Interlocked.Or(ref State->Attention, bits);
        }
    }

    /// <summary>STI, or a load of SS: one more instruction runs before the next event. Costs nothing while none waits.</summary>
    public void BeginInterruptShadow()
    {
        State->InterruptShadow = 1;
        Interlocked.Or(ref State->Attention, Interpreter.Attention.Step);
    }

    /// <summary>Whether an interrupt or NMI has arrived that could not be delivered yet.</summary>
    public bool HasWaitingEvent => _interruptWaits || _nmiWaits
        || (Volatile.Read(ref State->Attention) & (Interpreter.Attention.Interrupt | Interpreter.Attention.Nmi)) != 0;

    /// <summary>HLT: stops until an event. The caller leaves its block.</summary>
    public void Halt()
    {
        _activity = ProcessorActivity.Halted;
        Interlocked.Or(ref State->Attention, Interpreter.Attention.Halted);
        InterruptsEnabled();
    }

    private void Wait()
    {
        Interlocked.Or(ref State->Attention, Interpreter.Attention.Halted);
        SetInGuest(0);
        while ((Volatile.Read(ref State->Attention) & ~(Interpreter.Attention.Halted | Interpreter.Attention.Step)) == 0)
        {
            _wake.Wait(-1);
        }

        SetInGuest(1);
        Clear(Interpreter.Attention.Halted);
    }

    /// <summary>
    /// Before a call out of the engine that may wait for another vCPU or for the user (devices, the local APIC): others that
    /// want this vCPU's write tags need not wait with it. No pointer into guest memory is held over the call.
    /// </summary>
    public void LeaveGuest()
    {
        if (ProcessorCount > 1)
        {
            SetInGuest(0);
        }
    }

    /// <summary>After the call: does first what others have asked for meanwhile.</summary>
    public void ReenterGuest()
    {
        if (ProcessorCount > 1)
        {
            SetInGuest(1);
            if ((Volatile.Read(ref State->Attention) & Interpreter.Attention.CodeWritten) != 0)
            {
                Code.TakePendingInvalidations(false);
            }
        }
    }

    // A full fence: whoever asks for something first sets an attention bit and then looks here; this side sets the mark
    // first and then looks for attention.
    private void SetInGuest(int value)
    {
        Interlocked.Exchange(ref _isInGuest, value);
        if (value == 0)
        {
            return;
        }

        var spin = default(SpinWait);
        while (!_bus.IsFreeFor(this))
        {
            Interlocked.Exchange(ref _isInGuest, 0);
            spin.SpinOnce(sleep1Threshold: -1);
            Interlocked.Exchange(ref _isInGuest, 1);
        }
    }

    private void Clear(int bits) => Interlocked.And(ref State->Attention, ~bits);

    private void DeliverFault()
    {
        int vector = State->FaultVector;
        State->FaultVector = NothingPending;
        DeliverException(vector, State->FaultError);
    }
}
