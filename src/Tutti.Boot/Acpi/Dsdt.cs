namespace Tutti.Boot.Acpi;

/// <summary>Differentiated System Description Table: the devices that no bus can discover. Source: ACPI specification 6.5, 5.2.11.1 and chapter 6.</summary>
internal static class Dsdt
{
    public static byte[] Build(AcpiHardware hardware, int processorCount)
    {
        AmlWriter aml = new();

        // 7.4.2: SLP_TYPa, SLP_TYPb, two reserved.
        aml.NamePackage("_S5_", hardware.SoftOffSleepType, hardware.SoftOffSleepType, 0, 0);
        if (hardware.Pci != null)
        {
            PciDevices.WriteInterruptModel(aml);
        }

        aml.Scope("\\_SB_", scope =>
        {
            if (hardware.Pci != null)
            {
                PciDevices.Write(scope, hardware.Pci);
            }

            for (int i = 0; i < hardware.SerialPorts.Count; i++)
            {
                WriteSerialPort(scope, i + 1, hardware.SerialPorts[i]);
            }

            WriteDevice(scope, "RTC_", "PNP0B00", new ResourceTemplate().Io(0x70, 2).Irq(8));
            WriteDevice(scope, "KBD_", "PNP0303", new ResourceTemplate().Io(0x60, 1).Io(0x64, 1).Irq(1));
            for (int id = 0; id < processorCount; id++)
            {
                WriteProcessor(scope, id);
            }
        });

        TableWriter dsdt = new("DSDT", 2);
        dsdt.Bytes(aml.ToArray());
        return dsdt.Finish();
    }

    private static void WriteSerialPort(AmlWriter scope, int number, AcpiSerialPort port) => scope.Device($"COM{number}", device =>
    {
        device.HardwareId("PNP0501");
        device.Name("_UID", (ulong)number);
        device.NameBuffer("_CRS", new ResourceTemplate().Io(port.Port, 8).Irq(port.Irq).ToArray());
    });

    private static void WriteDevice(AmlWriter scope, string name, string eisaId, ResourceTemplate resources) => scope.Device(name, device =>
    {
        device.HardwareId(eisaId);
        device.NameBuffer("_CRS", resources.ToArray());
    });

    /// <summary>8.4: a processor device, tied to its MADT entry by _UID.</summary>
    private static void WriteProcessor(AmlWriter scope, int id) => scope.Device($"C{id:X3}", device =>
    {
        device.Name("_HID", "ACPI0007");
        device.Name("_UID", (ulong)id);
    });
}
