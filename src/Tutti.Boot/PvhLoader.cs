using System.Buffers.Binary;
using Tutti.Cpu;
using Tutti.Memory;

namespace Tutti.Boot;

/// <summary>
/// Loads an ELF kernel for its PVH entry. Source: Xen, docs/misc/pvh.pandoc and public/arch-x86/hvm/start_info.h.
/// </summary>
internal static class PvhLoader
{
    /// <summary>COMMAND_LINE_SIZE of Linux/x86 less the NUL: the PVH entry has no field that says it.</summary>
    private const uint CommandLineLimit = 2047;

    /// <summary>Linux keeps 32 bits of the module's address.</summary>
    private const ulong InitrdLimit = 0x1_0000_0000;

    private const int ModuleList = 0x40;
    private const int MapTable = 0x60;

    /// <param name="commandLine">With its NUL.</param>
    public static ProcessorRegisters Load(GuestMemory memory, ElfKernel kernel, BootOptions options, byte[] commandLine)
    {
        ReadOnlySpan<byte> initrd = options.Initrd.Span;
        BootCommandLine.CheckLength(commandLine, CommandLineLimit);
        ulong start = kernel.Segments.Min(s => s.Address);
        ulong end = kernel.Segments.Max(s => s.Address + s.Size);
        if (start < BootLayout.ExtendedMemoryStart || end > GuestMemoryLayout.LowMemoryLimit)
        {
            throw new BootException($"The kernel's ELF file loads at 0x{start:x} to 0x{end:x}, outside a PC's memory from 1 MiB to 3 GiB: give a vmlinux that is linked to lie there.");
        }

        if (end > memory.Regions[0].End)
        {
            throw new BootException($"The machine has too little memory for this kernel: {MemorySize.AtLeast(end)}.");
        }

        ulong initrdAddress = initrd.IsEmpty ? 0 : InitrdPlacement.Place(memory, (ulong)initrd.Length, start, end, InitrdLimit, above4G: false);
        foreach (ElfSegment segment in kernel.Segments)
        {
            GuestWriter.Write(memory, segment.Address, segment.Bytes.Span);
            ulong filled = (ulong)segment.Bytes.Length;
            GuestWriter.Clear(memory, segment.Address + filled, segment.Size - filled);
        }

        GuestWriter.Write(memory, initrdAddress, initrd);
        GuestWriter.Write(memory, BootLayout.CommandLine, commandLine);
        GuestWriter.Write(memory, BootLayout.StartInfo, BuildStartInfo(MemoryMap.Build(memory, options.Acpi.Pci), initrdAddress, (ulong)initrd.Length));
        return EntryState.Pvh32(memory, kernel.Entry);
    }

    private static byte[] BuildStartInfo(IReadOnlyList<MemoryMapEntry> map, ulong initrdAddress, ulong initrdSize)
    {
        byte[] bytes = new byte[MapTable + (map.Count * 24)];
        Span<byte> fields = bytes;
        BinaryPrimitives.WriteUInt32LittleEndian(fields, 0x336E_C578); // magic
        BinaryPrimitives.WriteUInt32LittleEndian(fields[4..], 1); // version: with a memory map
        BinaryPrimitives.WriteUInt32LittleEndian(fields[12..], initrdSize == 0 ? 0U : 1U); // nr_modules
        BinaryPrimitives.WriteUInt64LittleEndian(fields[16..], initrdSize == 0 ? 0 : BootLayout.StartInfo + ModuleList); // modlist_paddr
        BinaryPrimitives.WriteUInt64LittleEndian(fields[24..], BootLayout.CommandLine); // cmdline_paddr
        BinaryPrimitives.WriteUInt64LittleEndian(fields[32..], BootLayout.AcpiTables); // rsdp_paddr
        BinaryPrimitives.WriteUInt64LittleEndian(fields[40..], BootLayout.StartInfo + MapTable); // memmap_paddr
        BinaryPrimitives.WriteUInt32LittleEndian(fields[48..], (uint)map.Count); // memmap_entries
        BinaryPrimitives.WriteUInt64LittleEndian(fields[ModuleList..], initrdAddress);
        BinaryPrimitives.WriteUInt64LittleEndian(fields[(ModuleList + 8)..], initrdSize);
        for (int i = 0; i < map.Count; i++)
        {
            Span<byte> entry = fields.Slice(MapTable + (i * 24), 24);
            BinaryPrimitives.WriteUInt64LittleEndian(entry, map[i].Start);
            BinaryPrimitives.WriteUInt64LittleEndian(entry[8..], map[i].Size);
            BinaryPrimitives.WriteUInt32LittleEndian(entry[16..], (uint)map[i].Kind);
        }

        return bytes;
    }
}
