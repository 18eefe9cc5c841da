namespace Tutti.Boot.Acpi;

/// <summary>
/// The PCI host bridge in the DSDT. Sources: ACPI specification 6.5, 6.2.13 "_PRT", 6.2.11 "_OSC", 5.8.1 "_PIC"; PCI Firmware
/// Specification 3.3, 4.1.3 and 4.5.
/// </summary>
internal static class PciDevices
{
    private const ushort ConfigPorts = 0xCF8;
    private const byte UnrecognizedUuid = 1 << 2;

    /// <summary>By which a system asks what of PCI Express it may control.</summary>
    private static readonly Guid HostBridgeUuid = new("33DB4D5B-1FF7-401C-9657-7441C03DD766");

    /// <summary>At the root: _PIC, by which a system says whether it uses the I/O APIC; the name keeps the answer.</summary>
    public static void WriteInterruptModel(AmlWriter root)
    {
        root.Name("PICF", 0);
        root.Method("_PIC", 1, method => method.Store(value => value.Argument(0), target => target.Reference("PICF")));
    }

    public static void Write(AmlWriter scope, AcpiPciBus bus)
    {
        scope.Device("PCI0", device =>
        {
            device.HardwareId("PNP0A08");
            device.HardwareId("PNP0A03", "_CID");
            device.Name("_SEG", 0);
            device.Name("_BBN", 0);
            device.Name("_UID", 0);
            device.NameBuffer("_CRS", Windows(bus).ToArray());
            WriteControl(device);
            WriteRouting(device, "PRTP", bus.LegacyInterrupt);
            WriteRouting(device, "PRTA", bus.GlobalInterrupt);
            device.Method("_PRT", 0, method =>
            {
                method.If(condition => condition.Reference("PICF"), then => then.Return(value => value.Reference("PRTA")));
                method.Return(value => value.Reference("PRTP"));
            });
        });

        // Firmware must say by such a device, too, that nothing else may use these addresses.
        scope.Device("ECAM", device =>
        {
            device.HardwareId("PNP0C02");
            device.Name("_UID", 0);
            device.NameBuffer("_CRS", new ResourceTemplate().Memory32Fixed(bus.EcamAddress, (uint)AcpiPciBus.EcamSize).ToArray());
        });
    }

    private static ResourceTemplate Windows(AcpiPciBus bus)
    {
        ResourceTemplate windows = new ResourceTemplate().BusNumbers(0, 0).Io(ConfigPorts, 8);
        foreach (AcpiWindow ports in bus.PortWindows)
        {
            _ = windows.PortWindow((ushort)ports.Start, checked((ushort)(ports.Start + ports.Size - 1)));
        }

        foreach (AcpiWindow memory in bus.MemoryWindows)
        {
            _ = windows.MemoryWindow(memory.Start, memory.Start + memory.Size - 1);
        }

        return windows;
    }

    /// <summary>_OSC: the system may control all that it asks for, since nothing here does.</summary>
    private static void WriteControl(AmlWriter device) => device.Method("_OSC", 4, method =>
    {
        method.If(
            condition => condition.Equal(left => left.Argument(0), right => right.Buffer(HostBridgeUuid.ToByteArray())),
            then => then.Return(value => value.Argument(3)));
        method.CreateDWordField(source => source.Argument(3), 0, "CDW1");
        method.Or(left => left.Reference("CDW1"), right => right.Integer(UnrecognizedUuid), target => target.Reference("CDW1"));
        method.Return(value => value.Argument(3));
    });

    /// <summary>A routing table: for each slot (all of its functions) and pin the interrupt that it is wired to for good.</summary>
    private static void WriteRouting(AmlWriter device, string name, Func<int, int, int> interrupt) =>
        device.NamePackages(name, AcpiPciBus.SlotCount * AcpiPciBus.PinCount, index =>
        {
            (int slot, int pin) = (index / AcpiPciBus.PinCount, index % AcpiPciBus.PinCount);
            return [((ulong)slot << 16) | 0xFFFF, (ulong)pin, 0, (ulong)interrupt(slot, pin)];
        });
}
