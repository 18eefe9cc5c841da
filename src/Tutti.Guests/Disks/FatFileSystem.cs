using System.Buffers.Binary;
using System.Text;

namespace Tutti.Guests.Disks;

/// <summary>Files and folders of a FAT file system. Names are found in any case, as firmware finds them.</summary>
internal sealed class FatFileSystem : IFileSystem
{
    private const int EntrySize = 32;

    /// <summary>FAT lets a folder have 65536 entries.</summary>
    private const int MaxFolder = 65536 * EntrySize;
    private const int FolderAttribute = 0x10;
    private const int LabelAttribute = 0x08;
    private const int LongNameAttributes = 0x0F;
    private const int CharactersPerPart = 13;
    private const int MaxParts = 20;

    /// <summary>Bytes of memory for each byte of a folder: its entries with two names each, which are kept.</summary>
    private const int FolderCost = 8;

    private readonly FatVolume _volume;
    private readonly Dictionary<uint, List<Entry>> _folders = [];

    private FatFileSystem(FatVolume volume) => _volume = volume;

    public ReadBudget Budget => _volume.Budget;

    public string Uuid => _volume.Uuid;

    public string Label => _volume.Label;

    private readonly record struct Entry(string Name, string ShortName, bool IsFolder, uint Cluster, uint Size);

    /// <summary>The file system, or null if this is none.</summary>
    /// <exception cref="ImageException">It is one, but damaged.</exception>
    public static FatFileSystem? TryOpen(DiskPart disk) => FatVolume.TryOpen(disk) is { } volume ? new FatFileSystem(volume) : null;

    public IReadOnlyList<string> List(string path) => Resolve(path) is { IsFolder: true } folder ? [.. Walk(folder).Select(entry => entry.Name)] : [];

    public FileKind? Find(string path) => Resolve(path) is { } entry ? entry.IsFolder ? FileKind.Folder : FileKind.File : null;

    public long? Measure(string path) => Resolve(path) is { IsFolder: false } entry ? entry.Size : null;

    public bool TryRead(string path, Span<byte> into)
    {
        if (Resolve(path) is not { IsFolder: false } entry)
        {
            return false;
        }

        if (into.Length > entry.Size)
        {
            throw FatVolume.Damaged();
        }

        ReadChain(entry.Cluster, into, isWhole: true);
        return true;
    }

    /// <summary>Reads clusters one after the other, as many as lie together at once.</summary>
    /// <returns>Bytes, less than asked for only where the chain may end early.</returns>
    private int ReadChain(uint cluster, Span<byte> into, bool isWhole)
    {
        int at = 0;
        while (at < into.Length && cluster != 0)
        {
            uint first = cluster;
            uint last;
            long run = 0;
            do
            {
                last = cluster;
                run += _volume.ClusterSize;
                cluster = at + run < into.Length ? _volume.Next(cluster) : 0;
            }
            while (cluster == last + 1);

            int count = (int)Math.Min(run, into.Length - at);
            _volume.Read(first, into.Slice(at, count));
            at += count;
        }

        return at == into.Length || !isWhole ? at : throw FatVolume.Damaged();
    }

    private Entry? Resolve(string path)
    {
        if (path.Length > WholeFiles.MaxPath)
        {
            return null;
        }

        List<Entry> way = [new Entry(string.Empty, string.Empty, IsFolder: true, _volume.RootCluster, 0)];
        string[] parts = path.Split('/', StringSplitOptions.RemoveEmptyEntries);

        foreach (string part in parts)
        {
            if (part == "..")
            {
                way.RemoveRange(Math.Max(1, way.Count - 1), way.Count > 1 ? 1 : 0);
            }
            else if (part != ".")
            {
                if (!way[^1].IsFolder || !TryFind(way[^1], part, out Entry found))
                {
                    return null;
                }

                way.Add(found);
            }
        }

        return way[^1];
    }

    private bool TryFind(Entry folder, string name, out Entry found)
    {
        Budget.Check();
        foreach (Entry entry in Walk(folder))
        {
            if (entry.Name.Equals(name, StringComparison.OrdinalIgnoreCase) || entry.ShortName.Equals(name, StringComparison.OrdinalIgnoreCase))
            {
                found = entry;
                return true;
            }
        }

        found = default;
        return false;
    }

    private List<Entry> Walk(Entry folder) =>
        _folders.TryGetValue(folder.Cluster, out List<Entry>? entries) ? entries : _folders[folder.Cluster] = Parse(ReadFolder(folder));

    private static List<Entry> Parse(byte[] contents)
    {
        List<Entry> entries = [];
        LongName longName = new();
        for (int at = 0; at <= contents.Length - EntrySize && contents[at] != 0; at += EntrySize)
        {
            ReadOnlySpan<byte> entry = contents.AsSpan(at, EntrySize);
            if (entry[0] == 0xE5)
            {
                longName.Clear();
            }
            else if ((entry[11] & 0x3F) == LongNameAttributes)
            {
                longName.Add(entry);
            }
            else
            {
                if ((entry[11] & LabelAttribute) == 0 && entry[0] != '.')
                {
                    string shortName = ShortName(entry);
                    uint cluster = BinaryPrimitives.ReadUInt16LittleEndian(entry[26..]) | ((uint)BinaryPrimitives.ReadUInt16LittleEndian(entry[20..]) << 16);
                    entries.Add(new Entry(longName.Take(entry) ?? shortName, shortName, (entry[11] & FolderAttribute) != 0, cluster, BinaryPrimitives.ReadUInt32LittleEndian(entry[28..])));
                }

                longName.Clear();
            }
        }

        return entries;
    }

    private byte[] ReadFolder(Entry folder)
    {
        bool hasPlace = folder.Cluster == 0;
        int size = hasPlace ? _volume.RootSize : MeasureFolder(folder.Cluster);
        Budget.Take((long)size * FolderCost);
        byte[] contents = new byte[size];
        if (hasPlace)
        {
            _volume.ReadRoot(contents);
        }
        else
        {
            ReadChain(folder.Cluster, contents, isWhole: true);
        }

        return contents;
    }

    /// <summary>Bytes of a folder: only its chain of clusters tells. A chain in a circle ends at the largest that is allowed.</summary>
    private int MeasureFolder(uint cluster)
    {
        int size = 0;
        while (cluster != 0)
        {
            size += _volume.ClusterSize;
            if (size > MaxFolder)
            {
                throw FatVolume.Damaged();
            }

            cluster = _volume.IsCluster(cluster) ? _volume.Next(cluster) : throw FatVolume.Damaged();
        }

        return size;
    }

    /// <summary>Eight characters and three; bits say that they are meant in small letters, as Windows and Linux write them.</summary>
    private static string ShortName(ReadOnlySpan<byte> entry)
    {
        const int LowerName = 0x08;
        const int LowerExtension = 0x10;
        string name = Encoding.Latin1.GetString(entry[..8]).TrimEnd();
        string extension = Encoding.Latin1.GetString(entry.Slice(8, 3)).TrimEnd();
        name = (entry[12] & LowerName) != 0 ? name.ToLowerInvariant() : name;
        extension = (entry[12] & LowerExtension) != 0 ? extension.ToLowerInvariant() : extension;
        return extension.Length > 0 ? $"{name}.{extension}" : name;
    }

    /// <summary>A long name, whose parts stand in front of the entry, the last first.</summary>
    private struct LongName()
    {
        private readonly char[] _letters = new char[MaxParts * CharactersPerPart];
        private int _expected;
        private int _parts;
        private byte _checksum;

        public void Clear() => (_expected, _parts) = (0, 0);

        public void Add(ReadOnlySpan<byte> entry)
        {
            int number = entry[0] & 0x1F;
            if ((entry[0] & 0x40) != 0)
            {
                (_expected, _parts, _checksum) = (number, number, entry[13]);
            }

            if (number == 0 || number > MaxParts || number != _expected || entry[13] != _checksum)
            {
                Clear();
                return;
            }

            _expected--;
            Span<char> part = _letters.AsSpan((number - 1) * CharactersPerPart, CharactersPerPart);
            for (int i = 0; i < CharactersPerPart; i++)
            {
                int at = i < 5 ? 1 + (i * 2) : i < 11 ? 14 + ((i - 5) * 2) : 28 + ((i - 11) * 2);
                part[i] = (char)BinaryPrimitives.ReadUInt16LittleEndian(entry[at..]);
            }
        }

        /// <summary>The name that belongs to an entry; null where that has none, or another's.</summary>
        public readonly string? Take(ReadOnlySpan<byte> entry)
        {
            byte checksum = 0;
            foreach (byte letter in entry[..11])
            {
                checksum = (byte)(((checksum & 1) << 7) + (checksum >> 1) + letter);
            }

            if (_parts == 0 || _expected != 0 || checksum != _checksum)
            {
                return null;
            }

            ReadOnlySpan<char> name = _letters.AsSpan(0, _parts * CharactersPerPart);
            int end = name.IndexOf('\0');
            return (end < 0 ? name : name[..end]).ToString();
        }
    }
}
