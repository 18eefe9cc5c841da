using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Tutti.Host;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>
/// One vCPU of the software engine: owns the state and the units that work on it, takes signals, and runs the loop: blocks, faults,
/// pending events, halting, single-stepping.
/// </summary>
public sealed unsafe class SoftwareProcessor : IVirtualProcessor, IProcessorSignals, IDisposable
{
    /// <summary>
    /// Holds state, TLB sets and jump cache. Never disposed of: a timer's thread may still signal a vCPU whose machine has gone. The
    /// finalizer gives it back when nobody can.
    /// </summary>
    private readonly HostMapping _native;

    private readonly BusLock _bus;
    private readonly ProcessorReset _reset;
    private readonly RegisterTransfer _registers;
    private GCHandle _self;
    private int _startupVector = -1;

    internal SoftwareProcessor(
        int index, PartitionOptions options, CodePages codePages, BusLock bus, Func<SoftwareProcessor, IInterpreter> createInterpreter,
        ITranslationTierFactory? tiers)
    {
        Index = index;
        ProcessorCount = options.ProcessorCount;
        Memory = options.Memory;
        Clock = options.Clock;
        Cpuid = new ProcessorCpuid(options.Cpu, index, options.ProcessorCount);
        _bus = bus;

        // SAFETY: sizes are those of the structures placed behind one another; the mapping begins with zeros.
        int before = tiers?.BytesBefore ?? 0;
        nuint stateSize = ((nuint)Math.Max(tiers?.BytesInAll ?? 0, before + sizeof(CpuState)) + 63) & ~(nuint)63;
        nuint tlbSize = (nuint)Tlb.ByteCount;
        nuint jumpSize = (nuint)(JumpCacheEntry.Count * sizeof(JumpCacheEntry));
        _native = new HostMapping((long)(stateSize + tlbSize + jumpSize), hugePages: true);
        State = (CpuState*)(_native.Address + before);
        var entries = (TlbEntry*)(_native.Address + (nint)stateSize);
        State->ReachValue = CpuState.Reach;
        _self = GCHandle.Alloc(this);
        State->Self = GCHandle.ToIntPtr(_self);
        State->FaultVector = Faults.None;
        State->CanonicalShift = 16;
        State->Tlb = entries;

        AttentionWord = new AttentionWord(State, _native);
        Lapic = options.CreateLocalApic?.Invoke(index, this)
            ?? throw new ArgumentException("The software engine needs a local APIC for each vCPU (PartitionOptions.CreateLocalApic).", nameof(options));
        Pending = new PendingEvents(State, AttentionWord);
        Breakpoints = new Breakpoints(State);
        Walker = new PageWalker(Memory);
        var jumpCache = new JumpCache(State, (JumpCacheEntry*)((byte*)entries + tlbSize));
        Tlb = new Tlb(State, entries, Memory, Walker, Breakpoints, jumpCache);
        Watch = new CodeWatch(index, Memory, Tlb, jumpCache, AttentionWord, codePages);
        Fetch = new CodeFetch(State, Memory, Tlb, Watch);
        Presence = new GuestPresence(bus, AttentionWord, Watch, options.ProcessorCount > 1);
        LoadStore = new LoadStoreUnit(State, Memory, options.Io, Lapic, Breakpoints, Tlb, Presence, bus);
        Debug = new DebugUnit(State, AttentionWord, Pending, Breakpoints, Tlb);
        Mode = new OperatingMode(State, jumpCache, Tlb, Debug);

        Control = new ControlRegisters(State, Lapic, Cpuid, Tlb, Presence, Mode);
        Tsc = new TimeStampCounter(State, Clock, Lapic);
        var paravirtual = new ParavirtualClock(State, Memory, Clock);
        Msrs = new ModelSpecificRegisters(State, Clock, Lapic, Tlb, Presence, Mode, Control, new PlainRegisters(), Tsc, paravirtual);

        Tables = new DescriptorTables(State, LoadStore);
        Segments = new SegmentLoader(State, Tables);
        SystemSegments = new SystemSegments(State, Tables, Control);
        Ports = new PortAccess(State, options.Io, Breakpoints, Presence, Tables);
        var frames = new StackFrames(State, LoadStore, Tables, Segments);
        Tasks = new TaskSwitch(State, Pending, Tlb, LoadStore, Debug, Mode, Tables, Segments, frames);
        Transfers = new FarTransfers(State, Mode, Tables, Segments, frames, Tasks);
        Returns = new FarReturns(State, Mode, Tables, Segments, frames, Transfers);
        InterruptReturns = new InterruptReturns(State, Pending, Breakpoints, Debug, Mode, Tables, Segments, frames, Tasks, Transfers, Returns);
        SystemCalls = new SystemCalls(State, Pending, Debug, Mode);
        Trace = new ProcessorTrace(State, index, options.Trace);
        var legacy = new LegacyDelivery(State, Tables, frames, Tasks);
        Delivery = new EventDelivery(State, Pending, Debug, Mode, Tables, Segments, frames, Tasks, Trace, legacy);

        _reset = new ProcessorReset(State, Lapic, Cpuid, AttentionWord, Pending, Tlb, Debug, Mode, Tsc, Msrs, index);
        _registers = new RegisterTransfer(State, Lapic, AttentionWord, Pending, Tlb, Debug, Mode, Msrs);
        Interpreter = createInterpreter(this);
        Watch.Holders = [Interpreter.Code];
        Tier = tiers?.Create(this);
        if (Tier is not null)
        {
            Tlb.Follower = Tier;
            InterruptReturns.Observer = Tier;
            Watch.Holders = [Tier, Interpreter.Code];
        }

        _reset.ResetToPowerOn();
    }

    public int Index { get; }

    /// <summary>Of its partition.</summary>
    public int ProcessorCount { get; }

    public ulong InstructionCount => State->InstructionCount;

    public CpuState* State { get; }

    public GuestMemory Memory { get; }

    public IGuestClock Clock { get; }

    internal ProcessorCpuid Cpuid { get; }

    internal ILocalApic Lapic { get; }

    /// <summary>What stops the loop.</summary>
    public AttentionWord AttentionWord { get; }

    public PendingEvents Pending { get; }

    internal Breakpoints Breakpoints { get; }

    internal PageWalker Walker { get; }

    public Tlb Tlb { get; }

    /// <summary>Which pages the vCPU holds code of.</summary>
    public CodeWatch Watch { get; }

    public CodeFetch Fetch { get; }

    internal GuestPresence Presence { get; }

    public LoadStoreUnit LoadStore { get; }

    public DebugUnit Debug { get; }

    public OperatingMode Mode { get; }

    public ControlRegisters Control { get; }

    public TimeStampCounter Tsc { get; }

    public ModelSpecificRegisters Msrs { get; }

    public DescriptorTables Tables { get; }

    public SegmentLoader Segments { get; }

    public SystemSegments SystemSegments { get; }

    public PortAccess Ports { get; }

    public TaskSwitch Tasks { get; }

    public FarTransfers Transfers { get; }

    public FarReturns Returns { get; }

    public InterruptReturns InterruptReturns { get; }

    public SystemCalls SystemCalls { get; }

    public EventDelivery Delivery { get; }

    public ProcessorTrace Trace { get; }

    /// <summary>Runs what no other tier runs.</summary>
    public IInterpreter Interpreter { get; }

    /// <summary>Runs what it can in the interpreter's stead; null where there is none.</summary>
    internal ITranslationTier? Tier { get; }

    public long ReleasableBytes => Watch.ByteCount;

    /// <summary>The processor that owns a state.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static SoftwareProcessor From(CpuState* state) =>
        Unsafe.As<SoftwareProcessor>(GCHandle.FromIntPtr(state->Self).Target!);

    public void GetRegisters(ProcessorRegisters registers) => _registers.GetRegisters(registers);

    public void SetRegisters(ProcessorRegisters registers) => _registers.SetRegisters(registers);

    public void ReleaseMemory() => Signal(Attention.ReleaseMemory);

    public void RequestExit() => Signal(Attention.ExitRequest);

    public void SignalInterrupt() => Signal(Attention.Interrupt);

    public void SignalNmi() => Signal(Attention.Nmi);

    public void SignalInit() => Signal(Attention.Init);

    public void SignalStartup(byte vector)
    {
        Volatile.Write(ref _startupVector, vector);
        Signal(Attention.Startup);
    }

    /// <summary>Sets attention bits from any thread and wakes the vCPU when it is halted.</summary>
    public void Signal(int bits) => AttentionWord.Signal(bits);

    public void Dispose()
    {
        Watch.Dispose();
        Tier?.Dispose();
        Interpreter.Dispose();
        AttentionWord.Dispose();
        LoadStore.Dispose();
        if (_self.IsAllocated)
        {
            _self.Free();
        }
    }

    public IEnumerable<EngineCounter> ReadCounters() =>
    [
        new("guest", "instructions", (long)InstructionCount),
        .. Trace.ReadEvents(),
        .. Interpreter.ReadCounters(),
        new("memory", "page walks", Walker.Count),
        .. Trace.ReadExceptions(),
        .. Tier?.ReadCounters() ?? [],
        .. Trace.ReadSingles(),
    ];

    public ProcessorExit Run()
    {
        Presence.Enter();
        try
        {
            return RunUntilExit();
        }
        finally
        {
            // Also where the engine breaks: other vCPUs must not wait for this one.
            _bus.Release(Presence);
            Presence.Exit();
        }
    }

    /// <summary>Has the interpreter run the one instruction at RIP, for another tier.</summary>
    public void RunOne() => Interpreter.RunOne();

    private ProcessorExit RunUntilExit()
    {
        while (true)
        {
            // A vCPU that was halted when it was asked to come out is halted when it comes back, whatever else there is to see to.
            bool looks = AttentionWord.Value != 0 || Pending.Activity != ProcessorActivity.Running;
            if (looks && !TryHandleAttention(out ProcessorExit exit))
            {
                return exit;
            }

            // Delivery of an interrupt may have ended in a triple fault, or in a #DB of the task switched to: then no block runs.
            if (!Delivery.IsTripleFault && State->FaultVector == Faults.None)
            {
                RunBlocks();
            }

            if (State->FaultVector != Faults.None)
            {
                Delivery.DeliverFault();
            }

            if (Delivery.IsTripleFault)
            {
                Delivery.IsTripleFault = false;
                return new ProcessorExit(ProcessorExitKind.TripleFault);
            }
        }
    }

    private void RunBlocks()
    {
        if ((State->Attention & Attention.Step) != 0)
        {
            if (Debug.TryBeginStep())
            {
                Interpreter.RunStep();
            }

            Debug.AfterStep();
        }
        else if (Tier is { CanRun: true } tier)
        {
            tier.Run();
        }
        else
        {
            Interpreter.Run();
        }
    }

    /// <summary>Looks at why the loop was stopped; false when <see cref="Run"/> is to return.</summary>
    private bool TryHandleAttention(out ProcessorExit exit)
    {
        exit = default;
        while (true)
        {
            int attention = AttentionWord.Value;
            if ((attention & Attention.ExitRequest) != 0)
            {
                AttentionWord.Clear(Attention.ExitRequest);
                exit = new ProcessorExit(ProcessorExitKind.Requested);
                return false;
            }

            if ((attention & (Attention.CodeWritten | Attention.FlushCode)) != 0)
            {
                AttentionWord.Clear(Attention.CodeWritten | Attention.FlushCode);
                Watch.TakePendingInvalidations((attention & Attention.FlushCode) != 0);
            }

            if ((attention & Attention.ReleaseMemory) != 0)
            {
                AttentionWord.Clear(Attention.ReleaseMemory);
                Watch.ReleaseMemory();
            }

            if ((attention & Attention.BusLocked) != 0)
            {
                AttentionWord.Clear(Attention.BusLocked);
                Presence.Exit();
                Presence.Enter();
                continue;
            }

            TakeSignals(attention);
            if (Pending.Activity != ProcessorActivity.WaitForStartup && TryDeliverPending())
            {
                Pending.Activity = ProcessorActivity.Running;
            }

            if (Pending.Activity == ProcessorActivity.Running)
            {
                AttentionWord.Clear(Attention.Halted);
                return true;
            }

            Wait();
        }
    }

    private void TakeSignals(int attention)
    {
        if ((attention & Attention.Init) != 0)
        {
            AttentionWord.Clear(Attention.Init);
            _reset.ResetToInit();
        }

        if ((attention & Attention.Startup) != 0)
        {
            AttentionWord.Clear(Attention.Startup);
            if (Pending.Activity == ProcessorActivity.WaitForStartup)
            {
                _reset.Start((byte)Volatile.Read(ref _startupVector));
            }
        }

        if ((attention & Attention.Nmi) != 0)
        {
            AttentionWord.Clear(Attention.Nmi);
            Pending.NmiWaits = true;
        }

        if ((attention & Attention.Interrupt) != 0)
        {
            AttentionWord.Clear(Attention.Interrupt);
            Pending.InterruptWaits = true;
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

        if (Pending.NmiWaits && !Pending.IsNmiBlocked)
        {
            Pending.NmiWaits = false;
            Pending.IsNmiBlocked = true;
            Delivery.DeliverInterrupt(ExceptionVector.Nmi);
            return true;
        }

        if (!Pending.InterruptWaits || (State->Flags & Rflags.Interrupt) == 0)
        {
            return false;
        }

        Pending.InterruptWaits = false;
        Presence.Leave();
        int vector = Lapic.AcknowledgeInterrupt();
        Presence.Reenter();
        if (vector < 0)
        {
            return false;
        }

        Delivery.DeliverInterrupt(vector);
        return true;
    }

    private void Wait()
    {
        AttentionWord.Set(Attention.Halted);
        Presence.Exit();
        AttentionWord.Wait();
        Presence.Enter();
        AttentionWord.Clear(Attention.Halted);
    }
}
