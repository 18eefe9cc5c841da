namespace Tutti.Devices.Timers;

/// <summary>Registers of the real-time clock and the CMOS bytes that firmware fills. Source: Motorola MC146818A data sheet; IBM PC/AT Technical Reference.</summary>
public static class CmosRegisters
{
    public const ushort Port = 0x70;
    public const int PortCount = 2;
    public const int RtcIrq = 8;
    public const int Size = 128;

    /// <summary>Where <see cref="CmosRtc"/> keeps the century, for the FADT's CENTURY.</summary>
    public const byte Century = 0x32;

    internal const int Seconds = 0x00;
    internal const int SecondsAlarm = 0x01;
    internal const int Minutes = 0x02;
    internal const int MinutesAlarm = 0x03;
    internal const int Hours = 0x04;
    internal const int HoursAlarm = 0x05;
    internal const int WeekDay = 0x06;
    internal const int DayOfMonth = 0x07;
    internal const int Month = 0x08;
    internal const int Year = 0x09;
    internal const int RegisterA = 0x0A;
    internal const int RegisterB = 0x0B;
    internal const int RegisterC = 0x0C;
    internal const int RegisterD = 0x0D;

    internal const byte AUip = 0x80;
    internal const byte ARateSelect = 0x0F;

    /// <summary>Register A as firmware leaves it: 32,768 Hz time base, 1,024 Hz periodic rate.</summary>
    internal const byte ADefault = 0x26;

    internal const byte BSet = 0x80;
    internal const byte BPie = 0x40;
    internal const byte BAie = 0x20;
    internal const byte BUie = 0x10;
    internal const byte BDm = 0x04;
    internal const byte B24Hours = 0x02;
    internal const byte CIrqf = 0x80;
    internal const byte CPf = 0x40;
    internal const byte CAf = 0x20;
    internal const byte CUf = 0x10;
    internal const byte DVrt = 0x80;

    internal const byte HoursPm = 0x80;

    /// <summary>An alarm byte with both top bits set matches everything.</summary>
    internal const byte AlarmDoNotCare = 0xC0;

    // Memory sizes, low byte first.
    internal const int BaseMemoryKib = 0x15;
    internal const int ExtendedMemoryKib = 0x17;
    internal const int ExtendedMemoryKibCopy = 0x30;
    internal const int MemoryAbove16MibIn64Kib = 0x34;
    internal const int MemoryAbove4GibIn64Kib = 0x5B;
}
