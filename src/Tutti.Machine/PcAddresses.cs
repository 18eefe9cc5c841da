using Tutti.Boot.Acpi;
using Tutti.Devices.Acpi;
using Tutti.Devices.InterruptControllers;
using Tutti.Devices.Serial;
using Tutti.Devices.Timers;

namespace Tutti.Machine;

/// <summary>Where the board's devices lie, and the same for the ACPI tables, so that the two can't differ.</summary>
internal static class PcAddresses
{
    internal const ulong IoApic = IoApicRegisters.DefaultBase;

    /// <summary>First port and IRQ of COM1 to COM4.</summary>
    internal static readonly (ushort Port, int Irq)[] SerialPorts =
    [
        (Serial16550Registers.Com1Port, Serial16550Registers.Com1Irq),
        (Serial16550Registers.Com2Port, Serial16550Registers.Com2Irq),
        (Serial16550Registers.Com3Port, Serial16550Registers.Com3Irq),
        (Serial16550Registers.Com4Port, Serial16550Registers.Com4Irq),
    ];

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
