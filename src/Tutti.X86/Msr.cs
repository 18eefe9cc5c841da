namespace Tutti.X86;

/// <summary>
/// Numbers of model-specific registers. Sources: Intel SDM volume 4; AMD APM volume 2, appendix A; Linux
/// Documentation/virt/kvm/x86/msr.rst for the paravirtual ones.
/// </summary>
public static class Msr
{
    public const uint Tsc = 0x10;
    public const uint KvmWallClockOld = 0x11;
    public const uint KvmSystemTimeOld = 0x12;
    public const uint ApicBase = 0x1B;
    public const uint PatchLevel = 0x8B;
    public const uint MtrrCap = 0xFE;
    public const uint SysenterCs = 0x174;
    public const uint SysenterEsp = 0x175;
    public const uint SysenterEip = 0x176;

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
    public const uint Syscfg = 0xC001_0010;
    public const uint Hwcr = 0xC001_0015;

    /// <summary>Bit of <see cref="Hwcr"/>: the TSC counts at the P0 frequency.</summary>
    public const ulong HwcrTscFreqSel = 1 << 24;

    public const uint TopMem = 0xC001_001A;
    public const uint TopMem2 = 0xC001_001D;
    public const uint NorthBridgeConfiguration = 0xC001_001F;
    public const uint OsvwIdLength = 0xC001_0140;
    public const uint OsvwStatus = 0xC001_0141;
    public const uint DecodeConfiguration = 0xC001_1029;
}
