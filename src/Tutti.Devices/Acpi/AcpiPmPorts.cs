namespace Tutti.Devices.Acpi;

/// <summary>
/// Where the ACPI fixed hardware lies; the FADT and the DSDT name the same numbers.
/// Source: ACPI Specification 6.5, 4.8 "ACPI Hardware Features".
/// </summary>
public static class AcpiPmPorts
{
    /// <summary>First port and number of ports to map an <see cref="AcpiPm"/> at.</summary>
    public const ushort Base = 0x600;
    public const int Length = 0x24;

    /// <summary>PM1a_EVT_BLK: status and enable, 16 bits each.</summary>
    public const ushort Pm1Event = 0x600;
    public const byte Pm1EventLength = 4;

    /// <summary>PM1a_CNT_BLK.</summary>
    public const ushort Pm1Control = 0x604;
    public const byte Pm1ControlLength = 2;

    /// <summary>PM_TMR_BLK, 32 bits wide (TMR_VAL_EXT).</summary>
    public const ushort PmTimer = 0x608;
    public const byte PmTimerLength = 4;

    /// <summary>GPE0_BLK: status and enable, 16 bits each.</summary>
    public const ushort Gpe0 = 0x620;
    public const byte Gpe0Length = 4;

    /// <summary>The system control interrupt: level, active high.</summary>
    public const int SciIrq = 9;

    /// <summary>SLP_TYP of S5 (soft off), for the DSDT's <c>_S5</c>.</summary>
    public const byte SleepTypeS5 = 5;

    /// <summary>RESET_REG and RESET_VALUE, answered by <see cref="ResetControl"/>.</summary>
    public const ushort Reset = 0xCF9;
    public const byte ResetValue = 0x06;

    internal const ushort TmrSts = 1 << 0;
    internal const ushort GblSts = 1 << 5;
    internal const ushort PwrbtnSts = 1 << 8;
    internal const ushort SlpbtnSts = 1 << 9;
    internal const ushort RtcSts = 1 << 10;
    internal const ushort WakSts = 1 << 15;
    internal const ushort Pm1StatusBits = TmrSts | GblSts | PwrbtnSts | SlpbtnSts | RtcSts | WakSts;
    internal const ushort Pm1EnableBits = TmrSts | GblSts | PwrbtnSts | SlpbtnSts | RtcSts;

    internal const ushort SciEn = 1 << 0;
    internal const ushort BmRld = 1 << 1;
    internal const int SlpTypShift = 10;
    internal const ushort SlpTyp = 7 << SlpTypShift;
    internal const ushort SlpEn = 1 << 13;

    internal const long PmTimerHertz = 3_579_545;
}
