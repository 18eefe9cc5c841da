namespace Tutti.Boot.Acpi;

/// <summary>Multiple APIC Description Table. Source: ACPI specification 6.5, 5.2.12.</summary>
internal static class Madt
{
    /// <summary>The highest APIC ID that an 8-bit entry can name; 255 is everybody.</summary>
    private const int MaxXapicId = 254;

    private const uint DualPic = 1; // PCAT_COMPAT: two 8259s
    private const uint Enabled = 1;
    private const ushort EdgeActiveHigh = 0x5;
    private const ushort LevelActiveHigh = 0xD;

    public static byte[] Build(AcpiHardware hardware, int processorCount)
    {
        TableWriter madt = new("APIC", 5);
        madt.U32(hardware.LocalApicAddress);
        madt.U32(DualPic);
        for (uint id = 0; id < processorCount; id++)
        {
            WriteProcessor(madt, id);
        }

        madt.Bytes([1, 12, hardware.IoApicId, 0]);
        madt.U32(hardware.IoApicAddress);
        madt.U32(0); // Global System Interrupt Base

        // The 8254's output is IRQ 0, yet on the I/O APIC it is input 2, as the 8259's own output takes input 0.
        WriteOverride(madt, 0, 2, EdgeActiveHigh);
        WriteOverride(madt, hardware.SciInterrupt, hardware.SciInterrupt, LevelActiveHigh);

        madt.Bytes([4, 6, 0xFF, 0, 0, 1]); // local APIC NMI: all processors, LINT1
        if (processorCount > MaxXapicId + 1)
        {
            madt.Bytes([0xA, 12, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 1, 0, 0, 0]); // the same for x2APIC entries
        }

        return madt.Finish();
    }

    private static void WriteProcessor(TableWriter madt, uint id)
    {
        if (id <= MaxXapicId)
        {
            madt.Bytes([0, 8, (byte)id, (byte)id]);
            madt.U32(Enabled);
            return;
        }

        madt.Bytes([9, 16, 0, 0]);
        madt.U32(id);
        madt.U32(Enabled);
        madt.U32(id);
    }

    private static void WriteOverride(TableWriter madt, byte isaIrq, uint globalInterrupt, ushort flags)
    {
        madt.Bytes([2, 10, 0, isaIrq]);
        madt.U32(globalInterrupt);
        madt.U16(flags);
    }
}
