using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>Reset, INIT, STARTUP, and the whole state as plain data.</summary>
internal sealed unsafe partial class SoftwareProcessor
{
    private const ulong PatAtReset = 0x0007_0406_0007_0406;

    /// <summary>Power-on. Source: Intel SDM volume 3, table "IA-32 and Intel 64 Processor States Following Power-up, Reset, or INIT".</summary>
    private void ResetToPowerOn()
    {
        State->Cr0 = Cr0.CacheDisable | Cr0.NotWriteThrough | Cr0.ExtensionType;
        State->Xcr0 = 1;
        State->Pkru = 0;
        State->Pat = PatAtReset;
        // SAFETY: the FX area has 512 bytes, here and below.
        new Span<byte>(State->FxArea, 512).Clear();
        new Span<byte>(State->YmmHigh, (int)XsaveLayout.AvxSize).Clear();

        // FCW and MXCSR; an FXSAVE image keeps the x87 tag word inverted, so 0 means all registers empty.
        *(ushort*)State->FxArea = 0x37F;
        *(uint*)(State->FxArea + CpuState.FxMxcsr) = 0x1F80;
        State->Star = State->Lstar = State->Cstar = State->Sfmask = State->KernelGsBase = 0;
        State->SysenterCs = State->SysenterEsp = State->SysenterEip = 0;
        State->TscAux = 0;
        SetTscOffset(0);
        ResetModelSpecificRegisters();
        ResetAfterInit();
    }

    private void ResetToInit()
    {
        // INIT leaves the caches' mode, FPU state and MSRs alone.
        State->Cr0 = (State->Cr0 & (Cr0.CacheDisable | Cr0.NotWriteThrough)) | Cr0.ExtensionType;
        Lapic.Initialize();
        ResetAfterInit();
    }

    private void ResetAfterInit()
    {
        for (int i = 0; i < 16; i++)
        {
            State->Gpr[i] = 0;
        }

        State->Gpr[2] = Cpuid.Query(CpuidLeaf.Features, 0, 0, 0).Eax;
        State->Rip = 0xFFF0;
        State->Flags = Rflags.AlwaysOne;
        State->FlagKind = FlagKind.Eager;
        State->Cpl = 0;
        for (int i = 0; i < 6; i++)
        {
            *CpuState.SegmentOf(State, i) = new Segment { Limit = 0xFFFF, Attributes = 0x93 };
        }

        State->Cs = new Segment { Selector = 0xF000, Base = 0xFFFF_0000, Limit = 0xFFFF, Attributes = 0x9B };
        State->Gdtr = new Segment { Limit = 0xFFFF };
        State->Idtr = new Segment { Limit = 0xFFFF };
        State->Ldtr = new Segment { Limit = 0xFFFF, Attributes = 0x82 };
        State->Tr = new Segment { Limit = 0xFFFF, Attributes = 0x8B };
        State->Cr2 = State->Cr3 = State->Cr4 = State->Efer = 0;
        for (int i = 0; i < 8; i++)
        {
            State->Dr[i] = 0;
        }

        State->Dr[6] = Dr6.AlwaysOne;
        State->Dr[7] = Dr7.AlwaysOne;
        State->FaultVector = NothingPending;
        _heldHits = 0;
        State->InterruptShadow = 0;
        _nmiBlocked = false;
        _nmiWaits = false;
        _interruptWaits = false;
        _activity = Index == 0 ? ProcessorActivity.Running : ProcessorActivity.WaitForStartup;
        if (Index != 0)
        {
            // The run loop looks at the activity only when something asks for its attention.
            Interlocked.Or(ref State->Attention, Interpreter.Attention.Halted);
        }

        FlushTlb();
        UpdateMode();
    }

    /// <summary>STARTUP: real mode at vector &lt;&lt; 12.</summary>
    private void Start(byte vector)
    {
        State->Cs.Selector = (ushort)(vector << 8);
        State->Cs.Base = (ulong)vector << 12;
        State->Rip = 0;
        _activity = ProcessorActivity.Running;
        UpdateMode();
    }

    public void GetRegisters(ProcessorRegisters registers)
    {
        ArgumentNullException.ThrowIfNull(registers);
        for (int i = 0; i < 16; i++)
        {
            registers.Gpr[i] = State->Gpr[i];
        }

        for (int i = 0; i < 6; i++)
        {
            registers.Segments[i] = Export(CpuState.SegmentOf(State, i));
        }

        for (int i = 0; i < 8; i++)
        {
            registers.Dr[i] = State->Dr[i];
        }

        registers.Rip = State->Rip;
        registers.Rflags = LazyFlags.Get(State);
        registers.Tr = Export(&State->Tr);
        registers.Ldtr = Export(&State->Ldtr);
        registers.GdtBase = State->Gdtr.Base;
        registers.GdtLimit = (ushort)State->Gdtr.Limit;
        registers.IdtBase = State->Idtr.Base;
        registers.IdtLimit = (ushort)State->Idtr.Limit;
        registers.Cr0 = State->Cr0;
        registers.Cr2 = State->Cr2;
        registers.Cr3 = State->Cr3;
        registers.Cr4 = State->Cr4;
        registers.Cr8 = Lapic.TaskPriority;
        registers.Efer = State->Efer;
        registers.Xcr0 = State->Xcr0;
        new Span<byte>(State->FxArea, 512).CopyTo(registers.FxState);
        registers.ExtendedState = ExtendedState.Export(State);
        registers.Activity = _activity;
        registers.InterruptShadow = State->InterruptShadow != 0;
        registers.NmiBlocked = _nmiBlocked;
        registers.NmiPending = _nmiWaits || (Volatile.Read(ref State->Attention) & Interpreter.Attention.Nmi) != 0;
        ExportModelSpecificRegisters(registers.Msrs);
    }

    public void SetRegisters(ProcessorRegisters registers)
    {
        ArgumentNullException.ThrowIfNull(registers);
        for (int i = 0; i < 16; i++)
        {
            State->Gpr[i] = registers.Gpr[i];
        }

        for (int i = 0; i < 6; i++)
        {
            Import(registers.Segments[i], CpuState.SegmentOf(State, i));
        }

        for (int i = 0; i < 8; i++)
        {
            State->Dr[i] = registers.Dr[i];
        }

        State->Dr[6] = (State->Dr[6] & Dr6.Writable) | Dr6.AlwaysOne;
        State->Dr[7] = (State->Dr[7] & Dr7.Writable) | Dr7.AlwaysOne;
        State->Rip = registers.Rip;
        State->Flags = (registers.Rflags & Rflags.Defined) | Rflags.AlwaysOne;
        State->FlagKind = FlagKind.Eager;
        Import(registers.Tr, &State->Tr);
        Import(registers.Ldtr, &State->Ldtr);
        State->Gdtr = new Segment { Base = registers.GdtBase, Limit = registers.GdtLimit };
        State->Idtr = new Segment { Base = registers.IdtBase, Limit = registers.IdtLimit };
        State->Cr0 = registers.Cr0 | Cr0.ExtensionType;
        State->Cr2 = registers.Cr2;
        State->Cr3 = registers.Cr3;
        State->Cr4 = registers.Cr4;
        Lapic.TaskPriority = (byte)(registers.Cr8 & 0xF);
        State->Efer = registers.Efer;
        State->Xcr0 = registers.Xcr0 | 1;
        registers.FxState.CopyTo(new Span<byte>(State->FxArea, 512));
        ExtendedState.Import(State, registers.ExtendedState);

        // SS.DPL is the privilege level in protected mode; null stacks of 64-bit mode keep it in the selector.
        bool isProtected = (State->Cr0 & Cr0.ProtectionEnable) != 0;
        bool virtual8086 = (State->Flags & Rflags.Virtual8086) != 0;
        State->Cpl = !isProtected ? 0 : virtual8086 ? 3 : State->Cs.Selector & 3;
        ImportModelSpecificRegisters(registers.Msrs);
        _activity = registers.Activity;
        State->FaultVector = NothingPending;
        _heldHits = 0;
        _nmiBlocked = registers.NmiBlocked;
        _nmiWaits = registers.NmiPending;
        Clear(Interpreter.Attention.Nmi);
        State->InterruptShadow = registers.InterruptShadow ? ShadowOfSti : 0;

        // An interrupt may wait in the local APIC, and the activity may not be Running: the loop is to look.
        _interruptWaits = true;
        Interlocked.Or(ref State->Attention, Interpreter.Attention.Interrupt | Interpreter.Attention.Halted);
        FlushTlb();
        UpdateMode();
    }

    private static SegmentRegister Export(Segment* segment) =>
        new(segment->Selector, segment->Base, segment->Limit, segment->Attributes);

    private static void Import(SegmentRegister register, Segment* segment) => *segment = new Segment
    {
        Selector = register.Selector,
        Base = register.Base,
        Limit = register.Limit,
        Attributes = register.Attributes,
    };
}
