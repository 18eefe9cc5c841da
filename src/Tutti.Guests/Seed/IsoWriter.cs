using System.Buffers.Binary;
using System.Text;

namespace Tutti.Guests.Seed;

/// <summary>
/// Writes a small ISO 9660 image of files in one folder, which read the same by all three kinds of names: ISO 9660's own, Rock Ridge's (Linux) and
/// Joliet's (Windows). The same files give the same bytes. Sources: ECMA-119; SUSP 1.10 and RRIP 1.09; Joliet Specification.
/// </summary>
public static class IsoWriter
{
    private const int Sector = 2048;
    private const int PrimaryPathTable = 19;
    private const int JolietPathTable = 21;
    private const int PrimaryRoot = 23;
    private const int JolietRoot = 24;
    private const int FirstFile = 25;

    /// <summary>Makes the image.</summary>
    /// <param name="volumeId">1 to 16 letters: what blkid calls LABEL.</param>
    /// <param name="files">At most 8, with names of 1 to 64 letters, digits and signs of ASCII.</param>
    /// <exception cref="ArgumentException">A name or the number of files is out of range.</exception>
    public static byte[] Write(string volumeId, IReadOnlyList<(string Name, byte[] Bytes)> files)
    {
        ArgumentNullException.ThrowIfNull(files);
        if (files.Count > 8 || volumeId is not { Length: > 0 and <= 16 } || files.Any(file => file.Name.Length is 0 or > 64 || file.Name.Any(c => c is <= ' ' or > '~' or '/')))
        {
            throw new ArgumentException("Too many files, or a name that is too long.", nameof(files));
        }

        List<Extent> extents = [];
        int next = FirstFile;
        foreach ((string name, byte[] bytes) in files.OrderBy(file => file.Name, StringComparer.Ordinal))
        {
            extents.Add(new Extent(name, next, bytes));
            next += (bytes.Length + Sector - 1) / Sector;
        }

        byte[] image = new byte[next * Sector];
        WriteDescriptor(At(image, 16), volumeId, next, isJoliet: false);
        WriteDescriptor(At(image, 17), volumeId, next, isJoliet: true);
        At(image, 18)[0] = 0xFF;
        "CD001\u0001"u8.CopyTo(At(image, 18)[1..]);
        WritePathTables(image, PrimaryPathTable, PrimaryRoot);
        WritePathTables(image, JolietPathTable, JolietRoot);
        WriteFolder(At(image, PrimaryRoot), extents, isJoliet: false);
        WriteFolder(At(image, JolietRoot), extents, isJoliet: true);
        foreach (Extent extent in extents)
        {
            extent.Bytes.CopyTo(At(image, extent.Sector));
        }

        return image;
    }

    private sealed record Extent(string Name, int Sector, byte[] Bytes);

    private static Span<byte> At(byte[] image, int sector) => image.AsSpan(sector * Sector);

    private static void WriteDescriptor(Span<byte> to, string volumeId, int sectors, bool isJoliet)
    {
        to = to[..Sector];
        to[0] = (byte)(isJoliet ? 2 : 1);
        "CD001\u0001"u8.CopyTo(to[1..]);
        Text(to.Slice(8, 32), "TUTTI", isJoliet);
        Text(to.Slice(40, 32), volumeId, isJoliet);
        Both32(to[80..], sectors);
        if (isJoliet)
        {
            // UCS-2, level 3.
            "%/E"u8.CopyTo(to[88..]);
        }

        Both16(to[120..], 1);
        Both16(to[124..], 1);
        Both16(to[128..], Sector);
        Both32(to[132..], 10);
        int table = isJoliet ? JolietPathTable : PrimaryPathTable;
        BinaryPrimitives.WriteInt32LittleEndian(to[140..], table);
        BinaryPrimitives.WriteInt32BigEndian(to[148..], table + 1);
        Record(to[156..], isJoliet ? JolietRoot : PrimaryRoot, Sector, isFolder: true, [0], []);
        Text(to.Slice(190, 128 * 4), string.Empty, isJoliet);
        Text(to.Slice(702, 37 * 3), string.Empty, isJoliet);
        foreach (int time in (ReadOnlySpan<int>)[813, 830, 847, 864])
        {
            to.Slice(time, 16).Fill((byte)'0');
        }

        to[881] = 1;
    }

    /// <summary>One entry, the root; once with its numbers in each order of bytes.</summary>
    private static void WritePathTables(byte[] image, int sector, int root)
    {
        Span<byte> little = At(image, sector);
        Span<byte> big = At(image, sector + 1);
        little[0] = big[0] = 1;
        BinaryPrimitives.WriteInt32LittleEndian(little[2..], root);
        BinaryPrimitives.WriteInt32BigEndian(big[2..], root);
        BinaryPrimitives.WriteInt16LittleEndian(little[6..], 1);
        BinaryPrimitives.WriteInt16BigEndian(big[6..], 1);
    }

    private static void WriteFolder(Span<byte> to, List<Extent> files, bool isJoliet)
    {
        int self = isJoliet ? JolietRoot : PrimaryRoot;

        // The first entry says that Rock Ridge's fields are there ("SP").
        byte[] mark = [(byte)'S', (byte)'P', 7, 1, 0xBE, 0xEF, 0];
        to = to[Record(to, self, Sector, isFolder: true, [0], isJoliet ? [] : [.. mark, .. Mode(0x416D /* folder, 0555 */, 2)])..];
        to = to[Record(to, self, Sector, isFolder: true, [1], isJoliet ? [] : Mode(0x416D, 2))..];
        for (int i = 0; i < files.Count; i++)
        {
            byte[] name = isJoliet ? Encoding.BigEndianUnicode.GetBytes(files[i].Name) : Encoding.ASCII.GetBytes($"FILE{i}.;1");
            byte[] fields = isJoliet ? [] : [.. Mode(0x8124 /* file, 0444 */, 1), (byte)'N', (byte)'M', (byte)(5 + files[i].Name.Length), 1, 0, .. Encoding.ASCII.GetBytes(files[i].Name)];
            to = to[Record(to, files[i].Sector, files[i].Bytes.Length, isFolder: false, name, fields)..];
        }
    }

    /// <summary>Rock Ridge's "PX": mode, links, and root as the owner.</summary>
    private static byte[] Mode(int mode, int links)
    {
        byte[] field = new byte[36];
        field[0] = (byte)'P';
        field[1] = (byte)'X';
        field[2] = 36;
        field[3] = 1;
        Both32(field.AsSpan(4), mode);
        Both32(field.AsSpan(12), links);
        return field;
    }

    /// <summary>Writes a directory record; returns its length, which is even.</summary>
    private static int Record(Span<byte> to, int sector, int size, bool isFolder, ReadOnlySpan<byte> name, ReadOnlySpan<byte> fields)
    {
        int start = (33 + name.Length + 1) & ~1;
        int length = (start + fields.Length + 1) & ~1;
        to[0] = (byte)length;
        Both32(to[2..], sector);
        Both32(to[10..], size);

        // The first of January 2000.
        to[18] = 100;
        to[19] = to[20] = 1;
        to[25] = (byte)(isFolder ? 2 : 0);
        Both16(to[28..], 1);
        to[32] = (byte)name.Length;
        name.CopyTo(to[33..]);
        fields.CopyTo(to[start..]);
        return length;
    }

    private static void Text(Span<byte> to, string text, bool isJoliet)
    {
        if (isJoliet)
        {
            for (int i = 0; i + 1 < to.Length; i += 2)
            {
                (to[i], to[i + 1]) = (0, (byte)' ');
            }

            Encoding.BigEndianUnicode.GetBytes(text, to);
        }
        else
        {
            to.Fill((byte)' ');
            Encoding.ASCII.GetBytes(text, to);
        }
    }

    private static void Both16(Span<byte> to, int value)
    {
        BinaryPrimitives.WriteInt16LittleEndian(to, (short)value);
        BinaryPrimitives.WriteInt16BigEndian(to[2..], (short)value);
    }

    private static void Both32(Span<byte> to, int value)
    {
        BinaryPrimitives.WriteInt32LittleEndian(to, value);
        BinaryPrimitives.WriteInt32BigEndian(to[4..], value);
    }
}
