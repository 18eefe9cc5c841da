using System.Buffers.Binary;
using System.Text;

namespace Tutti.Guests;

/// <summary>What a Linux kernel module says of itself in its section ".modinfo": text of the form key=value, each ended by a zero byte.</summary>
/// <param name="Name">As modprobe knows it: with underscores.</param>
/// <param name="Depends">Names of the modules that must be loaded before.</param>
/// <param name="Aliases">Patterns of the names that devices and file systems ask for it by.</param>
internal sealed record KernelModule(string Name, IReadOnlyList<string> Depends, IReadOnlyList<string> Aliases)
{
    private const int SectionHeaderSize = 64;

    /// <summary>The name of a module from its file's name: "kernel/crypto/crc32-pclmul.ko" is crc32_pclmul.</summary>
    public static string NameOf(string path)
    {
        string file = Path.GetFileName(path);
        int end = file.IndexOf(".ko", StringComparison.Ordinal);
        return (end < 0 ? file : file[..end]).Replace('-', '_');
    }

    /// <summary>Reads a module file, an ELF64 object (System V gABI, chapter 4).</summary>
    /// <exception cref="ImageException">It is none, or says nothing of itself.</exception>
    public static KernelModule Parse(string path, ReadOnlySpan<byte> file)
    {
        string info = Encoding.Latin1.GetString(FindSection(file, ".modinfo"u8));
        if (info.Length == 0)
        {
            throw new ImageException($"The kernel module {Path.GetFileName(path)} is damaged: pull the image again.");
        }

        string[] fields = info.Split('\0', StringSplitOptions.RemoveEmptyEntries);
        return new KernelModule(
            NameOf(path),
            [.. Values("depends=").SelectMany(list => list.Split(',', StringSplitOptions.RemoveEmptyEntries)).Select(name => name.Replace('-', '_'))],
            [.. Values("alias=")]);

        IEnumerable<string> Values(string key) => fields.Where(field => field.StartsWith(key, StringComparison.Ordinal)).Select(field => field[key.Length..]);
    }

    private static ReadOnlySpan<byte> FindSection(ReadOnlySpan<byte> file, ReadOnlySpan<byte> name)
    {
        if (file.Length < 64 || !file.StartsWith("\x7F"u8) || !file[1..].StartsWith("ELF"u8))
        {
            return [];
        }

        ulong table = BinaryPrimitives.ReadUInt64LittleEndian(file[40..]);
        int count = BinaryPrimitives.ReadUInt16LittleEndian(file[60..]);
        ReadOnlySpan<byte> names = Contents(file, Header(file, table, BinaryPrimitives.ReadUInt16LittleEndian(file[62..])));
        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> header = Header(file, table, i);
            uint at = header.IsEmpty ? uint.MaxValue : BinaryPrimitives.ReadUInt32LittleEndian(header);
            if (at < names.Length && names[(int)at..].StartsWith(name) && names[(int)at..].IndexOf((byte)0) == name.Length)
            {
                return Contents(file, header);
            }
        }

        return [];
    }

    private static ReadOnlySpan<byte> Header(ReadOnlySpan<byte> file, ulong table, int index) =>
        Slice(file, table + ((ulong)index * SectionHeaderSize), SectionHeaderSize);

    private static ReadOnlySpan<byte> Contents(ReadOnlySpan<byte> file, ReadOnlySpan<byte> header) => header.IsEmpty
        ? []
        : Slice(file, BinaryPrimitives.ReadUInt64LittleEndian(header[24..]), BinaryPrimitives.ReadUInt64LittleEndian(header[32..]));

    private static ReadOnlySpan<byte> Slice(ReadOnlySpan<byte> file, ulong offset, ulong length) =>
        offset <= (ulong)file.Length && length <= (ulong)file.Length - offset ? file.Slice((int)offset, (int)length) : [];
}
