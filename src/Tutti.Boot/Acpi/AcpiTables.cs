using System.Buffers.Binary;

namespace Tutti.Boot.Acpi;

/// <summary>
/// The ACPI tables of a PC with fixed devices. Table layouts: ACPI specification 6.5, chapter 5, "ACPI Software
/// Programming Model"; section numbers are given at each table.
/// </summary>
public static class AcpiTables
{
    private const int RsdpSize = 36;
    private const int FacsSize = 64;

    /// <summary>Builds all tables as one block: the RSDP at its start, whatever it points to behind it.</summary>
    /// <param name="hardware">Where the devices are.</param>
    /// <param name="processorCount">1 to 1024.</param>
    /// <param name="address">Physical address that the block will lie at, a multiple of 64 below 4 GiB.</param>
    public static byte[] Build(AcpiHardware hardware, int processorCount, ulong address)
    {
        ArgumentNullException.ThrowIfNull(hardware);
        ArgumentOutOfRangeException.ThrowIfNotEqual(address % 64, 0UL, nameof(address));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(address, 0xFFFF_0000UL);
        ArgumentOutOfRangeException.ThrowIfLessThan(processorCount, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(processorCount, 1024);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(hardware.SerialPorts.Count, 9, nameof(hardware));

        List<byte> block = [.. new byte[RsdpSize]];
        ulong facs = Append(block, address, 64, BuildFacs());
        ulong dsdt = Append(block, address, 16, Dsdt.Build(hardware, processorCount));
        ulong fadt = Append(block, address, 16, Fadt.Build(hardware, (uint)facs, (uint)dsdt));
        ulong madt = Append(block, address, 16, Madt.Build(hardware, processorCount));
        ulong[] tables = hardware.Pci == null ? [fadt, madt] : [fadt, madt, Append(block, address, 16, Mcfg.Build(hardware.Pci))];
        ulong xsdt = Append(block, address, 16, BuildXsdt(tables));
        byte[] bytes = [.. block];
        WriteRsdp(bytes, xsdt);
        return bytes;
    }

    private static ulong Append(List<byte> block, ulong address, int alignment, byte[] table)
    {
        while (block.Count % alignment != 0)
        {
            block.Add(0);
        }

        ulong place = address + (ulong)block.Count;
        block.AddRange(table);
        return place;
    }

    /// <summary>5.2.5.3, "Root System Description Pointer Structure", revision 2; no RSDT, as every 64-bit system reads the XSDT.</summary>
    private static void WriteRsdp(Span<byte> rsdp, ulong xsdt)
    {
        "RSD PTR "u8.CopyTo(rsdp);
        "TUTTI "u8.CopyTo(rsdp[9..]);
        rsdp[15] = 2; // Revision
        BinaryPrimitives.WriteUInt32LittleEndian(rsdp[20..], RsdpSize);
        BinaryPrimitives.WriteUInt64LittleEndian(rsdp[24..], xsdt);
        rsdp[8] = TableWriter.Checksum(rsdp[..20]);
        rsdp[32] = TableWriter.Checksum(rsdp[..RsdpSize]);
    }

    /// <summary>5.2.8, "Extended System Description Table".</summary>
    private static byte[] BuildXsdt(params ReadOnlySpan<ulong> tables)
    {
        TableWriter xsdt = new("XSDT", 1);
        foreach (ulong table in tables)
        {
            xsdt.U64(table);
        }

        return xsdt.Finish();
    }

    /// <summary>5.2.10, "Firmware ACPI Control Structure"; it has no checksum.</summary>
    private static byte[] BuildFacs()
    {
        byte[] facs = new byte[FacsSize];
        "FACS"u8.CopyTo(facs);
        BinaryPrimitives.WriteUInt32LittleEndian(facs.AsSpan(4), FacsSize);
        facs[32] = 2; // Version
        return facs;
    }
}
