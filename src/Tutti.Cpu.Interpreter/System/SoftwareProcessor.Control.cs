using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>Writes of control and extended-control registers. Source: Intel SDM volume 3, "Control Registers".</summary>
internal sealed unsafe partial class SoftwareProcessor
{
    private const ulong Cr0Writable = Cr0.ProtectionEnable | Cr0.MonitorCoprocessor | Cr0.Emulation | Cr0.TaskSwitched
        | Cr0.NumericError | Cr0.WriteProtect | Cr0.AlignmentMask | Cr0.NotWriteThrough | Cr0.CacheDisable | Cr0.Paging;

    /// <summary>Bits that every model has; the others are in <see cref="Cr4Promised"/>.</summary>
    private const ulong Cr4Always = Cr4.Virtual8086Extensions | Cr4.ProtectedVirtualInterrupts | Cr4.TimeStampDisable
        | Cr4.DebuggingExtensions | Cr4.PageSizeExtensions | Cr4.PhysicalAddressExtension | Cr4.PageGlobalEnable
        | Cr4.PerformanceCounterEnable | Cr4.OsFxsr | Cr4.OsXmmException;

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

    /// <summary>
    /// Whether registers that hold linear addresses may hold this one (bases, MSRs, what INVPCID names): they are looked at with the width that
    /// the processor has, whatever paging mode is on. Source: Intel SDM volume 3, "Canonicality Checking".
    /// </summary>
    public bool IsLoadable(ulong linear) => (ulong)((long)linear << _loadableShift >> _loadableShift) == linear;

    private const ulong Cr4ChangesTranslations = Cr4.PageSizeExtensions | Cr4.PhysicalAddressExtension | Cr4.PageGlobalEnable
        | Cr4.PcidEnable | Cr4.SupervisorModeExecutionPrevention | Cr4.SupervisorModeAccessPrevention | Cr4.ProtectionKeyEnable
        | Cr4.LinearAddress57;

    private const ulong Cr3NoFlush = 1UL << 63;
    private const ulong Cr3Pcid = 0xFFF;

    private static ulong FindWritableCr4(ProcessorCpuid cpuid)
    {
        ulong writable = Cr4Always;
        foreach ((string name, ulong bit) in Cr4Promised)
        {
            writable |= cpuid.Shows(CpuFeatures.Get(name)) ? bit : 0;
        }

        return writable;
    }

    /// <summary>MOV to CR0 and LMSW; false after #GP(0) (or a page fault on PAE's directory pointers).</summary>
    public bool TryWriteCr0(ulong value)
    {
        if (value > uint.MaxValue)
        {
            return Refuse(ExceptionVector.GeneralProtection);
        }

        value = (value & Cr0Writable) | Cr0.ExtensionType;
        bool paging = (value & Cr0.Paging) != 0;
        bool wasPaging = (State->Cr0 & Cr0.Paging) != 0;
        if ((paging && (value & Cr0.ProtectionEnable) == 0)
            || (value & (Cr0.NotWriteThrough | Cr0.CacheDisable)) == Cr0.NotWriteThrough)
        {
            return Refuse(ExceptionVector.GeneralProtection);
        }

        ulong efer = State->Efer;
        if (paging && !wasPaging && (efer & Efer.LongModeEnable) != 0)
        {
            if ((State->Cr4 & Cr4.PhysicalAddressExtension) == 0 || (State->Cs.Attributes & SegmentAttributes.Long) != 0
                || (State->Tr.Attributes & SegmentAttributes.TypeMask) == SystemDescriptorType.BusyTss16)
            {
                return Refuse(ExceptionVector.GeneralProtection);
            }

            efer |= Efer.LongModeActive;
        }
        else if (!paging && wasPaging)
        {
            if (Is64BitMode || (State->Cr4 & Cr4.PcidEnable) != 0)
            {
                return Refuse(ExceptionVector.GeneralProtection);
            }

            efer &= ~Efer.LongModeActive;
        }

        ulong changed = value ^ State->Cr0;
        State->Cr0 = value;
        State->Efer = efer;
        if ((changed & (Cr0.Paging | Cr0.WriteProtect | Cr0.ProtectionEnable)) != 0)
        {
            FlushTlb();
        }

        UpdateMode();
        return true;
    }

    public bool TryWriteCr3(ulong value)
    {
        // Writes of bits that the mode does not know are ignored outside long mode.
        bool keeps = (State->Cr4 & Cr4.PcidEnable) != 0;
        if (keeps)
        {
            value &= ~Cr3NoFlush;
        }

        if (IsLongMode ? (value & ~PhysicalMask) != 0 : value > uint.MaxValue)
        {
            return Refuse(ExceptionVector.GeneralProtection);
        }

        // Flushing more than PCID asks for is always right.
        State->Cr3 = value;
        FlushTlbButGlobal();
        return true;
    }

    public bool TryWriteCr4(ulong value)
    {
        ulong changed = value ^ State->Cr4;
        bool setsPcid = (changed & value & Cr4.PcidEnable) != 0;
        if ((value & ~_cr4Writable) != 0
            || (IsLongMode && ((value & Cr4.PhysicalAddressExtension) == 0 || (changed & Cr4.LinearAddress57) != 0))
            || (setsPcid && (!IsLongMode || (State->Cr3 & Cr3Pcid) != 0)))
        {
            return Refuse(ExceptionVector.GeneralProtection);
        }

        State->Cr4 = value;
        if ((changed & Cr4ChangesTranslations) != 0)
        {
            FlushTlb();
        }

        UpdateMode();
        return true;
    }

    /// <summary>XSETBV: XCR0 may have what leaf 0Dh shows.</summary>
    public bool TryWriteXcr0(uint index, ulong value)
    {
        ulong supported = Cpuid.Query(CpuidLeaf.Xsave, 0, State->Cr4, State->Xcr0).Eax;
        if (index != 0 || !XsaveLayout.IsValid(value, supported))
        {
            return Refuse(ExceptionVector.GeneralProtection);
        }

        State->Xcr0 = value;
        return true;
    }
}
