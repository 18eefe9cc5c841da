using Tutti.Boot.Acpi;
using Tutti.Memory;

namespace Tutti.Boot;

/// <summary>Kinds of physical address ranges, with the numbers of the BIOS call INT 15h, AX=E820h (ACPI specification, "System Address Map Interfaces").</summary>
public enum MemoryMapKind : uint
{
    Usable = 1,
    Reserved = 2,
}

/// <summary>One range of the physical memory map.</summary>
/// <param name="Start">First physical address.</param>
/// <param name="Size">Length in bytes.</param>
/// <param name="Kind">What the range is.</param>
public readonly record struct MemoryMapEntry(ulong Start, ulong Size, MemoryMapKind Kind);

/// <summary>The physical memory map that a kernel is told.</summary>
public static class MemoryMap
{
    /// <summary>The map of a PC with this memory, in rising order, no two ranges overlapping.</summary>
    /// <param name="pci">Its configuration space is reserved: systems use it only where the map says so, too. Null for none.</param>
    public static IReadOnlyList<MemoryMapEntry> Build(GuestMemory memory, AcpiPciBus? pci = null)
    {
        ArgumentNullException.ThrowIfNull(memory);
        List<MemoryMapEntry> map =
        [
            Range(0, BootLayout.LowMemoryEnd, MemoryMapKind.Usable),
            Range(BootLayout.LowMemoryEnd, 0xA_0000, MemoryMapKind.Reserved),
            Range(BootLayout.AcpiTables, BootLayout.ExtendedMemoryStart, MemoryMapKind.Reserved),
            Range(BootLayout.ExtendedMemoryStart, memory.Regions[0].End, MemoryMapKind.Usable),
        ];
        if (pci != null)
        {
            map.Add(Range(pci.EcamAddress, pci.EcamAddress + AcpiPciBus.EcamSize, MemoryMapKind.Reserved));
        }

        map.AddRange(memory.Regions.Skip(1).Select(region => Range(region.Start, region.End, MemoryMapKind.Usable)));
        return map;
    }

    private static MemoryMapEntry Range(ulong start, ulong end, MemoryMapKind kind) => new(start, end - start, kind);
}
