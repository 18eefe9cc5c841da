using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>Power-on, INIT and STARTUP.</summary>
internal sealed unsafe class ProcessorReset
{
    private const ulong PatAtReset = 0x0007_0406_0007_0406;

    private readonly CpuState* _state;
    private readonly ILocalApic _lapic;
    private readonly ProcessorCpuid _cpuid;
    private readonly AttentionWord _attention;
    private readonly PendingEvents _pending;
    private readonly Tlb _tlb;
    private readonly DebugUnit _debug;
    private readonly OperatingMode _mode;
    private readonly TimeStampCounter _tsc;
    private readonly ModelSpecificRegisters _msrs;
    private readonly int _index;

    public ProcessorReset(
        CpuState* state, ILocalApic lapic, ProcessorCpuid cpuid, AttentionWord attention, PendingEvents pending, Tlb tlb, DebugUnit debug,
        OperatingMode mode, TimeStampCounter tsc, ModelSpecificRegisters msrs, int index)
    {
        _state = state;
        _lapic = lapic;
        _cpuid = cpuid;
        _attention = attention;
        _pending = pending;
        _tlb = tlb;
        _debug = debug;
        _mode = mode;
        _tsc = tsc;
        _msrs = msrs;
        _index = index;
    }

    /// <summary>Power-on. Source: Intel SDM volume 3, table "IA-32 and Intel 64 Processor States Following Power-up, Reset, or INIT".</summary>
    public void ResetToPowerOn()
    {
        _state->Cr0 = Cr0.CacheDisable | Cr0.NotWriteThrough | Cr0.ExtensionType;
        _state->Xcr0 = 1;
        _state->Pkru = 0;
        _state->Pat = PatAtReset;
        // SAFETY: the FX area has 512 bytes, here and below.
        new Span<byte>(_state->FxArea, 512).Clear();
        new Span<byte>(_state->YmmHigh, (int)XsaveLayout.AvxSize).Clear();

        // FCW and MXCSR; an FXSAVE image keeps the x87 tag word inverted, so 0 means all registers empty.
        *(ushort*)_state->FxArea = 0x37F;
        *(uint*)(_state->FxArea + CpuState.FxMxcsr) = 0x1F80;
        _state->Star = _state->Lstar = _state->Cstar = _state->Sfmask = _state->KernelGsBase = 0;
        _state->SysenterCs = _state->SysenterEsp = _state->SysenterEip = 0;
        _state->TscAux = 0;
        _tsc.SetOffset(0);
        _msrs.Reset();
        ResetAfterInit();
    }

    public void ResetToInit()
    {
        // INIT leaves the caches' mode, FPU state and MSRs alone.
        _state->Cr0 = (_state->Cr0 & (Cr0.CacheDisable | Cr0.NotWriteThrough)) | Cr0.ExtensionType;
        _lapic.Initialize();
        ResetAfterInit();
    }

    private void ResetAfterInit()
    {
        for (int i = 0; i < 16; i++)
        {
            _state->Gpr[i] = 0;
        }

        _state->Gpr[2] = _cpuid.Query(CpuidLeaf.Features, 0, 0, 0).Eax;
        _state->Rip = 0xFFF0;
        _state->Flags = Rflags.AlwaysOne;
        _state->FlagKind = FlagKind.Eager;
        _state->Cpl = 0;
        for (int i = 0; i < 6; i++)
        {
            *CpuState.SegmentOf(_state, i) = new Segment { Limit = 0xFFFF, Attributes = 0x93 };
        }

        _state->Cs = new Segment { Selector = 0xF000, Base = 0xFFFF_0000, Limit = 0xFFFF, Attributes = 0x9B };
        _state->Gdtr = new Segment { Limit = 0xFFFF };
        _state->Idtr = new Segment { Limit = 0xFFFF };
        _state->Ldtr = new Segment { Limit = 0xFFFF, Attributes = 0x82 };
        _state->Tr = new Segment { Limit = 0xFFFF, Attributes = 0x8B };
        _state->Cr2 = _state->Cr3 = _state->Cr4 = _state->Efer = 0;
        for (int i = 0; i < 8; i++)
        {
            _state->Dr[i] = 0;
        }

        _state->Dr[6] = Dr6.AlwaysOne;
        _state->Dr[7] = Dr7.AlwaysOne;
        _state->FaultVector = Faults.None;
        _debug.ForgetHeldHits();
        _state->InterruptShadow = 0;
        _pending.IsNmiBlocked = false;
        _pending.NmiWaits = false;
        _pending.InterruptWaits = false;
        _pending.Activity = _index == 0 ? ProcessorActivity.Running : ProcessorActivity.WaitForStartup;
        if (_index != 0)
        {
            // The run loop looks at the activity only when something asks for its attention.
            _attention.Set(Attention.Halted);
        }

        _tlb.Flush();
        _mode.Update();
    }

    /// <summary>STARTUP: real mode at vector &lt;&lt; 12.</summary>
    public void Start(byte vector)
    {
        _state->Cs.Selector = (ushort)(vector << 8);
        _state->Cs.Base = (ulong)vector << 12;
        _state->Rip = 0;
        _pending.Activity = ProcessorActivity.Running;
        _mode.Update();
    }
}
