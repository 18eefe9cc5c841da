using System.Buffers.Binary;
using System.Text;

namespace Tutti.Guests.Disks.Loaders;

/// <summary>A part of a program's file.</summary>
/// <param name="Name">At most eight characters.</param>
/// <param name="Offset">In the file.</param>
/// <param name="Length">Bytes that the file has of it and that mean something.</param>
internal readonly record struct PeSection(string Name, int Offset, int Length);

/// <summary>The sections of a program of the firmware's. Source: Microsoft, PE Format, "MS-DOS Stub", "COFF File Header" and "Section Table".</summary>
internal static class PeSections
{
    private const int HeaderSize = 40;
    private const int CoffSize = 20;
    private const int MaxSections = 256;

    /// <summary>The sections that lie within the file, in their order; none for what is no program.</summary>
    /// <param name="file">Its bytes, or the first of them.</param>
    /// <param name="length">Of the file.</param>
    public static List<PeSection> Read(ReadOnlySpan<byte> file, long length)
    {
        List<PeSection> sections = [];
        if (file.Length < 64 || !file.StartsWith("MZ"u8))
        {
            return sections;
        }

        uint start = BinaryPrimitives.ReadUInt32LittleEndian(file[0x3C..]);
        if (start > file.Length - 4 - CoffSize || !file[(int)start..].StartsWith("PE\0\0"u8))
        {
            return sections;
        }

        ReadOnlySpan<byte> coff = file[((int)start + 4)..];
        int count = Math.Min((int)BinaryPrimitives.ReadUInt16LittleEndian(coff[2..]), MaxSections);
        int table = CoffSize + BinaryPrimitives.ReadUInt16LittleEndian(coff[16..]);
        for (int i = 0; i < count && table <= coff.Length - HeaderSize; i++, table += HeaderSize)
        {
            ReadOnlySpan<byte> header = coff.Slice(table, HeaderSize);
            uint virtualSize = BinaryPrimitives.ReadUInt32LittleEndian(header[8..]);
            uint size = BinaryPrimitives.ReadUInt32LittleEndian(header[16..]);
            uint offset = BinaryPrimitives.ReadUInt32LittleEndian(header[20..]);

            // The file's size is rounded up; what is meant is the size in memory, as long as the file has it.
            size = virtualSize == 0 ? size : Math.Min(size, virtualSize);
            if (offset <= length && size <= length - offset && offset <= int.MaxValue && size <= int.MaxValue)
            {
                ReadOnlySpan<byte> name = header[..8];
                int end = name.IndexOf((byte)0);
                sections.Add(new PeSection(Encoding.ASCII.GetString(end < 0 ? name : name[..end]), (int)offset, (int)size));
            }
        }

        return sections;
    }
}
