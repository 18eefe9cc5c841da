using System.Buffers.Binary;
using System.Numerics;
using System.Text;

namespace Tutti.Guests.Disks;

/// <summary>
/// The blocks of an ext2, ext3 or ext4 file system: superblock, group descriptors, inodes, and which blocks a file has. Checksums are not looked
/// at: whoever wants to deceive can write them, and a damaged disk is told by what it says. Source: Linux, Documentation/filesystems/ext4.
/// </summary>
internal sealed class ExtVolume
{
    public const uint EncryptedFlag = 0x800;
    public const uint ExtentsFlag = 0x80000;
    public const uint InlineDataFlag = 0x1000_0000;

    private const int SuperblockOffset = 1024;
    private const ushort Magic = 0xEF53;
    private const int CacheSlots = 64;
    private const int MaxExtentDepth = 5;

    private const uint CompressionFeature = 0x1;
    private const uint MetaGroupsFeature = 0x10;
    private const uint WideFeature = 0x80;

    /// <summary>filetype, recover, meta_bg, extents, 64bit, mmp, flex_bg, ea_inode, metadata_csum_seed, large_dir, inline_data, encrypt, casefold.</summary>
    private const uint KnownFeatures = 0x2 | 0x4 | MetaGroupsFeature | 0x40 | WideFeature | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x1_0000 | 0x2_0000;

    private readonly DiskPart _disk;
    private readonly byte[]?[] _cache = new byte[CacheSlots][];
    private readonly long[] _cached = new long[CacheSlots];
    private readonly byte[] _super = new byte[1024];
    private readonly int _descriptorSize;
    private readonly int _inodeSize;
    private readonly uint _inodesPerGroup;
    private readonly uint _blocksPerGroup;
    private readonly uint _firstDataBlock;
    private readonly uint _inodes;
    private readonly long _blocks;
    private readonly uint _incompatible;

    private ExtVolume(DiskPart disk)
    {
        _disk = disk;
        disk.Read(SuperblockOffset, _super);
        uint shift = Super32(0x18);
        BlockSize = shift <= 6 ? 1024 << (int)shift : throw Damaged();
        bool isDynamic = Super32(0x4C) >= 1;
        _incompatible = isDynamic ? Super32(0x60) : 0;
        if ((_incompatible & ~KnownFeatures) is uint unknown and not 0)
        {
            throw new ImageException(unknown == CompressionFeature ? "its ext file system is compressed" : unknown == 0x8 ? "it is the journal of another disk" : $"its ext4 file system has features that Tutti does not know (incompat 0x{unknown:x})");
        }

        _inodes = Super32(0);
        _blocks = Super32(4) | ((_incompatible & WideFeature) != 0 ? (long)Super32(0x150) << 32 : 0);
        _firstDataBlock = Super32(0x14);
        _blocksPerGroup = Super32(0x20);
        _inodesPerGroup = Super32(0x28);
        _inodeSize = isDynamic ? Super16(0x58) : 128;
        _descriptorSize = (_incompatible & WideFeature) != 0 ? Super16(0xFE) : 32;
        if (_blocksPerGroup == 0 || _inodesPerGroup == 0 || _blocks <= 0 || _blocks > disk.Size / BlockSize
            || _inodeSize < 128 || _inodeSize > BlockSize || !BitOperations.IsPow2(_inodeSize) || _descriptorSize < 32 || _descriptorSize > BlockSize)
        {
            throw Damaged();
        }

        Uuid = new Guid(_super.AsSpan(0x68, 16), bigEndian: true).ToString("D");
        Label = Encoding.UTF8.GetString(_super.AsSpan(0x78, 16)).TrimEnd('\0');
    }

    public int BlockSize { get; }

    public string Uuid { get; }

    public string Label { get; }

    public ReadBudget Budget => _disk.Budget;

    /// <summary>Whether the journal holds what is not yet in its place: the file system was in use when the machine ended.</summary>
    public bool NeedsRecovery => (_incompatible & 0x4) != 0;

    /// <summary>The journal's inode number; 0 for none.</summary>
    public uint JournalInode => (Super32(0x5C) & 0x4) != 0 ? Super32(0xE0) : 0;

    /// <summary>Blocks whose newest contents lie elsewhere: in the journal. Their places by number.</summary>
    public Dictionary<long, long> Moved { get; } = [];

    /// <summary>The volume, or null if this is none.</summary>
    /// <exception cref="ImageException">It is one, but damaged or beyond us.</exception>
    public static ExtVolume? TryOpen(DiskPart disk)
    {
        byte[] magic = new byte[2];
        if (disk.Size < SuperblockOffset + 1024)
        {
            return null;
        }

        disk.Read(SuperblockOffset + 0x38, magic);
        return BinaryPrimitives.ReadUInt16LittleEndian(magic) == Magic ? new ExtVolume(disk) : null;
    }

    public static ImageException Damaged() => new("Its ext file system is damaged: check it with e2fsck.");

    /// <summary>A block, to be read and not kept: the next call may take its memory.</summary>
    public ReadOnlySpan<byte> ReadBlock(long number)
    {
        if (number <= 0 || number >= _blocks)
        {
            // Block 0 holds no file's data anywhere; an ext4 of 1 KiB blocks begins at 1.
            throw Damaged();
        }

        Budget.Check();
        number = Moved.GetValueOrDefault(number, number);
        int slot = (int)(number % CacheSlots);
        byte[] block = _cache[slot] ??= NewSlot();
        if (_cached[slot] != number)
        {
            _cached[slot] = 0;
            _disk.Read(number * BlockSize, block);
            _cached[slot] = number;
        }

        return block;
    }

    private byte[] NewSlot()
    {
        Budget.Take(BlockSize);
        return new byte[BlockSize];
    }

    /// <summary>Forgets what was read, as <see cref="Moved"/> has changed.</summary>
    public void Forget() => Array.Clear(_cached);

    /// <summary>Reads blocks that lie together straight into a file's memory.</summary>
    public void ReadRun(long number, Span<byte> into)
    {
        if (Moved.Count == 0)
        {
            if (number <= 0 || number >= _blocks || into.Length > (_blocks - number) * BlockSize)
            {
                throw Damaged();
            }

            _disk.Read(number * BlockSize, into);
            return;
        }

        for (; !into.IsEmpty; number++)
        {
            int count = Math.Min(BlockSize, into.Length);
            ReadBlock(number)[..count].CopyTo(into);
            into = into[count..];
        }
    }

    /// <summary>An inode's bytes.</summary>
    public byte[] ReadInode(uint number)
    {
        if (number == 0 || number > _inodes)
        {
            throw Damaged();
        }

        uint group = (number - 1) / _inodesPerGroup;
        long at = (long)((number - 1) % _inodesPerGroup) * _inodeSize;
        return ReadBlock(FindInodeTable(group) + (at / BlockSize)).Slice((int)(at % BlockSize), _inodeSize).ToArray();
    }

    /// <summary>Where a file's block lies: the first of how many that follow each other; 0 for a hole.</summary>
    /// <param name="inode">As <see cref="ReadInode"/> gave it.</param>
    /// <param name="block">Number in the file.</param>
    /// <param name="wanted">How many are of use, where each has to be looked for.</param>
    public (long Physical, long Count) Map(ReadOnlySpan<byte> inode, uint block, int wanted = 1)
    {
        ReadOnlySpan<byte> root = inode.Slice(0x28, 60);
        return (BinaryPrimitives.ReadUInt32LittleEndian(inode[0x20..]) & ExtentsFlag) != 0 ? MapExtent(root, block) : MapIndirect(root, block, wanted);
    }

    private (long Physical, long Count) MapExtent(ReadOnlySpan<byte> node, uint block)
    {
        int lastDepth = MaxExtentDepth + 1;
        long end = 1L << 32;
        while (true)
        {
            int entries = BinaryPrimitives.ReadUInt16LittleEndian(node[2..]);
            int depth = BinaryPrimitives.ReadUInt16LittleEndian(node[6..]);
            if (BinaryPrimitives.ReadUInt16LittleEndian(node) != 0xF30A || depth >= lastDepth || entries > (node.Length / 12) - 1)
            {
                throw Damaged();
            }

            // The last entry that begins at the block or before it; the next one says where it ends at the latest.
            int low = 0;
            int high = entries;
            while (low < high)
            {
                int middle = (low + high) / 2;
                (low, high) = BinaryPrimitives.ReadUInt32LittleEndian(node[(12 + (middle * 12))..]) <= block ? (middle + 1, high) : (low, middle);
            }

            if (low < entries)
            {
                end = Math.Min(end, BinaryPrimitives.ReadUInt32LittleEndian(node[(12 + (low * 12))..]));
            }

            if (end <= block)
            {
                throw Damaged();
            }

            if (low == 0)
            {
                return (0, end - block);
            }

            ReadOnlySpan<byte> entry = node.Slice(low * 12, 12);
            if (depth == 0)
            {
                return MapLeaf(entry, block, end);
            }

            lastDepth = depth;
            node = ReadBlock(BinaryPrimitives.ReadUInt32LittleEndian(entry[4..]) | ((long)BinaryPrimitives.ReadUInt16LittleEndian(entry[8..]) << 32));
        }
    }

    private static (long Physical, long Count) MapLeaf(ReadOnlySpan<byte> entry, uint block, long end)
    {
        uint first = BinaryPrimitives.ReadUInt32LittleEndian(entry);
        int length = BinaryPrimitives.ReadUInt16LittleEndian(entry[4..]);
        bool isWritten = length <= 0x8000;
        length = isWritten ? length : length - 0x8000;
        long behind = (long)first + length;
        if (block >= behind)
        {
            return (0, end - block);
        }

        long start = BinaryPrimitives.ReadUInt32LittleEndian(entry[8..]) | ((long)BinaryPrimitives.ReadUInt16LittleEndian(entry[6..]) << 32);
        return (isWritten ? start + (block - first) : 0, Math.Min(behind, end) - block);
    }

    private (long Physical, long Count) MapIndirect(ReadOnlySpan<byte> root, uint block, int wanted)
    {
        if (block < 12)
        {
            return FindRun(root[(int)(block * 4)..(12 * 4)], wanted);
        }

        long perBlock = BlockSize / 4;
        long index = block - 12L;
        long span = perBlock;
        for (int level = 1; level <= 3; level++, span *= perBlock)
        {
            if (index >= span)
            {
                index -= span;
                continue;
            }

            long pointer = BinaryPrimitives.ReadUInt32LittleEndian(root[((11 + level) * 4)..]);
            for (long below = span / perBlock; pointer != 0 && below > 0; below /= perBlock)
            {
                ReadOnlySpan<byte> pointers = ReadBlock(pointer)[((int)(index / below % perBlock) * 4)..];
                if (below == 1)
                {
                    return FindRun(pointers, wanted);
                }

                pointer = BinaryPrimitives.ReadUInt32LittleEndian(pointers);
            }

            return (0, 1);
        }

        throw Damaged();
    }

    /// <summary>How many of the first pointers are those of blocks that follow each other, or of holes.</summary>
    private static (long Physical, long Count) FindRun(ReadOnlySpan<byte> pointers, int wanted)
    {
        long first = BinaryPrimitives.ReadUInt32LittleEndian(pointers);
        int most = Math.Min(pointers.Length / 4, wanted);
        int count = 1;
        while (count < most && BinaryPrimitives.ReadUInt32LittleEndian(pointers[(count * 4)..]) == (first == 0 ? 0 : first + count))
        {
            count++;
        }

        return (first, count);
    }

    private long FindInodeTable(uint group)
    {
        uint perBlock = (uint)(BlockSize / _descriptorSize);
        uint part = group / perBlock;
        long block = _firstDataBlock + 1L + part;
        if ((_incompatible & MetaGroupsFeature) != 0 && part >= Super32(0x104))
        {
            uint first = part * perBlock;
            block = _firstDataBlock + ((long)first * _blocksPerGroup) + (HasSuperblock(first) ? 1 : 0);
        }

        ReadOnlySpan<byte> descriptor = ReadBlock(block).Slice((int)(group % perBlock) * _descriptorSize, _descriptorSize);
        long table = BinaryPrimitives.ReadUInt32LittleEndian(descriptor[8..]);
        return _descriptorSize >= 64 ? table | ((long)BinaryPrimitives.ReadUInt32LittleEndian(descriptor[0x28..]) << 32) : table;
    }

    /// <summary>Backups of the superblock lie in every group, or in those whose number is 0, 1 or a power of 3, 5 or 7, or in the two that are named.</summary>
    private bool HasSuperblock(uint group)
    {
        if ((Super32(0x5C) & 0x200) != 0)
        {
            return group == 0 || group == Super32(0x24C) || group == Super32(0x250);
        }

        return (Super32(0x64) & 1) == 0 || group <= 1 || IsPower(group, 3) || IsPower(group, 5) || IsPower(group, 7);
    }

    private static bool IsPower(uint number, uint of)
    {
        while (number % of == 0)
        {
            number /= of;
        }

        return number == 1;
    }

    private uint Super32(int offset) => BinaryPrimitives.ReadUInt32LittleEndian(_super.AsSpan(offset));

    private ushort Super16(int offset) => BinaryPrimitives.ReadUInt16LittleEndian(_super.AsSpan(offset));
}
