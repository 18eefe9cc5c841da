using Tutti.Boot.Acpi;
using Tutti.Devices.Acpi;
using Tutti.Devices.Timers;

namespace Tutti.Machine;

/// <summary>Where the board's devices lie, and the same for the ACPI tables, so that the two can't differ.</summary>
internal static class PcAddresses
{
    internal const ulong IoApic = 0xFEC0_0000;

    /// <summary>First port and IRQ of COM1 to COM4.</summary>
    internal static readonly (ushort Port, int Irq)[] SerialPorts = [(0x3F8, 4), (0x2F8, 3), (0x3E8, 4), (0x2E8, 3)];

    internal static AcpiHardware Acpi { get; } = new()
    {
        Pm1EventPort = AcpiPmPorts.Pm1Event,
        Pm1ControlPort = AcpiPmPorts.Pm1Control,
        PmTimerPort = AcpiPmPorts.PmTimer,
        Gpe0Port = AcpiPmPorts.Gpe0,
        Gpe0Length = AcpiPmPorts.Gpe0Length,
        SciInterrupt = AcpiPmPorts.SciIrq,
        ResetPort = AcpiPmPorts.Reset,
        ResetValue = AcpiPmPorts.ResetValue,
        SoftOffSleepType = AcpiPmPorts.SleepTypeS5,
        CenturyRegister = CmosRegisters.Century,
        IoApicAddress = (uint)IoApic,
        SerialPorts = [.. SerialPorts.Select(s => new AcpiSerialPort(s.Port, (byte)s.Irq))],
    };
}
