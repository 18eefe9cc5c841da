using System.Buffers.Binary;
using Tutti.Cpu;
using Tutti.Memory;

namespace Tutti.Boot;

/// <summary>
/// Loads a bzImage for its 64-bit entry, or for its 32-bit entry when it has no other. Source: Linux kernel,
/// Documentation/arch/x86/boot.rst ("64-bit Boot Protocol", "32-bit Boot Protocol") and zero-page.rst.
/// </summary>
internal static class BzImageLoader
{
    private const int MaxMapEntries = 128;

    /// <param name="commandLine">With its NUL.</param>
    public static ProcessorRegisters Load(GuestMemory memory, BzImage kernel, BootOptions options, byte[] commandLine)
    {
        ReadOnlySpan<byte> initrd = options.Initrd.Span;
        BootCommandLine.CheckLength(commandLine, Math.Min(kernel.CommandLineSize, 0xFFFF));
        ulong start = kernel.PreferredAddress;
        ulong size = Math.Max(kernel.InitSize, (ulong)kernel.Payload.Length);
        if (start < BootLayout.ExtendedMemoryStart || start + size < start || start + size > GuestMemoryLayout.LowMemoryLimit)
        {
            throw new BootException($"The kernel wants to lie at 0x{start:x} with {size} bytes, outside a PC's memory below 3 GiB: the file is damaged, fetch or copy it again.");
        }

        ulong end = start + size;
        if (end > memory.Regions[0].End)
        {
            throw new BootException($"The machine has too little memory for this kernel and its unpacking: {MemorySize.AtLeast(end)}.");
        }

        ulong initrdAddress = initrd.IsEmpty
            ? 0
            : InitrdPlacement.Place(memory, (ulong)initrd.Length, start, end, kernel.InitrdAddressMax + 1UL, kernel.CanBeLoadedAbove4G);

        GuestWriter.Write(memory, start, kernel.Payload.Span);
        GuestWriter.Write(memory, initrdAddress, initrd);
        GuestWriter.Write(memory, BootLayout.CommandLine, commandLine);
        GuestWriter.Write(memory, BootLayout.BootParams, BuildBootParams(MemoryMap.Build(memory, options.Acpi.Pci), kernel, (uint)start, initrdAddress, (ulong)initrd.Length));
        return kernel.HasEntry64
            ? EntryState.Linux64(memory, start + BzImage.EntryOffset64)
            : EntryState.Linux32(memory, (uint)start);
    }

    private static byte[] BuildBootParams(IReadOnlyList<MemoryMapEntry> map, BzImage kernel, uint start, ulong initrdAddress, ulong initrdSize)
    {
        byte[] page = new byte[GuestMemoryLayout.PageSize];
        Span<byte> fields = page;
        kernel.SetupHeader.Span.CopyTo(fields[BzImage.SetupHeaderStart..]);
        BinaryPrimitives.WriteUInt64LittleEndian(fields[0x070..], BootLayout.AcpiTables); // acpi_rsdp_addr
        BinaryPrimitives.WriteUInt32LittleEndian(fields[0x0C0..], (uint)(initrdAddress >> 32)); // ext_ramdisk_image
        BinaryPrimitives.WriteUInt32LittleEndian(fields[0x0C4..], (uint)(initrdSize >> 32)); // ext_ramdisk_size
        fields[0x210] = 0xFF; // type_of_loader: one without a number of its own
        BinaryPrimitives.WriteUInt32LittleEndian(fields[0x214..], start); // code32_start
        BinaryPrimitives.WriteUInt32LittleEndian(fields[0x218..], (uint)initrdAddress); // ramdisk_image
        BinaryPrimitives.WriteUInt32LittleEndian(fields[0x21C..], (uint)initrdSize); // ramdisk_size
        BinaryPrimitives.WriteUInt32LittleEndian(fields[0x228..], (uint)BootLayout.CommandLine); // cmd_line_ptr
        BinaryPrimitives.WriteUInt64LittleEndian(fields[0x250..], 0); // setup_data: none; a hostile file's list would lead anywhere

        fields[0x1E8] = (byte)Math.Min(map.Count, MaxMapEntries); // e820_entries
        for (int i = 0; i < fields[0x1E8]; i++)
        {
            Span<byte> entry = fields.Slice(0x2D0 + (i * 20), 20); // e820_table
            BinaryPrimitives.WriteUInt64LittleEndian(entry, map[i].Start);
            BinaryPrimitives.WriteUInt64LittleEndian(entry[8..], map[i].Size);
            BinaryPrimitives.WriteUInt32LittleEndian(entry[16..], (uint)map[i].Kind);
        }

        return page;
    }
}
