namespace Tutti.Devices.InterruptControllers;

/// <summary>Registers of the I/O APIC. Source: Intel 82093AA data sheet (290566); EOI register: Intel ICH I/O APIC.</summary>
public static class IoApicRegisters
{
    public const ulong DefaultBase = 0xFEC0_0000;
    public const ulong Length = 0x1000;
    public const int PinCount = 24;

    internal const ulong IoRegSel = 0x00;
    internal const ulong IoWin = 0x10;
    internal const ulong Eoir = 0x40;

    internal const byte IoApicId = 0x00;
    internal const byte IoApicVer = 0x01;
    internal const byte IoApicArb = 0x02;
    internal const byte FirstRedirection = 0x10;

    /// <summary>Version 0x20 (the first with an EOI register); highest redirection entry in bits 23:16.</summary>
    internal const uint VersionValue = 0x20 | ((PinCount - 1) << 16);

    internal const ulong Masked = 1UL << 16;
    internal const ulong Level = 1UL << 15;
    internal const ulong RemoteIrr = 1UL << 14;
    internal const ulong Logical = 1UL << 11;
    internal const ulong ReadOnlyBits = RemoteIrr | (1UL << 12);
    internal const ulong WritableBits = 0xFF00_0000_0001_AFFF;
}
