namespace Tutti.Devices.InterruptControllers;

/// <summary>How an interrupt message acts on a processor (bits 10:8 of ICR, LVT entries, redirection entries and MSI data).</summary>
public enum DeliveryMode : byte
{
    Fixed = 0,
    LowestPriority = 1,
    Smi = 2,
    Reserved = 3,
    Nmi = 4,
    Init = 5,
    Startup = 6,
    ExtInt = 7,
}

/// <summary>Registers of the local APIC. Source: Intel SDM volume 3, chapter "Advanced Programmable Interrupt Controller (APIC)".</summary>
public static class ApicRegisters
{
    /// <summary>Where IA32_APIC_BASE points after power-on.</summary>
    public const ulong DefaultBase = 0xFEE0_0000;

    public const uint TscDeadlineMsr = 0x6E0;
    public const uint X2ApicFirstMsr = 0x800;
    public const uint X2ApicLastMsr = 0x8FF;

    public const ulong BaseBootstrap = 1UL << 8;
    public const ulong BaseX2Apic = 1UL << 10;
    public const ulong BaseEnable = 1UL << 11;

    // Offsets in the xAPIC page; an x2APIC MSR is 0x800 plus a sixteenth of the offset.
    internal const uint ApicId = 0x020;
    internal const uint ApicVersion = 0x030;
    internal const uint Tpr = 0x080;
    internal const uint Apr = 0x090;
    internal const uint Ppr = 0x0A0;
    internal const uint Eoi = 0x0B0;
    internal const uint Rrd = 0x0C0;
    internal const uint Ldr = 0x0D0;
    internal const uint Dfr = 0x0E0;
    internal const uint Svr = 0x0F0;
    internal const uint Isr = 0x100;
    internal const uint Tmr = 0x180;
    internal const uint Irr = 0x200;
    internal const uint Esr = 0x280;
    internal const uint IcrLow = 0x300;
    internal const uint IcrHigh = 0x310;
    internal const uint LvtTimer = 0x320;
    internal const uint LvtThermal = 0x330;
    internal const uint LvtPerformance = 0x340;
    internal const uint LvtLint0 = 0x350;
    internal const uint LvtLint1 = 0x360;
    internal const uint LvtError = 0x370;
    internal const uint InitialCount = 0x380;
    internal const uint CurrentCount = 0x390;
    internal const uint DivideConfiguration = 0x3E0;
    internal const uint SelfIpi = 0x3F0;

    /// <summary>An integrated APIC (0x14) with LVT entries 0 to 5 (so none for CMCI), that always broadcasts its EOI.</summary>
    internal const uint VersionValue = 0x0005_0014;

    internal const uint SvrEnable = 1u << 8;
    internal const uint SvrWritable = 0x3FF;

    internal const uint LvtMasked = 1u << 16;
    internal const uint LvtLevel = 1u << 15;
    internal const uint LvtRemoteIrr = 1u << 14;
    internal const int LvtTimerModeShift = 17;

    internal const uint IcrLogical = 1u << 11;
    internal const uint IcrDeliveryStatus = 1u << 12;
    internal const uint IcrAssert = 1u << 14;
    internal const uint IcrLevel = 1u << 15;
    internal const int IcrShorthandShift = 18;
    internal const uint IcrWritable = 0x000C_CFFF;
    internal const uint IcrX2Reserved = 0xFFF3_2000;

    internal const uint EsrSendIllegalVector = 1u << 5;
    internal const uint EsrReceivedIllegalVector = 1u << 6;
    internal const uint EsrIllegalRegister = 1u << 7;

    /// <summary>Vectors below this one cannot come through an APIC.</summary>
    internal const int FirstLegalVector = 16;

    internal const uint Broadcast = 0xFFFF_FFFF;

    /// <summary>What the guest may write into the LVT entry at this index, LvtTimer first.</summary>
    internal static ReadOnlySpan<uint> LvtWritable =>
        [0x0007_00FF, 0x0001_07FF, 0x0001_07FF, 0x0001_A7FF, 0x0001_A7FF, 0x0001_00FF];
}
