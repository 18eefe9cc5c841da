using System.Buffers.Binary;
using System.Globalization;
using Tutti.Host;

namespace Tutti.Storage.Qcow2;

/// <summary>Counts what uses each cluster, and compares that with what the image says.</summary>
internal sealed partial class Qcow2Image
{
    private const int MaxMessages = 100;
    private const long MaxCheckedClusters = 1 << 28;

    /// <exception cref="DiskException">The file is too large for its clusters to be counted in memory, or has bitmaps.</exception>
    internal ImageCheck Check()
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

        Census census = new(new uint[clusters], _clusterBits) { TotalClusters = (Size + _clusterSize - 1) >> _clusterBits };
        census.Use(0, _clusterSize, "the header");
        census.Use(_refcounts.TableOffset, (long)_refcounts.TableClusters << _clusterBits, "the refcount table");
        foreach (ulong entry in _refcounts.Table)
        {
            if (entry != 0 && _refcounts.IsBlock(entry))
            {
                census.Use((long)entry, _clusterSize, "a refcount block");
            }
            else if (entry != 0)
            {
                census.Corrupt($"a refcount table entry names the impossible offset 0x{entry:x}");
            }
        }

        CountL1(census, _l1, _header.L1Offset, isActive: true);
        CountSnapshots(census);
        if (census.Corruptions == 0 || _refcounts.Table.ToArray().All(e => e == 0 || _refcounts.IsBlock(e)))
        {
            CompareCounts(census);
        }

        return census.Result();
    }

    private void CountL1(Census census, ulong[] l1, long offset, bool isActive)
    {
        census.Use(offset, l1.Length * 8L, "an L1 table");
        byte[] table = new byte[_clusterSize];
        foreach (ulong entry in l1)
        {
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

            census.Use(place, _clusterSize, "an L2 table");
            CheckCopied(census, entry, place, isActive);
            _file.Read(table, place);
            for (int i = 0; i < table.Length / 8; i++)
            {
                CountEntry(census, Entry(table, i), isActive);
            }
        }
    }

    private void CountEntry(Census census, ulong entry, bool isActive)
    {
        if ((entry & Compressed) != 0)
        {
            (long start, int length) = _compressed.Locate(entry);
            census.Use(start, length, "a compressed cluster");
            census.AllocatedClusters += isActive ? 1 : 0;
            census.CompressedClusters += isActive ? 1 : 0;
            census.NextPlace = 0;
            return;
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

        census.Use(place, _clusterSize, "data");
        CheckCopied(census, entry, place, isActive);
        if (isActive)
        {
            census.AllocatedClusters++;
            census.FragmentedClusters += census.NextPlace != 0 && census.NextPlace != place ? 1 : 0;
            census.NextPlace = place + _clusterSize;
        }
    }

    private void CheckCopied(Census census, ulong entry, long place, bool isActive)
    {
        if (isActive && census.Has(place) && ((entry & Copied) != 0) != (_refcounts.Get(place >> _clusterBits) == 1))
        {
            census.Corrupt($"the entry for offset 0x{place:x} says wrongly whether others use it");
        }
    }

    private void CountSnapshots(Census census)
    {
        const int FixedLength = 40;
        long at = _header.SnapshotsOffset;
        Span<byte> head = stackalloc byte[FixedLength];
        for (int i = 0; i < _header.SnapshotCount && at < _file.Length; i++)
        {
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
            census.Use(_header.SnapshotsOffset, at - _header.SnapshotsOffset, "the snapshot table");
        }
    }

    private void CompareCounts(Census census)
    {
        int perBlock = _clusterSize * 8 / _header.RefcountBits;
        long end = Math.Max(census.Counts.Length, (long)_refcounts.Table.Length * perBlock);
        for (long cluster = 0; cluster < end; cluster++)
        {
            if (cluster >= census.Counts.Length && _refcounts.Table[(int)(cluster / perBlock)] == 0)
            {
                cluster += perBlock - 1 - (cluster % perBlock);
                continue;
            }

            ulong expected = cluster < census.Counts.Length ? census.Counts[cluster] : 0;
            ulong count = _refcounts.Get(cluster);
            if (count == expected)
            {
                continue;
            }

            string text = string.Create(CultureInfo.InvariantCulture, $"cluster {cluster} is used {expected} times, and counted {count} times");
            if (count > expected)
            {
                census.Leak(text);
            }
            else
            {
                census.Corrupt(text);
            }
        }
    }

    private sealed class Census(uint[] counts, int clusterBits)
    {
        private readonly List<string> _messages = [];
        private long _leaks;
        private long _last;

        internal uint[] Counts => counts;

        internal long TotalClusters { get; init; }

        internal long AllocatedClusters { get; set; }

        internal long CompressedClusters { get; set; }

        internal long FragmentedClusters { get; set; }

        internal long NextPlace { get; set; }

        internal long Corruptions { get; private set; }

        internal bool Has(long place) => place >> clusterBits < counts.Length;

        internal void Use(long place, long length, string what)
        {
            if (length == 0)
            {
                return;
            }

            long last = (place + length - 1) >> clusterBits;
            for (long cluster = place >> clusterBits; cluster <= last; cluster++)
            {
                if (cluster >= counts.Length)
                {
                    Corrupt($"{what} is behind the file's end, at offset 0x{place:x}");
                    return;
                }

                counts[cluster]++;
                _last = Math.Max(_last, cluster + 1);
            }
        }

        internal void Leak(string text)
        {
            _leaks++;
            Say($"leaked: {text}");
        }

        internal void Corrupt(string text)
        {
            Corruptions++;
            Say($"ERROR: {text}");
        }

        internal ImageCheck Result() => new()
        {
            EndOffset = _last << clusterBits,
            TotalClusters = TotalClusters,
            AllocatedClusters = AllocatedClusters,
            CompressedClusters = CompressedClusters,
            FragmentedClusters = FragmentedClusters,
            Leaks = _leaks,
            Corruptions = Corruptions,
            Messages = _messages,
        };

        private void Say(string text)
        {
            if (_messages.Count < MaxMessages)
            {
                _messages.Add(text);
            }
        }
    }
}
