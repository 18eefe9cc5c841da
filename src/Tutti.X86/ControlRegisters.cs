namespace Tutti.X86;

/// <summary>CR0 bits. Source: Intel SDM volume 3, "Control Registers".</summary>
public static class Cr0
{
    public const ulong ProtectionEnable = 1UL << 0;
    public const ulong MonitorCoprocessor = 1UL << 1;
    public const ulong Emulation = 1UL << 2;
    public const ulong TaskSwitched = 1UL << 3;
    public const ulong ExtensionType = 1UL << 4;
    public const ulong NumericError = 1UL << 5;
    public const ulong WriteProtect = 1UL << 16;
    public const ulong AlignmentMask = 1UL << 18;
    public const ulong NotWriteThrough = 1UL << 29;
    public const ulong CacheDisable = 1UL << 30;
    public const ulong Paging = 1UL << 31;
}

/// <summary>CR4 bits. Source: Intel SDM volume 3, "Control Registers".</summary>
public static class Cr4
{
    public const ulong Virtual8086Extensions = 1UL << 0;
    public const ulong ProtectedVirtualInterrupts = 1UL << 1;
    public const ulong TimeStampDisable = 1UL << 2;
    public const ulong DebuggingExtensions = 1UL << 3;
    public const ulong PageSizeExtensions = 1UL << 4;
    public const ulong PhysicalAddressExtension = 1UL << 5;
    public const ulong MachineCheckEnable = 1UL << 6;
    public const ulong PageGlobalEnable = 1UL << 7;
    public const ulong PerformanceCounterEnable = 1UL << 8;
    public const ulong OsFxsr = 1UL << 9;
    public const ulong OsXmmException = 1UL << 10;
    public const ulong UserModeInstructionPrevention = 1UL << 11;

    /// <summary>LA57: 5-level paging, linear addresses of 57 bits.</summary>
    public const ulong LinearAddress57 = 1UL << 12;
    public const ulong FsGsBase = 1UL << 16;
    public const ulong PcidEnable = 1UL << 17;
    public const ulong OsXsave = 1UL << 18;
    public const ulong SupervisorModeExecutionPrevention = 1UL << 20;
    public const ulong SupervisorModeAccessPrevention = 1UL << 21;

    /// <summary>PKE: protection keys of user pages.</summary>
    public const ulong ProtectionKeyEnable = 1UL << 22;
}

/// <summary>IA32_EFER bits. Source: AMD APM volume 2, "Extended Feature Enable Register".</summary>
public static class Efer
{
    public const ulong SyscallEnable = 1UL << 0;
    public const ulong LongModeEnable = 1UL << 8;
    public const ulong LongModeActive = 1UL << 10;
    public const ulong NoExecuteEnable = 1UL << 11;

    /// <summary>AIBRSE, Automatic IBRS: a promise about the branch predictor, without an effect that programs see.</summary>
    public const ulong AutomaticIbrsEnable = 1UL << 21;
}
