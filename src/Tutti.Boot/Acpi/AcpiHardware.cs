namespace Tutti.Boot.Acpi;

/// <summary>
/// The device addresses that the ACPI tables tell the guest. Whoever wires a machine must place its devices at the same
/// ones. Port blocks are given by their first port; see each for its length.
/// </summary>
public sealed record AcpiHardware
{
    /// <summary>PM1a_EVT_BLK: PM1 status (2 bytes) and enable (2 bytes).</summary>
    public ushort Pm1EventPort { get; init; } = 0x600;

    /// <summary>PM1a_CNT_BLK: PM1 control (2 bytes).</summary>
    public ushort Pm1ControlPort { get; init; } = 0x604;

    /// <summary>PM_TMR_BLK: the 3.579545 MHz timer (4 bytes).</summary>
    public ushort PmTimerPort { get; init; } = 0x608;

    /// <summary>GPE0_BLK: general-purpose event status, then enable.</summary>
    public ushort Gpe0Port { get; init; } = 0x620;

    /// <summary>GPE0_BLK_LEN in bytes, both halves together; even, at most 30.</summary>
    public byte Gpe0Length { get; init; } = 16;

    /// <summary>Global system interrupt of the SCI; level-triggered, active high.</summary>
    public byte SciInterrupt { get; init; } = 9;

    /// <summary>RESET_REG: the port that resets the machine.</summary>
    public ushort ResetPort { get; init; } = 0xCF9;

    /// <summary>RESET_VALUE: what to write there.</summary>
    public byte ResetValue { get; init; } = 0x06;

    /// <summary>SLP_TYPa of the soft-off state S5, 0 to 7.</summary>
    public byte SoftOffSleepType { get; init; } = 5;

    /// <summary>CMOS index of the century byte, 0 for none.</summary>
    public byte CenturyRegister { get; init; } = 0x32;

    /// <summary>Physical address of the local APICs.</summary>
    public uint LocalApicAddress { get; init; } = 0xFEE0_0000;

    /// <summary>Physical address of the I/O APIC, whose inputs are GSI 0 and up.</summary>
    public uint IoApicAddress { get; init; } = 0xFEC0_0000;

    /// <summary>APIC ID of the I/O APIC.</summary>
    public byte IoApicId { get; init; }

    /// <summary>The PCI bus; null for none.</summary>
    public AcpiPciBus? Pci { get; init; }

    /// <summary>The 16550A serial ports in the order COM1, COM2, …; at most nine.</summary>
    public IReadOnlyList<AcpiSerialPort> SerialPorts { get; init; } =
    [
        new(0x3F8, 4),
        new(0x2F8, 3),
        new(0x3E8, 4),
        new(0x2E8, 3),
    ];
}

/// <summary>A 16550A as ACPI describes it.</summary>
/// <param name="Port">First of its eight I/O ports.</param>
/// <param name="Irq">ISA interrupt, 0 to 15.</param>
public readonly record struct AcpiSerialPort(ushort Port, byte Irq);
