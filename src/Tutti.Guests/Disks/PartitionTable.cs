using System.Buffers.Binary;
using System.Globalization;

namespace Tutti.Guests.Disks;

/// <summary>A part of a disk that may hold a file system.</summary>
/// <param name="Number">As Linux counts them; 0 for a whole disk.</param>
/// <param name="Offset">First byte.</param>
/// <param name="Size">Bytes.</param>
/// <param name="Id">What the kernel calls PARTUUID; null for a whole disk.</param>
internal sealed record DiskPartition(int Number, long Offset, long Size, string? Id)
{
    private static readonly Guid s_efiSystem = new("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");

    /// <summary>What a GPT says that it is for; for an MBR's system partition of the firmware's the same as there, else nothing.</summary>
    public Guid Type { get; init; }

    /// <summary>Whether firmware looks for boot loaders here (UEFI 2.10, 13.3.3).</summary>
    public bool IsEfiSystem => Type == s_efiSystem;

    /// <summary>For people.</summary>
    public string Name => Number == 0 ? "the disk" : string.Create(CultureInfo.InvariantCulture, $"partition {Number}");

    /// <summary>The type of an MBR's partition.</summary>
    public static Guid OfMbr(byte type) => type == 0xEF ? s_efiSystem : Guid.Empty;
}

/// <summary>
/// Partition tables: GPT (UEFI 2.10, chapter 5) and the PC's MBR with logical partitions. A disk without one is one partition. Entries that do not
/// fit on the disk are left out.
/// </summary>
internal static class PartitionTable
{
    /// <summary>Of the disks that guests get.</summary>
    private const int Sector = 512;
    private const int LargeSector = 4096;
    private const int MaxEntries = 1024;
    private const int MaxLogical = 64;
    private const byte ProtectiveType = 0xEE;

    /// <exception cref="ImageException">The disk cannot be read.</exception>
    public static IReadOnlyList<DiskPartition> Read(DiskPart disk)
    {
        if (disk.Size < 2 * Sector)
        {
            return [];
        }

        byte[] first = new byte[Sector];
        disk.Read(0, first);
        bool hasSignature = BinaryPrimitives.ReadUInt16LittleEndian(first.AsSpan(510)) == 0xAA55;
        if (hasSignature && Enumerable.Range(0, 4).Any(i => first[446 + (i * 16) + 4] == ProtectiveType))
        {
            if ((ReadGpt(disk, Sector) ?? ReadGpt(disk, disk.Size - Sector)) is { } entries)
            {
                return entries;
            }

            if (IsGpt(disk, LargeSector))
            {
                throw new ImageException($"The disk's partition table is for sectors of {LargeSector} bytes, and a guest's disks have {Sector}: copy its partitions to a disk with those, or {DiskKernel.Instead}.");
            }
        }

        // A file system's boot sector may have the signature and no table.
        List<DiskPartition> partitions = hasSignature ? ReadMbr(disk, first) : [];
        return partitions.Count > 0 ? partitions : [new DiskPartition(0, 0, disk.Size, null)];
    }

    private static bool IsGpt(DiskPart disk, int at)
    {
        byte[] sign = new byte[8];
        if (at > disk.Size - sign.Length)
        {
            return false;
        }

        disk.Read(at, sign);
        return sign.AsSpan().SequenceEqual("EFI PART"u8);
    }

    private static List<DiskPartition>? ReadGpt(DiskPart disk, long headerOffset)
    {
        byte[] header = new byte[92];
        disk.Read(headerOffset, header);
        if (!header.AsSpan().StartsWith("EFI PART"u8))
        {
            return null;
        }

        ulong tableSector = BinaryPrimitives.ReadUInt64LittleEndian(header.AsSpan(72));
        uint count = Math.Min(BinaryPrimitives.ReadUInt32LittleEndian(header.AsSpan(80)), MaxEntries);
        uint size = BinaryPrimitives.ReadUInt32LittleEndian(header.AsSpan(84));
        if (size is < 128 or > 4096 || tableSector > (ulong)(disk.Size / Sector))
        {
            return null;
        }

        List<DiskPartition> partitions = [];
        byte[] entry = new byte[48];
        for (int i = 0; i < count; i++)
        {
            long at = ((long)tableSector * Sector) + ((long)i * size);
            if (at > disk.Size - entry.Length)
            {
                break;
            }

            disk.Read(at, entry);
            ulong from = BinaryPrimitives.ReadUInt64LittleEndian(entry.AsSpan(32));
            ulong to = BinaryPrimitives.ReadUInt64LittleEndian(entry.AsSpan(40));
            if (entry.AsSpan(0, 16).ContainsAnyExcept((byte)0))
            {
                Add(partitions, disk, i + 1, from, to < from ? 0 : to - from + 1, new Guid(entry.AsSpan(16, 16)).ToString("D"), new Guid(entry.AsSpan(0, 16)));
            }
        }

        return partitions;
    }

    private static List<DiskPartition> ReadMbr(DiskPart disk, byte[] first)
    {
        List<DiskPartition> partitions = [];
        uint signature = BinaryPrimitives.ReadUInt32LittleEndian(first.AsSpan(440));
        uint extended = 0;
        for (int i = 0; i < 4; i++)
        {
            (byte type, uint from, uint count) = Entry(first, i);
            if (first[446 + (i * 16)] is not (0 or 0x80))
            {
                return [];
            }

            if (IsExtended(type))
            {
                extended = extended == 0 ? from : extended;
            }
            else if (type != 0)
            {
                Add(partitions, disk, i + 1, from, count, Name(signature, i + 1), DiskPartition.OfMbr(type));
            }
        }

        // Each logical partition has a table of its own, which says where it is and where the next table is, mostly in this order. A table
        // without a partition takes no number: so Linux counts, and GRUB.
        byte[] table = new byte[Sector];
        uint next = 0;
        int number = 5;
        for (int i = 0; extended != 0 && i < MaxLogical; i++)
        {
            long at = ((long)extended + next) * Sector;
            if (at > disk.Size - Sector)
            {
                break;
            }

            disk.Read(at, table);
            if (BinaryPrimitives.ReadUInt16LittleEndian(table.AsSpan(510)) != 0xAA55)
            {
                break;
            }

            uint link = 0;
            foreach ((byte type, uint from, uint count) in ((int[])[0, 1]).Select(slot => Entry(table, slot)))
            {
                if (IsExtended(type))
                {
                    link = link == 0 ? from : link;
                }
                else if (type != 0 && count != 0)
                {
                    Add(partitions, disk, number, (ulong)extended + next + from, count, Name(signature, number), DiskPartition.OfMbr(type));
                    number++;
                }
            }

            if (link == 0)
            {
                break;
            }

            next = link;
        }

        return partitions;
    }

    private static bool IsExtended(byte type) => type is 0x05 or 0x0F or 0x85;

    private static (byte Type, uint From, uint Count) Entry(byte[] table, int index)
    {
        ReadOnlySpan<byte> entry = table.AsSpan(446 + (index * 16), 16);
        return (entry[4], BinaryPrimitives.ReadUInt32LittleEndian(entry[8..]), BinaryPrimitives.ReadUInt32LittleEndian(entry[12..]));
    }

    private static string Name(uint signature, int number) => string.Create(CultureInfo.InvariantCulture, $"{signature:x8}-{number:x2}");

    private static void Add(List<DiskPartition> partitions, DiskPart disk, int number, ulong from, ulong count, string id, Guid type)
    {
        ulong sectors = (ulong)(disk.Size / Sector);
        if (count > 0 && from > 0 && from < sectors && count <= sectors - from)
        {
            partitions.Add(new DiskPartition(number, (long)from * Sector, (long)count * Sector, id) { Type = type });
        }
    }
}
