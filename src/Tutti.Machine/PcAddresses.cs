using Tutti.Boot.Acpi;
using Tutti.Devices.Acpi;
using Tutti.Devices.InterruptControllers;
using Tutti.Devices.Pci;
using Tutti.Devices.Serial;
using Tutti.Devices.Timers;
using Tutti.Memory;

namespace Tutti.Machine;

/// <summary>Where the board's devices lie, and the same for the ACPI tables, so that the two can't differ.</summary>
internal static class PcAddresses
{
    internal const ulong IoApic = IoApicRegisters.DefaultBase;

    /// <summary>ECAM of PCI bus 0. Below it, from where RAM ends at most, lie the ranges of PCI functions.</summary>
    internal const uint Ecam = 0xE000_0000;

    /// <summary>Ports that firmware gives PCI functions.</summary>
    internal static readonly PciWindow PciPorts = new(0xC000, 0x1_0000);

    /// <summary>Addresses of PCI functions below 4 GiB.</summary>
    internal static readonly PciWindow PciLowMemory = new(GuestMemoryLayout.LowMemoryLimit, Ecam);

    /// <summary>8259 inputs of the eight PCI interrupts: 10 and 11, which nothing else has.</summary>
    internal static readonly byte[] PciLegacyInterrupts = [10, 11, 10, 11, 10, 11, 10, 11];

    private const ulong HighWindowSize = 32UL << 30;
    private const ulong HighWindowAlignment = 4UL << 30;
    private const int FirstPciGlobalInterrupt = 16;

    /// <summary>First port and IRQ of COM1 to COM4.</summary>
    internal static readonly (ushort Port, int Irq)[] SerialPorts =
    [
        (Serial16550Registers.Com1Port, Serial16550Registers.Com1Irq),
        (Serial16550Registers.Com2Port, Serial16550Registers.Com2Irq),
        (Serial16550Registers.Com3Port, Serial16550Registers.Com3Irq),
        (Serial16550Registers.Com4Port, Serial16550Registers.Com4Irq),
    ];

    /// <summary>I/O APIC input of one of the eight PCI interrupts.</summary>
    internal static int PciGlobalInterrupt(int interrupt) => FirstPciGlobalInterrupt + interrupt;

    /// <summary>Addresses of PCI functions above all RAM.</summary>
    internal static PciWindow PciHighMemory(GuestMemory memory)
    {
        ulong end = Math.Max(memory.Regions[^1].End, GuestMemoryLayout.HighMemoryStart);
        ulong start = (end + (HighWindowAlignment - 1)) & ~(HighWindowAlignment - 1);
        return new PciWindow(start, start + HighWindowSize);
    }

    /// <summary>What the ACPI tables of a machine with this memory say.</summary>
    internal static AcpiHardware Acpi(GuestMemory memory)
    {
        PciWindow high = PciHighMemory(memory);
        return FixedDevices with
        {
            Pci = new AcpiPciBus
            {
                EcamAddress = Ecam,
                PortWindows = [new(0, PciRegisters.ConfigAddressPort), new(0xD00, 0x1_0000 - 0xD00)],
                MemoryWindows = [new(PciLowMemory.Start, PciLowMemory.End - PciLowMemory.Start), new(high.Start, high.End - high.Start)],
                GlobalInterrupt = (slot, pin) => PciGlobalInterrupt(PciBus.InterruptOf(slot, pin)),
                LegacyInterrupt = (slot, pin) => PciLegacyInterrupts[PciBus.InterruptOf(slot, pin)],
            },
        };
    }

    private static AcpiHardware FixedDevices { get; } = new()
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
