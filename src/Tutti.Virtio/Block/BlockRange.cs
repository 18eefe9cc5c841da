using System.Buffers.Binary;
using static Tutti.Virtio.Block.VirtioBlockLayout;

namespace Tutti.Virtio.Block;

/// <summary>A part of the disk that a DISCARD or WRITE_ZEROES request names.</summary>
internal readonly record struct BlockRange(ulong Sector, uint SectorCount, uint Flags)
{
    /// <summary>Reads struct virtio_blk_discard_write_zeroes.</summary>
    internal static BlockRange Read(ReadOnlySpan<byte> from) => new(
        BinaryPrimitives.ReadUInt64LittleEndian(from[RangeSector..]),
        BinaryPrimitives.ReadUInt32LittleEndian(from[RangeNumSectors..]),
        BinaryPrimitives.ReadUInt32LittleEndian(from[RangeFlags..]));

    /// <summary>Whether <paramref name="sectors"/> sectors from <paramref name="first"/> lie on a disk of <paramref name="capacity"/> sectors.</summary>
    internal static bool IsOnDisk(ulong first, ulong sectors, ulong capacity) => first <= capacity && sectors <= capacity - first;
}
