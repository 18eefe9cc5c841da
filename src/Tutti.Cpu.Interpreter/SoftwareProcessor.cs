using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Tutti.Host;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>
/// One vCPU of the software engine: owns the state, the TLB and the decoded blocks, and runs the loop.
/// Split by subject over several files; the handlers of single instructions are static and work on <see cref="CpuState"/>.
/// </summary>
internal sealed unsafe partial class SoftwareProcessor : IVirtualProcessor, IProcessorSignals, IDisposable
{
    /// <summary>Stands for #GP(0), or #SS(0) when the operand's segment is SS; <see cref="Flow.Fault"/> knows which.</summary>
    public const int NonCanonicalFault = 0x100;

    /// <summary>
    /// Holds state, TLB sets and jump cache. Never disposed of: a timer's thread may still signal a vCPU whose machine has gone. The
    /// finalizer gives it back when nobody can.
    /// </summary>
    private readonly HostMapping _native;

    private readonly TlbEntry* _tlb;
    private readonly HostEvent _wake = new();
    private readonly BusLock _bus;
    private GCHandle _self;
    private int _startupVector = -1;

    public SoftwareProcessor(int index, PartitionOptions options, CodePages codePages, BusLock bus, ITranslationTierFactory? tiers = null)
    {
        Index = index;
        Memory = options.Memory;
        Io = options.Io;
        Clock = options.Clock;
        ProcessorCount = options.ProcessorCount;
        Cpuid = new ProcessorCpuid(options.Cpu, index, ProcessorCount);
        _cr4Writable = FindWritableCr4(Cpuid);
        _loadableShift = (_cr4Writable & Cr4.LinearAddress57) != 0 ? 64 - SoftwareCpuid.LinearBits : 16;
        Walker = new PageWalker(Memory);

        // SAFETY: sizes are those of the structures placed behind one another; the mapping begins with zeros.
        int before = tiers?.BytesBefore ?? 0;
        nuint stateSize = ((nuint)Math.Max(tiers?.BytesInAll ?? 0, before + sizeof(CpuState)) + 63) & ~(nuint)63;
        nuint tlbSize = (nuint)(TlbSets * TlbEntry.Count * sizeof(TlbEntry));
        nuint jumpSize = (nuint)(JumpCacheEntry.Count * sizeof(JumpCacheEntry));
        _native = new HostMapping((long)(stateSize + tlbSize + jumpSize));
        State = (CpuState*)(_native.Address + before);
        State->ReachValue = CpuState.Reach;
        _tlb = (TlbEntry*)(_native.Address + (nint)stateSize);
        State->JumpCache = (JumpCacheEntry*)((byte*)_tlb + tlbSize);
        _self = GCHandle.Alloc(this);
        State->Self = GCHandle.ToIntPtr(_self);
        State->FaultVector = -1;
        State->CanonicalShift = 16;
        State->Tlb = _tlb;
        for (int i = 0; i < TlbSets * TlbEntry.Count; i++)
        {
            Drop(_tlb + i);
        }

        new Span<JumpCacheEntry>(State->JumpCache, JumpCacheEntry.Count).Fill(new JumpCacheEntry { Rip = ulong.MaxValue });
        Lapic = options.CreateLocalApic?.Invoke(index, this)
            ?? throw new ArgumentException("The software engine needs a local APIC for each vCPU (PartitionOptions.CreateLocalApic).", nameof(options));
        _bus = bus;
        Code = new BlockCache(this, codePages);
        Observe(options.Trace);
        Tier = tiers?.Create(this);
        ResetToPowerOn();
    }

    public int Index { get; }

    public ulong InstructionCount => State->InstructionCount;

    public CpuState* State { get; }

    public GuestMemory Memory { get; }

    public ICpuIo Io { get; }

    public IGuestClock Clock { get; }

    public int ProcessorCount { get; }

    public ProcessorCpuid Cpuid { get; }

    public PageWalker Walker { get; }

    public ILocalApic Lapic { get; }

    public BlockCache Code { get; }

    /// <summary>Runs what it can in the interpreter's stead; null where there is none.</summary>
    public ITranslationTier? Tier { get; }

    /// <summary>CR8.</summary>
    public byte TaskPriority
    {
        get
        {
            LeaveGuest();
            byte value = Lapic.TaskPriority;
            ReenterGuest();
            return value;
        }

        set
        {
            LeaveGuest();
            Lapic.TaskPriority = value;
            ReenterGuest();
        }
    }

    /// <summary>The processor that owns a state.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static SoftwareProcessor From(CpuState* state) =>
        Unsafe.As<SoftwareProcessor>(GCHandle.FromIntPtr(state->Self).Target!);

    /// <summary>Notes the fault that the running handler met. The run loop delivers it when the handler has returned.</summary>
    public static void RaiseFault(CpuState* state, int vector, uint error)
    {
        state->FaultVector = vector;
        state->FaultError = error;
    }

    public long ReleasableBytes => Code.ByteCount + (Tier?.ByteCount ?? 0);

    public void ReleaseMemory() => Signal(Interpreter.Attention.ReleaseMemory);

    public void RequestExit() => Signal(Interpreter.Attention.ExitRequest);

    public void SignalInterrupt() => Signal(Interpreter.Attention.Interrupt);

    public void SignalNmi() => Signal(Interpreter.Attention.Nmi);

    public void SignalInit() => Signal(Interpreter.Attention.Init);

    public void SignalStartup(byte vector)
    {
        Volatile.Write(ref _startupVector, vector);
        Signal(Interpreter.Attention.Startup);
    }

    public void Dispose()
    {
        Memory.RemoveCodeWriteObserver(Code);
        Tier?.Dispose();
        Code.Dispose();
        _wake.Dispose();
        if (_self.IsAllocated)
        {
            _self.Free();
        }
    }

    /// <summary>Sets attention bits from any thread and wakes the vCPU when it is halted.</summary>
    public void Signal(int bits)
    {
        int before = Interlocked.Or(ref State->Attention, bits);
        for (int i = 0; i < State->PollMaskCount; i++)
        {
            Volatile.Write(ref State->PollMasks[i], 0);
        }

        if ((before & Interpreter.Attention.Halted) != 0)
        {
            _wake.Signal();
        }
    }

    /// <summary>
    /// Recomputes what is derived from CS, SS, CR0, CR4, EFER, CPL and RFLAGS (AC, VM, TF): the code mode, the TLB set,
    /// FPU traps, single-stepping. Every instruction that changes one of these calls it and then leaves its block.
    /// </summary>
    public void UpdateMode()
    {
        bool isLong = (State->Efer & Efer.LongModeActive) != 0;
        bool virtual8086 = (State->Flags & Rflags.Virtual8086) != 0;
        uint mode = CodeMode.Bits16;
        if (isLong && (State->Cs.Attributes & SegmentAttributes.Long) != 0)
        {
            mode = CodeMode.Bits64;
        }
        else if ((State->Cs.Attributes & SegmentAttributes.Big) != 0 && !virtual8086)
        {
            mode = CodeMode.Bits32;
        }

        // 64-bit code always has a 64-bit stack pointer, whatever SS (often null) says: one mode, one set of blocks.
        mode |= mode != CodeMode.Bits64 && (State->Ss.Attributes & SegmentAttributes.Big) != 0 ? CodeMode.Stack32 : 0;
        mode |= State->Cpl == 3 ? CodeMode.User : 0;
        mode |= virtual8086 ? CodeMode.Virtual8086 : 0;
        mode |= (State->Cr0 & Cr0.ProtectionEnable) != 0 ? CodeMode.Protected : 0;
        mode |= isLong ? CodeMode.LongMode : 0;
        bool flat = (mode & CodeMode.BitnessMask) == CodeMode.Bits64 || (State->Cs.Base == 0 && State->Cs.Limit == uint.MaxValue);
        mode |= flat ? CodeMode.FlatCode : 0;
        State->CanonicalShift = isLong && (State->Cr4 & Cr4.LinearAddress57) != 0 ? 64 - SoftwareCpuid.LinearBits : 16;
        State->Mode = mode;
        State->JumpTag = mode | _jumpGeneration;

        UpdateTlbSet();
        State->FpuTraps = ((State->Cr0 & Cr0.TaskSwitched) != 0 ? FpuTrap.TaskSwitched : 0)
            | ((State->Cr0 & Cr0.Emulation) != 0 ? FpuTrap.Emulation : 0)
            | ((State->Cr4 & Cr4.OsFxsr) == 0 ? FpuTrap.NoOsFxsr : 0);
        UpdateStepping();
    }

    /// <summary>Chooses the TLB set for CPL and RFLAGS.AC.</summary>
    public void UpdateTlbSet()
    {
        bool alignmentCheck = (State->Flags & Rflags.AlignmentCheck) != 0;
        int set = alignmentCheck ? 1 : 0;
        if (State->Cpl == 3)
        {
            set = alignmentCheck && (State->Cr0 & Cr0.AlignmentMask) != 0 ? EmptySet : 2;
        }

        State->Tlb = _tlb + (set * TlbEntry.Count);
    }
}
