using System.Buffers.Binary;
using System.Text;

namespace Tutti.Guests.Disks;

/// <summary>Files and folders of an ext2, ext3 or ext4 file system.</summary>
internal sealed class ExtFileSystem : IFileSystem
{
    private const uint RootInode = 2;
    private const int MaxLinks = 40;
    private const int MaxFolder = 16 << 20;
    private const int MaxTarget = 4096;

    /// <summary>Names that are listed; a path is followed through larger folders, too.</summary>
    private const int MaxNames = 1 << 14;

    private readonly ExtVolume _volume;

    private ExtFileSystem(ExtVolume volume) => _volume = volume;

    public ReadBudget Budget => _volume.Budget;

    public string Uuid => _volume.Uuid;

    public string Label => _volume.Label;

    /// <summary>The file system, or null if this is none. What a journal holds is seen as if it were in its place.</summary>
    /// <exception cref="ImageException">It is one, but damaged or beyond us.</exception>
    public static ExtFileSystem? TryOpen(DiskPart disk)
    {
        if (ExtVolume.TryOpen(disk) is not { } volume)
        {
            return null;
        }

        ExtFileSystem files = new(volume);
        if (volume.NeedsRecovery && volume.JournalInode != 0)
        {
            byte[] journal = volume.ReadInode(volume.JournalInode);
            ExtJournal.Apply(volume, journal, Size(journal));
        }

        return files;
    }

    public IReadOnlyList<string> List(string path)
    {
        List<string> names = [];
        if (Resolve(path) is uint number && _volume.ReadInode(number) is byte[] inode && Kind(inode) == FileKind.Folder)
        {
            Walk(inode, (name, _) =>
            {
                // As a string and in the lists and sets that it goes through.
                Budget.Take(96 + (2 * name.Length));
                if (names.Count == MaxNames)
                {
                    throw new ImageException($"The folder {path} on the disk holds more files than any that a kernel is looked for in.");
                }

                names.Add(Encoding.UTF8.GetString(name));
                return false;
            });
        }

        return names;
    }

    public FileKind? Find(string path) => Resolve(path) is uint number ? Kind(_volume.ReadInode(number)) : null;

    public long? Measure(string path) => FindFile(path) is byte[] inode ? Size(inode) : null;

    public bool TryRead(string path, Span<byte> into)
    {
        if (FindFile(path) is not byte[] inode)
        {
            return false;
        }

        ReadContents(inode, into);
        return true;
    }

    private byte[]? FindFile(string path) =>
        Resolve(path) is uint number && _volume.ReadInode(number) is byte[] inode && Kind(inode) == FileKind.File ? inode : null;

    /// <summary>The first bytes of a file or symbolic link.</summary>
    private void ReadContents(byte[] inode, Span<byte> into)
    {
        if (into.Length > Size(inode))
        {
            throw ExtVolume.Damaged();
        }

        uint flags = BinaryPrimitives.ReadUInt32LittleEndian(inode.AsSpan(0x20));
        if ((flags & ExtVolume.EncryptedFlag) != 0)
        {
            throw Encrypted();
        }

        if ((flags & ExtVolume.InlineDataFlag) != 0)
        {
            ReadInline(inode, into);
            return;
        }

        for (int at = 0; at < into.Length;)
        {
            Budget.Check();
            (long physical, long blocks) = _volume.Map(inode, (uint)(at / _volume.BlockSize));
            int count = (int)Math.Min(into.Length - at, blocks * _volume.BlockSize);
            if (physical != 0)
            {
                _volume.ReadRun(physical, into.Slice(at, count));
            }
            else
            {
                into.Slice(at, count).Clear();
            }

            at += count;
        }
    }

    /// <summary>A small file lies in its inode, and goes on in an attribute there.</summary>
    private static void ReadInline(byte[] inode, Span<byte> into)
    {
        byte[] whole = [.. inode.AsSpan(0x28, 60), .. FindInlineRest(inode)];
        if (into.Length > whole.Length)
        {
            throw ExtVolume.Damaged();
        }

        whole.AsSpan(0, into.Length).CopyTo(into);
    }

    private static ReadOnlySpan<byte> FindInlineRest(ReadOnlySpan<byte> inode)
    {
        const int SystemIndex = 7;
        if (inode.Length < 0x84)
        {
            return [];
        }

        int start = 128 + BinaryPrimitives.ReadUInt16LittleEndian(inode[0x80..]);
        if (start > inode.Length - 4 || BinaryPrimitives.ReadUInt32LittleEndian(inode[start..]) != 0xEA02_0000)
        {
            return [];
        }

        ReadOnlySpan<byte> entries = inode[(start + 4)..];
        for (int at = 0; at <= entries.Length - 16 && BinaryPrimitives.ReadUInt32LittleEndian(entries[at..]) != 0;)
        {
            int nameLength = entries[at];
            int offset = BinaryPrimitives.ReadUInt16LittleEndian(entries[(at + 2)..]);
            uint size = BinaryPrimitives.ReadUInt32LittleEndian(entries[(at + 8)..]);
            if (entries[at + 1] == SystemIndex && at + 16 + nameLength <= entries.Length && entries.Slice(at + 16, nameLength).SequenceEqual("data"u8))
            {
                return offset <= entries.Length && size <= entries.Length - offset ? entries.Slice(offset, (int)size) : throw ExtVolume.Damaged();
            }

            at += (16 + nameLength + 3) & ~3;
        }

        return [];
    }

    /// <summary>The inode that a path leads to, behind symbolic links.</summary>
    private uint? Resolve(string path)
    {
        if (path.Length > WholeFiles.MaxPath)
        {
            return null;
        }

        List<uint> way = [RootInode];
        Stack<string> rest = new(path.Split('/', StringSplitOptions.RemoveEmptyEntries).Reverse());
        int links = 0;
        while (rest.TryPop(out string? name))
        {
            if (name is ".")
            {
                continue;
            }

            if (name is "..")
            {
                way.RemoveRange(Math.Max(1, way.Count - 1), way.Count > 1 ? 1 : 0);
                continue;
            }

            byte[] folder = _volume.ReadInode(way[^1]);
            if (Kind(folder) != FileKind.Folder || Lookup(folder, name) is not uint number)
            {
                return null;
            }

            byte[] inode = _volume.ReadInode(number);
            if (Kind(inode) != FileKind.SymbolicLink)
            {
                way.Add(number);
                continue;
            }

            string target = ReadTarget(inode);
            if (++links > MaxLinks || target.Length == 0 || rest.Count > MaxTarget)
            {
                return null;
            }

            if (target[0] == '/')
            {
                way.RemoveRange(1, way.Count - 1);
            }

            foreach (string part in target.Split('/', StringSplitOptions.RemoveEmptyEntries).Reverse())
            {
                rest.Push(part);
            }
        }

        return way[^1];
    }

    private string ReadTarget(byte[] inode)
    {
        long size = Size(inode);
        uint flags = BinaryPrimitives.ReadUInt32LittleEndian(inode.AsSpan(0x20));
        if (size > MaxTarget)
        {
            throw ExtVolume.Damaged();
        }

        bool isFast = size < 60 && (flags & (ExtVolume.ExtentsFlag | ExtVolume.InlineDataFlag)) == 0;
        if (isFast)
        {
            return Encoding.UTF8.GetString(inode.AsSpan(0x28, (int)size));
        }

        byte[] target = new byte[size];
        ReadContents(inode, target);
        return Encoding.UTF8.GetString(target);
    }

    private uint? Lookup(byte[] folder, string name)
    {
        byte[] wanted = Encoding.UTF8.GetBytes(name);
        uint? found = null;
        Walk(folder, (entry, number) =>
        {
            found = entry.SequenceEqual(wanted) ? number : null;
            return found != null;
        });
        return found;
    }

    /// <summary>Must not read from the volume: the name lies in its cache.</summary>
    private delegate bool EntryVisitor(ReadOnlySpan<byte> name, uint inode);

    /// <summary>Shows a folder's entries until one is taken. The index of a large one looks like entries that are not used.</summary>
    private void Walk(byte[] folder, EntryVisitor visit)
    {
        long size = Size(folder);
        if (size > MaxFolder)
        {
            throw new ImageException("A folder on the disk is larger than any that is in use.");
        }

        uint flags = BinaryPrimitives.ReadUInt32LittleEndian(folder.AsSpan(0x20));
        if ((flags & ExtVolume.EncryptedFlag) != 0)
        {
            throw Encrypted();
        }

        if ((flags & ExtVolume.InlineDataFlag) != 0)
        {
            // The first four bytes are the parent's number; entries do not cross into the attribute.
            _ = WalkBlock(folder.AsSpan(0x28 + 4, 56), visit) || WalkBlock(FindInlineRest(folder), visit);
            return;
        }

        for (int at = 0; at < size; at += _volume.BlockSize)
        {
            // A hole is no block of a folder's, and no block has the number 0.
            ReadOnlySpan<byte> block = _volume.ReadBlock(_volume.Map(folder, (uint)(at / _volume.BlockSize)).Physical);
            if (WalkBlock(block[..(int)Math.Min(_volume.BlockSize, size - at)], visit))
            {
                return;
            }
        }
    }

    private static bool WalkBlock(ReadOnlySpan<byte> block, EntryVisitor visit)
    {
        while (block.Length >= 8)
        {
            uint inode = BinaryPrimitives.ReadUInt32LittleEndian(block);
            int length = BinaryPrimitives.ReadUInt16LittleEndian(block[4..]);
            int nameLength = block[6];
            length = length is 0 or 0xFFFF && block.Length >= 0xFFFF ? block.Length : length;
            if (length < 8 || length > block.Length || nameLength > length - 8)
            {
                throw ExtVolume.Damaged();
            }

            ReadOnlySpan<byte> name = block.Slice(8, nameLength);
            if (inode != 0 && nameLength > 0 && !name.SequenceEqual("."u8) && !name.SequenceEqual(".."u8) && visit(name, inode))
            {
                return true;
            }

            block = block[length..];
        }

        return false;
    }

    private static ImageException Encrypted() => new("A file that is wanted of the disk is encrypted.");

    private static long Size(ReadOnlySpan<byte> inode)
    {
        long size = BinaryPrimitives.ReadUInt32LittleEndian(inode[4..]);
        size |= Kind(inode) == FileKind.File ? (long)BinaryPrimitives.ReadUInt32LittleEndian(inode[0x6C..]) << 32 : 0;
        return size >= 0 ? size : throw ExtVolume.Damaged();
    }

    private static FileKind Kind(ReadOnlySpan<byte> inode) => (BinaryPrimitives.ReadUInt16LittleEndian(inode) >> 12) switch
    {
        0x4 => FileKind.Folder,
        0x8 => FileKind.File,
        0xA => FileKind.SymbolicLink,
        _ => FileKind.Other,
    };
}
