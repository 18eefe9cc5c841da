using System.Buffers.Binary;
using System.Text;

namespace Tutti.Guests.Server;

/// <summary>Writes a partition table with one partition for Linux (UEFI 2.10, chapter 5).</summary>
internal static class GptWriter
{
    /// <summary>Where the first partition begins, in bytes.</summary>
    public const long PartitionOffset = 1 << 20;

    /// <summary>What the second table takes at the disk's end, in bytes, rounded up.</summary>
    public const long Tail = 1 << 20;

    private const int Sector = 512;
    private const int EntryCount = 128;
    private const int EntrySize = 128;
    private const int TableSectors = EntryCount * EntrySize / Sector;

    /// <summary>Root partition of x86-64, Discoverable Partitions Specification.</summary>
    private static readonly Guid s_rootType = new("4f68bce3-e8cd-4db1-96e7-fbcaf984b709");

    /// <summary>Writes both tables and the MBR that keeps others away.</summary>
    /// <param name="disk">Of <paramref name="size"/> bytes.</param>
    /// <param name="size">A multiple of 512.</param>
    /// <param name="partitionSize">Bytes, a multiple of 512; at most the disk less <see cref="PartitionOffset"/> and <see cref="Tail"/>.</param>
    /// <param name="diskId">The disk's number.</param>
    /// <param name="partitionId">The partition's number: PARTUUID.</param>
    public static void Write(Stream disk, long size, long partitionSize, Guid diskId, Guid partitionId)
    {
        long last = (size / Sector) - 1;
        byte[] table = new byte[EntryCount * EntrySize];
        s_rootType.TryWriteBytes(table);
        partitionId.TryWriteBytes(table.AsSpan(16));
        BinaryPrimitives.WriteInt64LittleEndian(table.AsSpan(32), PartitionOffset / Sector);
        BinaryPrimitives.WriteInt64LittleEndian(table.AsSpan(40), ((PartitionOffset + partitionSize) / Sector) - 1);
        Encoding.Unicode.GetBytes("root").CopyTo(table, 56);

        byte[] mbr = new byte[Sector];
        mbr[446 + 2] = 2;
        mbr[446 + 4] = 0xEE;
        mbr.AsSpan(446 + 5, 3).Fill(0xFF);
        BinaryPrimitives.WriteUInt32LittleEndian(mbr.AsSpan(446 + 8), 1);
        BinaryPrimitives.WriteUInt32LittleEndian(mbr.AsSpan(446 + 12), (uint)Math.Min(last, uint.MaxValue));
        BinaryPrimitives.WriteUInt16LittleEndian(mbr.AsSpan(510), 0xAA55);

        Put(0, mbr);
        Put(1, Header(1, last, 2));
        Put(2, table);
        Put(last - TableSectors, table);
        Put(last, Header(last, 1, last - TableSectors));

        void Put(long sector, byte[] bytes)
        {
            disk.Position = sector * Sector;
            disk.Write(bytes);
        }

        byte[] Header(long self, long other, long entries)
        {
            byte[] header = new byte[Sector];
            "EFI PART"u8.CopyTo(header);
            BinaryPrimitives.WriteUInt32LittleEndian(header.AsSpan(8), 0x1_0000);
            BinaryPrimitives.WriteUInt32LittleEndian(header.AsSpan(12), 92);
            BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(24), self);
            BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(32), other);
            BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(40), 2 + TableSectors);
            BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(48), last - TableSectors - 1);
            diskId.TryWriteBytes(header.AsSpan(56));
            BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(72), entries);
            BinaryPrimitives.WriteUInt32LittleEndian(header.AsSpan(80), EntryCount);
            BinaryPrimitives.WriteUInt32LittleEndian(header.AsSpan(84), EntrySize);
            BinaryPrimitives.WriteUInt32LittleEndian(header.AsSpan(88), Crc32(table));
            BinaryPrimitives.WriteUInt32LittleEndian(header.AsSpan(16), Crc32(header.AsSpan(0, 92)));
            return header;
        }
    }

    private static uint Crc32(ReadOnlySpan<byte> bytes)
    {
        uint crc = uint.MaxValue;
        foreach (byte value in bytes)
        {
            crc ^= value;
            for (int bit = 0; bit < 8; bit++)
            {
                crc = (crc >> 1) ^ (0xEDB8_8320 & (0 - (crc & 1)));
            }
        }

        return ~crc;
    }
}
