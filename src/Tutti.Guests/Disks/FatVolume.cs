using System.Buffers.Binary;
using System.Globalization;
using System.Text;

namespace Tutti.Guests.Disks;

/// <summary>
/// The clusters of a FAT12, FAT16 or FAT32 file system: where they are, and which follows which. Source: Microsoft, FAT General Overview (fatgen103),
/// and what the Linux kernel takes for one.
/// </summary>
internal sealed class FatVolume
{
    private const int BootSize = 512;
    private const int ChunkSize = 4096;
    private const int MaxFat12 = 4084;
    private const int MaxFat16 = 65524;
    private const uint MaxClusters = 0x0FFF_FFF5;

    private readonly DiskPart _disk;
    private readonly byte[] _chunk = new byte[ChunkSize];
    private readonly int _bits;
    private readonly long _fatOffset;
    private readonly long _fatSize;
    private readonly long _dataOffset;
    private long _chunkOffset = -1;

    private FatVolume(DiskPart disk, ReadOnlySpan<byte> boot)
    {
        _disk = disk;
        int sector = BinaryPrimitives.ReadUInt16LittleEndian(boot[11..]);
        int reserved = BinaryPrimitives.ReadUInt16LittleEndian(boot[14..]);
        int fats = boot[16];
        int rootEntries = BinaryPrimitives.ReadUInt16LittleEndian(boot[17..]);
        uint sectors = BinaryPrimitives.ReadUInt16LittleEndian(boot[19..]) is ushort few and > 0 ? few : BinaryPrimitives.ReadUInt32LittleEndian(boot[32..]);
        uint fatSectors = BinaryPrimitives.ReadUInt16LittleEndian(boot[22..]);
        bool isWide = fatSectors == 0;
        fatSectors = isWide ? BinaryPrimitives.ReadUInt32LittleEndian(boot[36..]) : fatSectors;
        ClusterSize = sector * boot[13];
        _fatOffset = (long)reserved * sector;
        _fatSize = (long)fatSectors * sector;
        RootOffset = _fatOffset + (fats * _fatSize);
        RootSize = rootEntries * 32;
        _dataOffset = RootOffset + ((RootSize + sector - 1) / sector * sector);
        long clusters = (((long)sectors * sector) - _dataOffset) / ClusterSize;
        if (clusters <= 0 || clusters > MaxClusters || _dataOffset >= disk.Size || reserved == 0)
        {
            throw Damaged();
        }

        _bits = isWide ? 32 : clusters <= MaxFat12 ? 12 : clusters <= MaxFat16 ? 16 : throw Damaged();
        Clusters = (uint)clusters;
        RootCluster = isWide ? BinaryPrimitives.ReadUInt32LittleEndian(boot[44..]) : 0;
        int extended = isWide ? 66 : 38;
        if (boot[extended] is 0x28 or 0x29)
        {
            uint id = BinaryPrimitives.ReadUInt32LittleEndian(boot[(extended + 1)..]);
            Uuid = string.Create(CultureInfo.InvariantCulture, $"{id >> 16:X4}-{id & 0xFFFF:X4}");
        }

        if (boot[extended] == 0x29)
        {
            string label = Encoding.Latin1.GetString(boot.Slice(extended + 5, 11)).TrimEnd();
            Label = label == "NO NAME" ? string.Empty : label;
        }
    }

    /// <summary>Bytes.</summary>
    public int ClusterSize { get; }

    /// <summary>Their numbers begin at 2.</summary>
    public uint Clusters { get; }

    /// <summary>The root folder's first; 0 where that has a place of its own.</summary>
    public uint RootCluster { get; }

    /// <summary>The root folder's place, where it has one.</summary>
    public long RootOffset { get; }

    public int RootSize { get; }

    public string Uuid { get; } = string.Empty;

    public string Label { get; } = string.Empty;

    public ReadBudget Budget => _disk.Budget;

    /// <summary>The volume, or null if this is none.</summary>
    /// <exception cref="ImageException">It is one, but damaged.</exception>
    public static FatVolume? TryOpen(DiskPart disk)
    {
        if (disk.Size < BootSize)
        {
            return null;
        }

        byte[] boot = new byte[BootSize];
        disk.Read(0, boot);
        int sector = BinaryPrimitives.ReadUInt16LittleEndian(boot.AsSpan(11));

        // The words "FAT16" there mean nothing, says their maker. NTFS and exFAT have no FATs in this place.
        bool isFat = BinaryPrimitives.ReadUInt16LittleEndian(boot.AsSpan(510)) == 0xAA55
            && boot[0] is 0xEB or 0xE9
            && sector is 512 or 1024 or 2048 or 4096
            && boot[13] is not 0 && (boot[13] & (boot[13] - 1)) == 0
            && boot[16] is 1 or 2
            && boot[21] is 0xF0 or >= 0xF8
            && !boot.AsSpan(3).StartsWith("NTFS"u8) && !boot.AsSpan(3).StartsWith("EXFAT"u8);
        return isFat ? new FatVolume(disk, boot) : null;
    }

    public static ImageException Damaged() => new("Its FAT file system is damaged: check it with fsck.fat.");

    /// <summary>The cluster behind one; 0 at the end of a chain.</summary>
    /// <exception cref="ImageException">The chain leads to where no cluster is.</exception>
    public uint Next(uint cluster)
    {
        long at = _bits == 12 ? cluster + ((long)cluster / 2) : (long)cluster * (_bits / 8);
        uint value = _bits switch
        {
            12 => (uint)((ReadFat(at) | (ReadFat(at + 1) << 8)) >> ((cluster & 1) != 0 ? 4 : 0)) & 0xFFF,
            16 => (uint)(ReadFat(at) | (ReadFat(at + 1) << 8)),
            _ => (uint)(ReadFat(at) | (ReadFat(at + 1) << 8) | (ReadFat(at + 2) << 16) | (ReadFat(at + 3) << 24)) & 0x0FFF_FFFF,
        };
        uint end = _bits switch { 12 => 0xFF8, 16 => 0xFFF8, _ => 0x0FFF_FFF8 };
        return value >= end ? 0 : IsCluster(value) ? value : throw Damaged();
    }

    public bool IsCluster(uint cluster) => cluster >= 2 && cluster < Clusters + 2;

    /// <summary>Reads a part of clusters that lie one behind the other.</summary>
    /// <exception cref="ImageException">They leave the disk.</exception>
    public void Read(uint cluster, Span<byte> into)
    {
        if (!IsCluster(cluster))
        {
            throw Damaged();
        }

        _disk.Read(_dataOffset + ((long)(cluster - 2) * ClusterSize), into);
    }

    public void ReadRoot(Span<byte> into) => _disk.Read(RootOffset, into);

    private int ReadFat(long at)
    {
        if (at >= _fatSize)
        {
            throw Damaged();
        }

        long start = at & -ChunkSize;
        if (start != _chunkOffset)
        {
            _chunkOffset = -1;
            _disk.Read(_fatOffset + start, _chunk.AsSpan(0, (int)Math.Min(ChunkSize, _fatSize - start)));
            _chunkOffset = start;
        }

        return _chunk[at - start];
    }
}
