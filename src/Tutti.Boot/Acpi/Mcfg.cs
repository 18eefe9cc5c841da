namespace Tutti.Boot.Acpi;

/// <summary>Where configuration space is mapped. Source: PCI Firmware Specification 3.3, 4.1.2, "MCFG Table Description".</summary>
internal static class Mcfg
{
    public static byte[] Build(AcpiPciBus bus)
    {
        TableWriter mcfg = new("MCFG", 1);
        mcfg.U64(0);
        mcfg.U64(bus.EcamAddress);
        mcfg.U16(0); // segment group
        mcfg.U8(0); // first bus
        mcfg.U8(0); // last bus
        mcfg.U32(0);
        return mcfg.Finish();
    }
}
