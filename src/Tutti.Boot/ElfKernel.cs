using System.Buffers.Binary;

namespace Tutti.Boot;

/// <summary>A part of an ELF file that goes into memory, checked against the file's length.</summary>
/// <param name="Address">Physical address.</param>
/// <param name="Bytes">What the file holds of it.</param>
/// <param name="Size">Bytes in memory, at least as many as the file holds; the rest is zero.</param>
public readonly record struct ElfSegment(ulong Address, ReadOnlyMemory<byte> Bytes, ulong Size);

/// <summary>
/// An x86-64 ELF kernel with a PVH entry. Sources: ELF-64 Object File Format; Xen, docs/misc/pvh.pandoc and
/// public/elfnote.h.
/// </summary>
public sealed class ElfKernel
{
    private const int HeaderSize = 64;
    private const int ProgramHeaderSize = 56;
    private const int MaxProgramHeaders = 256;
    private const uint TypeLoad = 1;
    private const uint TypeNote = 4;
    private const uint NotePhys32Entry = 18; // XEN_ELFNOTE_PHYS32_ENTRY
    private const string Damaged = "the file is damaged, fetch or copy it again";

    private ElfKernel(IReadOnlyList<ElfSegment> segments, uint entry)
    {
        Segments = segments;
        Entry = entry;
    }

    /// <summary>What to load; at least one, none empty.</summary>
    public IReadOnlyList<ElfSegment> Segments { get; }

    /// <summary>Physical address of the 32-bit entry.</summary>
    public uint Entry { get; }

    /// <summary>Reads and checks an ELF kernel.</summary>
    /// <exception cref="BootException">It is truncated, contradicts itself, or has no PVH entry.</exception>
    public static ElfKernel Parse(ReadOnlyMemory<byte> file)
    {
        ReadOnlySpan<byte> bytes = file.Span;
        if (bytes.Length < HeaderSize || KernelFormatDetector.Detect(bytes) != KernelFormat.Elf)
        {
            throw new BootException("The kernel file is not an x86-64 ELF file: give a vmlinux.");
        }

        ulong tableOffset = BinaryPrimitives.ReadUInt64LittleEndian(bytes[32..]); // e_phoff
        int entrySize = BinaryPrimitives.ReadUInt16LittleEndian(bytes[54..]); // e_phentsize
        int count = BinaryPrimitives.ReadUInt16LittleEndian(bytes[56..]); // e_phnum
        if (count == 0)
        {
            throw new BootException("The kernel is an ELF file without program headers, such as an object file or a module: give a vmlinux or a bzImage (such as /boot/vmlinuz).");
        }

        if (entrySize != ProgramHeaderSize || count > MaxProgramHeaders)
        {
            throw new BootException($"The kernel's ELF program headers have an impossible size: {Damaged}.");
        }

        ReadOnlySpan<byte> table = Slice(file, tableOffset, (ulong)(count * ProgramHeaderSize)).Span;
        List<ElfSegment> segments = [];
        uint? entry = null;
        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> header = table.Slice(i * ProgramHeaderSize, ProgramHeaderSize);
            uint type = BinaryPrimitives.ReadUInt32LittleEndian(header);
            if (type == TypeLoad && ReadSegment(file, header) is { Size: > 0 } segment)
            {
                segments.Add(segment);
            }
            else if (type == TypeNote)
            {
                entry ??= FindEntry(file, header);
            }
        }

        if (entry is null)
        {
            throw new BootException("The kernel is an ELF file without a PVH entry: build it with CONFIG_PVH=y, or give the bzImage (such as /boot/vmlinuz).");
        }

        if (!segments.Exists(s => entry >= s.Address && entry - s.Address < s.Size))
        {
            throw new BootException($"The kernel's PVH entry lies outside what its ELF file loads: {Damaged}.");
        }

        return new ElfKernel(segments, entry.Value);
    }

    private static ElfSegment ReadSegment(ReadOnlyMemory<byte> file, ReadOnlySpan<byte> header)
    {
        ulong offset = BinaryPrimitives.ReadUInt64LittleEndian(header[8..]); // p_offset
        ulong address = BinaryPrimitives.ReadUInt64LittleEndian(header[24..]); // p_paddr
        ulong fileSize = BinaryPrimitives.ReadUInt64LittleEndian(header[32..]); // p_filesz
        ulong memorySize = BinaryPrimitives.ReadUInt64LittleEndian(header[40..]); // p_memsz
        if (fileSize > memorySize || address + memorySize < address)
        {
            throw new BootException($"A part of the kernel's ELF file is larger than its place in memory: {Damaged}.");
        }

        return new ElfSegment(address, fileSize == 0 ? default : Slice(file, offset, fileSize), memorySize);
    }

    private static uint? FindEntry(ReadOnlyMemory<byte> file, ReadOnlySpan<byte> header)
    {
        ulong offset = BinaryPrimitives.ReadUInt64LittleEndian(header[8..]);
        ulong size = BinaryPrimitives.ReadUInt64LittleEndian(header[32..]);
        uint alignment = BinaryPrimitives.ReadUInt64LittleEndian(header[48..]) == 8 ? 8U : 4U; // p_align
        ReadOnlySpan<byte> notes = Slice(file, offset, size).Span;
        while (notes.Length >= 12)
        {
            uint nameSize = BinaryPrimitives.ReadUInt32LittleEndian(notes);
            uint valueSize = BinaryPrimitives.ReadUInt32LittleEndian(notes[4..]);
            uint type = BinaryPrimitives.ReadUInt32LittleEndian(notes[8..]);
            ulong valueStart = Align(12UL + nameSize, alignment);
            ulong next = Align(valueStart + valueSize, alignment);
            if (valueStart + valueSize > (ulong)notes.Length)
            {
                return null;
            }

            if (type == NotePhys32Entry && valueSize >= 4 && nameSize == 4 && notes.Slice(12, 4).SequenceEqual("Xen\0"u8))
            {
                return BinaryPrimitives.ReadUInt32LittleEndian(notes[(int)valueStart..]);
            }

            notes = next < (ulong)notes.Length ? notes[(int)next..] : default;
        }

        return null;
    }

    private static ulong Align(ulong value, uint alignment) => (value + alignment - 1) & ~(ulong)(alignment - 1);

    private static ReadOnlyMemory<byte> Slice(ReadOnlyMemory<byte> file, ulong offset, ulong size)
    {
        ulong length = (ulong)file.Length;
        if (offset > length || size > length - offset)
        {
            throw new BootException($"The kernel's ELF file is truncated: it speaks of bytes at {offset} and has {length}, fetch or copy it again.");
        }

        return file.Slice((int)offset, (int)size);
    }
}
