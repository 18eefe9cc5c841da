namespace Tutti.X86;

/// <summary>
/// Numbers of model-specific registers. Sources: Intel SDM volume 4; AMD APM volume 2, appendix A; Linux
/// Documentation/virt/kvm/x86/msr.rst for the paravirtual ones.
/// </summary>
public static class Msr
{
    /// <summary>What a machine check had, on processors before the P6; no error was ever reported here.</summary>
    public const uint P5MachineCheckAddress = 0x0;

    public const uint P5MachineCheckType = 0x1;
    public const uint Tsc = 0x10;
    public const uint KvmWallClockOld = 0x11;
    public const uint KvmSystemTimeOld = 0x12;
    public const uint ApicBase = 0x1B;
    public const uint PatchLevel = 0x8B;
    public const uint MtrrCap = 0xFE;
    public const uint SysenterCs = 0x174;
    public const uint SysenterEsp = 0x175;
    public const uint SysenterEip = 0x176;

    /// <summary>How many banks report machine checks.</summary>
    public const uint MachineCheckCapabilities = 0x179;

    public const uint MachineCheckStatus = 0x17A;
    public const uint DebugControl = 0x1D9;

    /// <summary>From and to of the last branch, and of the last one before an exception: four registers.</summary>
    public const uint LastBranchFrom = 0x1DB;

    /// <summary>Bases and masks of the variable ranges alternate from here.</summary>
    public const uint MtrrPhysBase0 = 0x200;

    public const uint MtrrFix64K00000 = 0x250;
    public const uint MtrrFix16K80000 = 0x258;
    public const uint MtrrFix16KA0000 = 0x259;

    /// <summary>Eight 4 KiB-granular registers from 0xC0000 on.</summary>
    public const uint MtrrFix4KC0000 = 0x268;

    public const uint Pat = 0x277;
    public const uint MtrrDefType = 0x2FF;
    public const uint TscDeadline = 0x6E0;
    public const uint X2ApicFirst = 0x800;
    public const uint X2ApicLast = 0x8FF;
    public const uint KvmWallClock = 0x4B56_4D00;
    public const uint KvmSystemTime = 0x4B56_4D01;
    public const uint Efer = 0xC000_0080;
    public const uint Star = 0xC000_0081;
    public const uint Lstar = 0xC000_0082;
    public const uint Cstar = 0xC000_0083;
    public const uint Sfmask = 0xC000_0084;
    public const uint FsBase = 0xC000_0100;
    public const uint GsBase = 0xC000_0101;
    public const uint KernelGsBase = 0xC000_0102;
    public const uint TscAux = 0xC000_0103;

    /// <summary>The first of the event selectors of the counters that every AMD64 processor has.</summary>
    public const uint PerfEventSelect0 = 0xC001_0000;

    /// <summary>The first of those counters.</summary>
    public const uint PerfCounter0 = 0xC001_0004;

    public const uint PerfCounterCount = 4;
    public const uint Syscfg = 0xC001_0010;
    public const uint Hwcr = 0xC001_0015;

    /// <summary>Bit of <see cref="Hwcr"/>: the TSC counts at the P0 frequency.</summary>
    public const ulong HwcrTscFreqSel = 1 << 24;


    /// <summary>Bases and masks of the two I/O ranges alternate from here.</summary>
    public const uint IoRangeBase0 = 0xC001_0016;

    public const uint TopMem = 0xC001_001A;

    /// <summary>How fast the clock rises again after HLT, of family 0Fh.</summary>
    public const uint ClockControl = 0xC001_001B;

    public const uint TopMem2 = 0xC001_001D;
    public const uint NorthBridgeConfiguration = 0xC001_001F;
    public const uint PatchLoader = 0xC001_0020;

    /// <summary>Interrupt pending and CMP-halt: C1E.</summary>
    public const uint InterruptPending = 0xC001_0055;

    /// <summary>Where PCI's configuration space is mapped.</summary>
    public const uint MmioConfigurationBase = 0xC001_0058;

    /// <summary>Where system-management memory is, and with which rights.</summary>
    public const uint SmmAddress = 0xC001_0112;

    public const uint SmmMask = 0xC001_0113;

    /// <summary>Virtualization's switches.</summary>
    public const uint VirtualMachineControl = 0xC001_0114;

    /// <summary>Bit of <see cref="VirtualMachineControl"/>: EFER.SVME cannot be set.</summary>
    public const ulong VirtualMachineControlSvmDisabled = 1 << 4;

    /// <summary>Where VMRUN keeps the host's state.</summary>
    public const uint HostSaveArea = 0xC001_0117;

    public const uint OsvwIdLength = 0xC001_0140;
    public const uint OsvwStatus = 0xC001_0141;
    public const uint InstructionCacheConfiguration = 0xC001_1021;
    public const uint DataCacheConfiguration = 0xC001_1022;
    public const uint TableWalkConfiguration = 0xC001_1023;
    public const uint DecodeConfiguration = 0xC001_1029;
    public const uint BusUnitConfiguration2 = 0xC001_102A;
    public const uint ExecutionConfiguration = 0xC001_102C;
}
