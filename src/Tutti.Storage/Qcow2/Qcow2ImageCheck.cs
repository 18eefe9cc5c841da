using System.Buffers.Binary;
using System.Globalization;

namespace Tutti.Storage.Qcow2;

/// <summary>Counts what uses each cluster, and compares that with what the image says.</summary>
internal sealed partial class Qcow2Image
{
    private const ulong ReservedInL1 = 0x7F00_0000_0000_01FF;
    private const ulong ReservedInL2 = 0x3F00_0000_0000_01FE;
    private const long MaxCheckedClusters = 1 << 28;

    /// <exception cref="DiskException">The file is too large for its clusters to be counted in memory, or has bitmaps.</exception>
    internal ImageCheck Check() => TakeCensus().Result();

    private Qcow2Census TakeCensus()
    {
        long clusters = (_file.Length + _clusterSize - 1) >> _clusterBits;
        if (clusters > MaxCheckedClusters)
        {
            throw new DiskException($"disk '{_file.Path}' has too many clusters to be checked here; use 'qemu-img check'");
        }

        if ((_header.Autoclear & 1) != 0)
        {
            throw new DiskException($"disk '{_file.Path}' has bitmaps, which are not looked at here; use 'qemu-img check'");
        }

        Qcow2Census census = new((int)clusters, _clusterBits) { TotalClusters = (Size + _clusterSize - 1) >> _clusterBits };
        census.Use(0, _clusterSize, Qcow2Use.Alone, "the header");
        census.Use(_refcounts.TableOffset, (long)_refcounts.TableClusters << _clusterBits, Qcow2Use.Alone, "the refcount table");
        bool areCountsThere = true;
        long damages = census.Damages;
        foreach (ulong entry in _refcounts.Table)
        {
            if (entry == 0)
            {
                continue;
            }

            if (!_refcounts.IsBlock(entry))
            {
                census.Miscount($"a refcount table entry names the impossible offset 0x{entry:x}");
                areCountsThere = false;
            }
            else if (!census.Has((long)entry))
            {
                census.Miscount($"a refcount block is behind the file's end, at offset 0x{entry:x}");
            }
            else
            {
                census.Use((long)entry, _clusterSize, Qcow2Use.Alone, "a refcount block");
            }
        }

        // A block that is in the table twice is not gone through twice.
        areCountsThere &= census.Damages == damages;
        bool isOnce = CountL1(census, _l1, _header.L1Offset, isActive: true);
        CountSnapshots(census);
        if (areCountsThere)
        {
            if (isOnce)
            {
                CheckCopied(census);
            }

            CompareCounts(census);
        }

        return census;
    }

    /// <returns>False where an L2 table is there twice.</returns>
    private bool CountL1(Qcow2Census census, ulong[] l1, long offset, bool isActive)
    {
        census.Use(offset, l1.Length * 8L, Qcow2Use.Alone, "an L1 table");
        byte[] table = new byte[_clusterSize];
        HashSet<long> seen = [];
        bool isOnce = true;
        foreach (ulong entry in l1)
        {
            if ((entry & ReservedInL1) != 0)
            {
                census.Corrupt($"an L1 entry has reserved bits set: 0x{entry:x}");
            }

            long place = (long)(entry & OffsetMask);
            if (place == 0)
            {
                continue;
            }

            if ((place & (_clusterSize - 1)) != 0)
            {
                census.Corrupt($"an L1 entry names the impossible offset 0x{place:x}");
                continue;
            }

            census.Use(place, _clusterSize, Qcow2Use.Table, "an L2 table");
            if (!seen.Add(place))
            {
                // Not counted again: a file of few bytes could keep us busy for hours.
                census.Corrupt($"the L2 table at offset 0x{place:x} is there twice");
                isOnce = false;
                continue;
            }

            _file.Read(table, place);
            for (int i = 0; i < table.Length / 8; i++)
            {
                CountEntry(census, Entry(table, i), isActive);
            }
        }

        return isOnce;
    }

    private void CountEntry(Qcow2Census census, ulong entry, bool isActive)
    {
        if ((entry & Compressed) != 0)
        {
            (long start, int length) = _compressed.Locate(entry);
            census.Use(start, length, Qcow2Use.Data, "a compressed cluster");
            census.AllocatedClusters += isActive ? 1 : 0;
            census.CompressedClusters += isActive ? 1 : 0;
            census.NextPlace = 0;
            return;
        }

        if ((entry & ReservedInL2) != 0)
        {
            census.Corrupt($"an L2 entry has reserved bits set: 0x{entry:x}");
        }

        long place = (long)(entry & OffsetMask);
        if (place == 0)
        {
            return;
        }

        if ((place & (_clusterSize - 1)) != 0)
        {
            census.Corrupt($"an L2 entry names the impossible offset 0x{place:x}");
            return;
        }

        census.Use(place, _clusterSize, Qcow2Use.Data, "data");
        if (isActive)
        {
            census.AllocatedClusters++;
            census.FragmentedClusters += census.NextPlace != 0 && census.NextPlace != place ? 1 : 0;
            census.NextPlace = place + _clusterSize;
        }
    }

    /// <summary>What the entries of the active image say of others that use their cluster.</summary>
    private void CheckCopied(Qcow2Census census) => ForEachCopied((entry, place) =>
    {
        if (census.Has(place) && ((entry & Copied) != 0) != (_refcounts.Get(place >> _clusterBits) == 1))
        {
            census.Miscount($"the entry for offset 0x{place:x} says wrongly whether others use it");
        }

        return entry;
    });

    private void CountSnapshots(Qcow2Census census)
    {
        const int FixedLength = 40;
        long at = _header.SnapshotsOffset;
        Span<byte> head = stackalloc byte[FixedLength];
        long end = _file.Length;
        for (int i = 0; i < _header.SnapshotCount; i++)
        {
            if (at > end - FixedLength)
            {
                census.Corrupt("the snapshot table is behind the file's end");
                return;
            }

            _file.Read(head, at);
            long offset = BinaryPrimitives.ReadInt64BigEndian(head);
            uint entries = BinaryPrimitives.ReadUInt32BigEndian(head[8..]);
            long length = FixedLength + (long)BinaryPrimitives.ReadUInt32BigEndian(head[36..])
                + BinaryPrimitives.ReadUInt16BigEndian(head[12..]) + BinaryPrimitives.ReadUInt16BigEndian(head[14..]);
            if (entries * 8L > Qcow2Header.MaxL1Bytes || offset < 0 || (offset & (_clusterSize - 1)) != 0)
            {
                census.Corrupt($"snapshot {i.ToString(CultureInfo.InvariantCulture)} has an impossible L1 table");
            }
            else
            {
                CountL1(census, ReadL1(offset, (int)entries), offset, isActive: false);
            }

            at += (length + 7) & ~7L;
        }

        if (_header.SnapshotCount != 0)
        {
            census.Use(_header.SnapshotsOffset, at - _header.SnapshotsOffset, Qcow2Use.Alone, "the snapshot table");
        }
    }

    private void CompareCounts(Qcow2Census census) => ForEachWrongCount(census, (cluster, expected, count) =>
    {
        string text = string.Create(CultureInfo.InvariantCulture, $"cluster {cluster} is used {expected} times, and counted {count} times");
        if (expected > _refcounts.Max)
        {
            census.Corrupt($"{text}, which can't be mended");
        }
        else if (count > expected)
        {
            census.Leak(text);
        }
        else
        {
            census.Miscount(text);
        }
    });

    /// <summary>Clusters whose count is not the number of their users. The action may change the count, and the census behind the cluster.</summary>
    private void ForEachWrongCount(Qcow2Census census, Action<long, ulong, ulong> act)
    {
        int perBlock = _clusterSize * 8 / _header.RefcountBits;
        for (long cluster = 0; cluster < Math.Max(census.Length, (long)_refcounts.Table.Length * perBlock); cluster++)
        {
            if (cluster >= census.Length && (cluster % perBlock == 0 || cluster == census.Length) && IsIdle(census, _refcounts.Table[(int)(cluster / perBlock)]))
            {
                cluster += perBlock - 1 - (cluster % perBlock);
                continue;
            }

            ulong expected = census.UsersOf(cluster);
            ulong count = _refcounts.Get(cluster);
            if (count != expected)
            {
                act(cluster, expected, count);
            }
        }
    }

    /// <summary>Whether a refcount block has nothing to say of clusters behind the file's end.</summary>
    private bool IsIdle(Qcow2Census census, ulong block) =>
        block == 0 || !census.Has((long)block) || !_refcounts.HasCounts((long)block);

    /// <summary>Entries of the active L1 table and its L2 tables that may say that nobody else uses their cluster; what the action returns takes an entry's place.</summary>
    private void ForEachCopied(Func<ulong, long, ulong> act)
    {
        byte[] table = new byte[_clusterSize];
        for (int i = 0; i < _l1.Length; i++)
        {
            ulong l1 = _l1[i];
            long place = (long)(l1 & OffsetMask);
            if (place == 0 || (place & (_clusterSize - 1)) != 0)
            {
                continue;
            }

            ulong changed = act(l1, place);
            if (changed != l1)
            {
                _l1[i] = changed;
                _dirtyL1.Add(i);
            }

            _file.Read(table, place);
            bool isChanged = false;
            for (int at = 0; at < table.Length / 8; at++)
            {
                ulong entry = Entry(table, at);
                long data = (long)(entry & OffsetMask);
                if ((entry & Compressed) == 0 && data != 0 && (data & (_clusterSize - 1)) == 0)
                {
                    ulong now = act(entry, data);
                    isChanged |= now != entry;
                    BinaryPrimitives.WriteUInt64BigEndian(table.AsSpan(at * 8), now);
                }
            }

            if (isChanged)
            {
                _file.Write(table, place);
            }
        }
    }
}
