namespace Tutti.Devices.InterruptControllers;

/// <summary>Ports and command words of the 8259A. Source: Intel 8259A data sheet (231468); ELCR: Intel 82371SB data sheet.</summary>
public static class Pic8259Registers
{
    public const ushort MasterPort = 0x20;
    public const ushort SlavePort = 0xA0;
    public const ushort ElcrPort = 0x4D0;

    internal const byte Icw1Ic4 = 0x01;
    internal const byte Icw1Select = 0x10;
    internal const byte Icw4Aeoi = 0x02;
    internal const byte Icw4Sfnm = 0x10;

    internal const byte Ocw3Select = 0x08;
    internal const byte Ocw3ReadIsr = 0x01;
    internal const byte Ocw3ReadRegister = 0x02;
    internal const byte Ocw3Poll = 0x04;
    internal const byte Ocw3SpecialMask = 0x20;
    internal const byte Ocw3EnableSpecialMask = 0x40;

    /// <summary>The master's input that the slave hangs on.</summary>
    internal const int CascadeInput = 2;

    /// <summary>What a chip names when it is asked for an interrupt and has none.</summary>
    internal const int SpuriousInput = 7;

    /// <summary>Inputs that the edge/level control register lets be level; timer, keyboard, cascade, RTC and FPU stay edge.</summary>
    internal const byte MasterElcrMask = 0xF8;

    internal const byte SlaveElcrMask = 0xDE;
}
