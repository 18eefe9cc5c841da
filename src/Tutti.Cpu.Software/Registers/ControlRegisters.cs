using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>Writes of control and extended-control registers. Source: Intel SDM volume 3, "Control Registers".</summary>
public sealed unsafe class ControlRegisters
{
    private const ulong Cr0Writable = Cr0.ProtectionEnable | Cr0.MonitorCoprocessor | Cr0.Emulation | Cr0.TaskSwitched
        | Cr0.NumericError | Cr0.WriteProtect | Cr0.AlignmentMask | Cr0.NotWriteThrough | Cr0.CacheDisable | Cr0.Paging;

    /// <summary>Bits that every model has; the others are in <see cref="Cr4Promised"/>.</summary>
    private const ulong Cr4Always = Cr4.Virtual8086Extensions | Cr4.ProtectedVirtualInterrupts | Cr4.TimeStampDisable
        | Cr4.DebuggingExtensions | Cr4.PageSizeExtensions | Cr4.PhysicalAddressExtension | Cr4.PageGlobalEnable
        | Cr4.PerformanceCounterEnable | Cr4.OsFxsr | Cr4.OsXmmException;

    private const ulong Cr4ChangesTranslations = Cr4.PageSizeExtensions | Cr4.PhysicalAddressExtension | Cr4.PageGlobalEnable
        | Cr4.PcidEnable | Cr4.SupervisorModeExecutionPrevention | Cr4.SupervisorModeAccessPrevention | Cr4.ProtectionKeyEnable
        | Cr4.LinearAddress57;

    private const ulong Cr3NoFlush = 1UL << 63;
    private const ulong Cr3Pcid = 0xFFF;

    /// <summary>IA32_APIC_BASE.EN.</summary>
    private const ulong ApicBaseEnable = 1UL << 11;

    private readonly CpuState* _state;
    private readonly ILocalApic _lapic;
    private readonly ProcessorCpuid _cpuid;
    private readonly Tlb _tlb;
    private readonly GuestPresence _presence;
    private readonly OperatingMode _mode;

    /// <summary>Bits that only CPUID promises: reserved where it does not show what they are for.</summary>
    private static readonly (string Feature, ulong Bit)[] Cr4Promised =
    [
        ("FSGSBASE", Cr4.FsGsBase),
        ("PCID", Cr4.PcidEnable),
        ("XSAVE", Cr4.OsXsave),
        ("SMEP", Cr4.SupervisorModeExecutionPrevention),
        ("SMAP", Cr4.SupervisorModeAccessPrevention),
        ("UMIP", Cr4.UserModeInstructionPrevention),
        ("PKU", Cr4.ProtectionKeyEnable),
        ("LA57", Cr4.LinearAddress57),
    ];

    private readonly ulong _cr4Writable;

    /// <summary>64 minus the bits of the widest linear addresses that the processor has.</summary>
    private readonly int _loadableShift;

    internal ControlRegisters(CpuState* state, ILocalApic lapic, ProcessorCpuid cpuid, Tlb tlb, GuestPresence presence, OperatingMode mode)
    {
        _state = state;
        _lapic = lapic;
        _cpuid = cpuid;
        _tlb = tlb;
        _presence = presence;
        _mode = mode;
        _cr4Writable = FindWritableCr4(cpuid);
        _loadableShift = (_cr4Writable & Cr4.LinearAddress57) != 0 ? 64 - SoftwareCpuid.LinearBits : 16;
    }

    private static ulong FindWritableCr4(ProcessorCpuid cpuid)
    {
        ulong writable = Cr4Always;
        foreach ((string name, ulong bit) in Cr4Promised)
        {
            writable |= cpuid.Shows(CpuFeatures.Get(name)) ? bit : 0;
        }

        return writable;
    }

    /// <summary>
    /// Whether registers that hold linear addresses may hold this one (bases, MSRs, what INVPCID names): they are looked at with the width that
    /// the processor has, whatever paging mode is on. Source: Intel SDM volume 3, "Canonicality Checking".
    /// </summary>
    public bool IsLoadable(ulong linear) => (ulong)((long)linear << _loadableShift >> _loadableShift) == linear;

    /// <summary>MOV to CR0 and LMSW; false after #GP(0) (or a page fault on PAE's directory pointers).</summary>
    public bool TryWriteCr0(ulong value)
    {
        if (value > uint.MaxValue)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        value = (value & Cr0Writable) | Cr0.ExtensionType;
        bool paging = (value & Cr0.Paging) != 0;
        bool wasPaging = (_state->Cr0 & Cr0.Paging) != 0;
        if ((paging && (value & Cr0.ProtectionEnable) == 0)
            || (value & (Cr0.NotWriteThrough | Cr0.CacheDisable)) == Cr0.NotWriteThrough)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        ulong efer = _state->Efer;
        if (paging && !wasPaging && (efer & Efer.LongModeEnable) != 0)
        {
            if ((_state->Cr4 & Cr4.PhysicalAddressExtension) == 0 || (_state->Cs.Attributes & SegmentAttributes.Long) != 0
                || (_state->Tr.Attributes & SegmentAttributes.TypeMask) == SystemDescriptorType.BusyTss16)
            {
                return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
            }

            efer |= Efer.LongModeActive;
        }
        else if (!paging && wasPaging)
        {
            if (_state->Is64BitMode || (_state->Cr4 & Cr4.PcidEnable) != 0)
            {
                return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
            }

            efer &= ~Efer.LongModeActive;
        }

        ulong changed = value ^ _state->Cr0;
        _state->Cr0 = value;
        _state->Efer = efer;
        if ((changed & (Cr0.Paging | Cr0.WriteProtect | Cr0.ProtectionEnable)) != 0)
        {
            _tlb.Flush();
        }

        _mode.Update();
        return true;
    }

    /// <summary>MOV to CR3; false after #GP(0).</summary>
    public bool TryWriteCr3(ulong value)
    {
        // Writes of bits that the mode does not know are ignored outside long mode.
        bool keeps = (_state->Cr4 & Cr4.PcidEnable) != 0 && (value & Cr3NoFlush) != 0;
        if (keeps)
        {
            value &= ~Cr3NoFlush;
        }

        if (_state->IsLongMode ? (value & ~ModelSpecificRegisters.PhysicalMask) != 0 : value > uint.MaxValue)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        _state->Cr3 = value;
        _tlb.SwitchSpace(keeps);
        return true;
    }

    /// <summary>MOV to CR4; false after #GP(0). The caller leaves its block.</summary>
    public bool TryWriteCr4(ulong value)
    {
        ulong changed = value ^ _state->Cr4;
        bool setsPcid = (changed & value & Cr4.PcidEnable) != 0;
        if ((value & ~_cr4Writable) != 0
            || (_state->IsLongMode && ((value & Cr4.PhysicalAddressExtension) == 0 || (changed & Cr4.LinearAddress57) != 0))
            || (setsPcid && (!_state->IsLongMode || (_state->Cr3 & Cr3Pcid) != 0)))
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        _state->Cr4 = value;
        if ((changed & Cr4ChangesTranslations) != 0)
        {
            _tlb.Flush();
        }

        _mode.Update();
        return true;
    }

    /// <summary>CPUID, in the state that the processor is in.</summary>
    public CpuidResult QueryCpuid(uint leaf, uint subleaf)
    {
        // Only these have a bit of the APIC's, which is behind a lock.
        bool hasApic = leaf is not (CpuidLeaf.Features or CpuidLeaf.ExtendedSignature) || (_lapic.ApicBase & ApicBaseEnable) != 0;
        return _cpuid.Query(leaf, subleaf, _state->Cr4, _state->Xcr0, hasApic);
    }

    /// <summary>XSETBV: XCR0 may have what leaf 0Dh shows.</summary>
    public bool TryWriteXcr0(uint index, ulong value)
    {
        ulong supported = _cpuid.Query(CpuidLeaf.Xsave, 0, _state->Cr4, _state->Xcr0).Eax;
        if (index != 0 || !XsaveLayout.IsValid(value, supported))
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        _state->Xcr0 = value;
        return true;
    }

    /// <summary>CR8.</summary>
    public byte TaskPriority
    {
        get
        {
            _presence.Leave();
            byte value = _lapic.TaskPriority;
            _presence.Reenter();
            return value;
        }

        set
        {
            _presence.Leave();
            _lapic.TaskPriority = value;
            _presence.Reenter();
        }
    }
}
