using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>The whole state as plain data, out and in.</summary>
internal sealed unsafe class RegisterTransfer
{
    private readonly CpuState* _state;
    private readonly ILocalApic _lapic;
    private readonly AttentionWord _attention;
    private readonly PendingEvents _pending;
    private readonly Tlb _tlb;
    private readonly DebugUnit _debug;
    private readonly OperatingMode _mode;
    private readonly ModelSpecificRegisters _msrs;

    public RegisterTransfer(
        CpuState* state, ILocalApic lapic, AttentionWord attention, PendingEvents pending, Tlb tlb, DebugUnit debug, OperatingMode mode,
        ModelSpecificRegisters msrs)
    {
        _state = state;
        _lapic = lapic;
        _attention = attention;
        _pending = pending;
        _tlb = tlb;
        _debug = debug;
        _mode = mode;
        _msrs = msrs;
    }

    public void GetRegisters(ProcessorRegisters registers)
    {
        ArgumentNullException.ThrowIfNull(registers);
        for (int i = 0; i < 16; i++)
        {
            registers.Gpr[i] = _state->Gpr[i];
        }

        for (int i = 0; i < 6; i++)
        {
            registers.Segments[i] = Export(CpuState.SegmentOf(_state, i));
        }

        for (int i = 0; i < 8; i++)
        {
            registers.Dr[i] = _state->Dr[i];
        }

        registers.Rip = _state->Rip;
        registers.Rflags = LazyFlags.Get(_state);
        registers.Tr = Export(&_state->Tr);
        registers.Ldtr = Export(&_state->Ldtr);
        registers.GdtBase = _state->Gdtr.Base;
        registers.GdtLimit = (ushort)_state->Gdtr.Limit;
        registers.IdtBase = _state->Idtr.Base;
        registers.IdtLimit = (ushort)_state->Idtr.Limit;
        registers.Cr0 = _state->Cr0;
        registers.Cr2 = _state->Cr2;
        registers.Cr3 = _state->Cr3;
        registers.Cr4 = _state->Cr4;
        registers.Cr8 = _lapic.TaskPriority;
        registers.Efer = _state->Efer;
        registers.Xcr0 = _state->Xcr0;
        // SAFETY: the FX area has 512 bytes, here and below.
        new Span<byte>(_state->FxArea, 512).CopyTo(registers.FxState);
        registers.ExtendedState = ExtendedState.Export(_state);
        registers.Activity = _pending.Activity;
        registers.InterruptShadow = _state->InterruptShadow != 0;
        registers.NmiBlocked = _pending.IsNmiBlocked;
        registers.NmiPending = _pending.NmiWaits || (_attention.Value & Attention.Nmi) != 0;
        _msrs.Export(registers.Msrs);
    }

    public void SetRegisters(ProcessorRegisters registers)
    {
        ArgumentNullException.ThrowIfNull(registers);
        for (int i = 0; i < 16; i++)
        {
            _state->Gpr[i] = registers.Gpr[i];
        }

        for (int i = 0; i < 6; i++)
        {
            Import(registers.Segments[i], CpuState.SegmentOf(_state, i));
        }

        for (int i = 0; i < 8; i++)
        {
            _state->Dr[i] = registers.Dr[i];
        }

        _state->Dr[6] = (_state->Dr[6] & Dr6.Writable) | Dr6.AlwaysOne;
        _state->Dr[7] = (_state->Dr[7] & Dr7.Writable) | Dr7.AlwaysOne;
        _state->Rip = registers.Rip;
        _state->Flags = (registers.Rflags & Rflags.Defined) | Rflags.AlwaysOne;
        _state->FlagKind = FlagKind.Eager;
        Import(registers.Tr, &_state->Tr);
        Import(registers.Ldtr, &_state->Ldtr);
        _state->Gdtr = new Segment { Base = registers.GdtBase, Limit = registers.GdtLimit };
        _state->Idtr = new Segment { Base = registers.IdtBase, Limit = registers.IdtLimit };
        _state->Cr0 = registers.Cr0 | Cr0.ExtensionType;
        _state->Cr2 = registers.Cr2;
        _state->Cr3 = registers.Cr3;
        _state->Cr4 = registers.Cr4;
        _lapic.TaskPriority = (byte)(registers.Cr8 & 0xF);
        _state->Efer = registers.Efer;
        _state->Xcr0 = registers.Xcr0 | 1;
        registers.FxState.CopyTo(new Span<byte>(_state->FxArea, 512));
        ExtendedState.Import(_state, registers.ExtendedState);

        // SS.DPL is the privilege level in protected mode; null stacks of 64-bit mode keep it in the selector.
        bool isProtected = (_state->Cr0 & Cr0.ProtectionEnable) != 0;
        bool virtual8086 = (_state->Flags & Rflags.Virtual8086) != 0;
        _state->Cpl = !isProtected ? 0 : virtual8086 ? 3 : _state->Cs.Selector & 3;
        _msrs.Import(registers.Msrs);
        _pending.Activity = registers.Activity;
        _state->FaultVector = Faults.None;
        _debug.ForgetHeldHits();
        _pending.IsNmiBlocked = registers.NmiBlocked;
        _pending.NmiWaits = registers.NmiPending;
        _attention.Clear(Attention.Nmi);
        _state->InterruptShadow = registers.InterruptShadow ? PendingEvents.ShadowOfSti : 0;

        // An interrupt may wait in the local APIC, and the activity may not be Running: the loop is to look.
        _pending.InterruptWaits = true;
        _attention.Set(Attention.Interrupt | Attention.Halted);
        _tlb.Flush();
        _mode.Update();
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
