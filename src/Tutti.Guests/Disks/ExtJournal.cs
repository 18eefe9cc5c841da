using System.Buffers.Binary;

namespace Tutti.Guests.Disks;

/// <summary>
/// Reads a journal as recovery would, without writing: which blocks have newer contents in it. After a machine's sudden end a kernel that was
/// installed shortly before may be found only so. Every record takes memory, and one block may stand in many places of the journal: each is charged
/// to the disk's budget. Source: Linux, Documentation/filesystems/ext4/journal.rst (jbd2; its fields are big-endian).
/// </summary>
internal static class ExtJournal
{
    private const uint Magic = 0xC03B_3998;
    private const int HeaderSize = 12;
    private const uint Descriptor = 1;
    private const uint Commit = 2;
    private const uint SuperblockV2 = 4;
    private const uint Revoke = 5;
    private const uint Wide = 0x2;
    private const uint ChecksumV2 = 0x8;
    private const uint ChecksumV3 = 0x10;
    private const uint FastCommits = 0x20;
    private const uint KnownFeatures = 0x1 | Wide | 0x4 | ChecksumV2 | ChecksumV3 | FastCommits;
    private const long MaxBlocks = 1 << 20;

    /// <summary>Bytes of memory for a record of a block that was written: in a list, then in a dictionary, both with room to grow.</summary>
    private const int WrittenCost = 64;
    private const int RevokedCost = 16;

    /// <summary>Blocks that a journal has at least beside those for fast commits, and how many those are where it does not say.</summary>
    private const uint LeastBlocks = 1024;
    private const uint DefaultFastBlocks = 256;

    /// <summary>Fills <see cref="ExtVolume.Moved"/>. A journal that makes no sense changes nothing.</summary>
    /// <exception cref="ImageException">It has features that are not known: what is in it cannot be told.</exception>
    public static void Apply(ExtVolume volume, byte[] inode, long size)
    {
        if (size < volume.BlockSize || Physical(volume, inode, 0) is not long place)
        {
            return;
        }

        ReadOnlySpan<byte> super = volume.ReadBlock(place);
        uint length = BinaryPrimitives.ReadUInt32BigEndian(super[0x10..]);
        uint first = BinaryPrimitives.ReadUInt32BigEndian(super[0x14..]);
        uint sequence = BinaryPrimitives.ReadUInt32BigEndian(super[0x18..]);
        uint start = BinaryPrimitives.ReadUInt32BigEndian(super[0x1C..]);
        uint features = BinaryPrimitives.ReadUInt32BigEndian(super[4..]) == SuperblockV2 ? BinaryPrimitives.ReadUInt32BigEndian(super[0x28..]) : 0;
        if (BinaryPrimitives.ReadUInt32BigEndian(super) != Magic || BinaryPrimitives.ReadUInt32BigEndian(super[0xC..]) != volume.BlockSize
            || start == 0 || first == 0 || length > Math.Min(size / volume.BlockSize, MaxBlocks) || start >= length || first >= length)
        {
            return;
        }

        if ((features & ~KnownFeatures) is uint unknown and not 0)
        {
            throw new ImageException($"its journal was not played, and has features that Tutti does not know (incompat 0x{unknown:x})");
        }

        uint end = length - ((features & FastCommits) != 0 ? FastBlocks(super, length) : 0);
        Dictionary<long, long> moved = Scan(volume, inode, new Extent(first, end, start), sequence, features);
        foreach ((long block, long copy) in moved)
        {
            volume.Moved[block] = copy;
        }

        volume.Forget();
    }

    /// <summary>
    /// Blocks behind the log that hold fast commits: changes since the last transaction, in another form, for inodes that were synced alone. They are not
    /// read: without them the file system is as that transaction left it.
    /// </summary>
    private static uint FastBlocks(ReadOnlySpan<byte> super, uint length)
    {
        uint count = BinaryPrimitives.ReadUInt32BigEndian(super[0x54..]);
        count = count == 0 ? DefaultFastBlocks : count;
        return count <= length && length - count >= LeastBlocks ? count : 0;
    }

    private readonly record struct Extent(uint First, uint End, uint Start)
    {
        public uint After(uint block, uint count = 1)
        {
            long next = (long)block + count;
            return (uint)(next >= End ? next - End + First : next);
        }
    }

    private static long? Physical(ExtVolume volume, byte[] inode, uint block) => volume.Map(inode, block) is (long place and > 0, _) ? place : null;

    /// <summary>Takes each transaction over when its commit block is reached; what lies behind the last one never happened.</summary>
    private static Dictionary<long, long> Scan(ExtVolume volume, byte[] inode, Extent log, uint sequence, uint features)
    {
        Dictionary<long, long> moved = [];
        List<(long Block, long Copy)> written = [];
        List<long> revoked = [];
        uint at = log.Start;
        for (uint seen = 0; seen < log.End && Physical(volume, inode, at) is long place; seen++)
        {
            ReadOnlySpan<byte> block = volume.ReadBlock(place);
            if (BinaryPrimitives.ReadUInt32BigEndian(block) != Magic || BinaryPrimitives.ReadUInt32BigEndian(block[8..]) != sequence)
            {
                break;
            }

            switch (BinaryPrimitives.ReadUInt32BigEndian(block[4..]))
            {
                case Descriptor:
                    foreach (long target in ReadTags(block, features))
                    {
                        at = log.After(at);
                        seen++;
                        if (Physical(volume, inode, at) is long copy && seen < log.End && target >= 0)
                        {
                            volume.Budget.Take(WrittenCost);
                            written.Add((target, copy));
                        }
                    }

                    break;
                case Revoke:
                    ReadRevoked(block, features, revoked, volume.Budget);
                    break;
                case Commit:
                    foreach ((long target, long copy) in written)
                    {
                        moved[target] = copy;
                    }

                    // A record revokes what its own transaction and those before it have written.
                    foreach (long target in revoked)
                    {
                        moved.Remove(target);
                    }

                    written.Clear();
                    revoked.Clear();
                    sequence++;
                    break;
                default:
                    return moved;
            }

            at = log.After(at);
        }

        return moved;
    }

    /// <summary>The blocks whose copies follow a descriptor block; -1 for one that looked like a header and was changed, which no kernel file does.</summary>
    private static List<long> ReadTags(ReadOnlySpan<byte> block, uint features)
    {
        const int Escaped = 1, SameUuid = 2, Last = 8;
        List<long> targets = [];
        bool isV3 = (features & ChecksumV3) != 0;
        int tagSize = isV3 ? 16 : 8 + ((features & Wide) != 0 ? 4 : 0) + ((features & ChecksumV2) != 0 ? 2 : 0);
        int end = block.Length - ((features & (ChecksumV2 | ChecksumV3)) != 0 ? 4 : 0);
        for (int at = HeaderSize; at + tagSize <= end;)
        {
            ReadOnlySpan<byte> tag = block[at..];
            uint flags = isV3 ? BinaryPrimitives.ReadUInt32BigEndian(tag[4..]) : BinaryPrimitives.ReadUInt16BigEndian(tag[6..]);
            long high = (features & Wide) != 0 ? BinaryPrimitives.ReadUInt32BigEndian(tag[8..]) : 0;
            targets.Add((flags & Escaped) != 0 ? -1 : BinaryPrimitives.ReadUInt32BigEndian(tag) | (high << 32));
            at += tagSize + ((flags & SameUuid) != 0 ? 0 : 16);
            if ((flags & Last) != 0)
            {
                break;
            }
        }

        return targets;
    }

    private static void ReadRevoked(ReadOnlySpan<byte> block, uint features, List<long> revoked, ReadBudget budget)
    {
        int size = (features & Wide) != 0 ? 8 : 4;
        long end = Math.Min(BinaryPrimitives.ReadUInt32BigEndian(block[HeaderSize..]), block.Length);
        for (int at = HeaderSize + 4; at + size <= end; at += size)
        {
            budget.Take(RevokedCost);
            revoked.Add(size == 8 ? (long)BinaryPrimitives.ReadUInt64BigEndian(block[at..]) : BinaryPrimitives.ReadUInt32BigEndian(block[at..]));
        }
    }
}
