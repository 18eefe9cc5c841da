using System.Buffers.Binary;
using Tutti.Storage.Files;

namespace Tutti.Storage.Qcow2;

/// <summary>
/// An image's reference counts: a table of blocks, each a cluster of counts. Its image's lock is held. New blocks are written before
/// the table names them, a new table before the header does.
/// </summary>
internal sealed class Qcow2Refcounts
{
    private const ulong OffsetMask = 0xFFFF_FFFF_FFFF_FE00;
    private readonly BlockFile _file;
    private readonly Qcow2Header _header;
    private readonly Qcow2TableCache _blocks;
    private readonly Action<string> _onDamage;
    private readonly int _bits;
    private readonly int _countsPerBlock;
    private readonly ulong _max;
    private ulong[] _table;
    private bool _isTableDirty;
    private bool _isTableMoved;
    private long _firstFree;

    internal Qcow2Refcounts(BlockFile file, Qcow2Header header, long cacheBytes, Action<string> onDamage)
    {
        _file = file;
        _header = header;
        _onDamage = onDamage;
        _bits = header.RefcountBits;
        _countsPerBlock = header.ClusterSize * 8 / _bits;
        _max = _bits == 64 ? long.MaxValue : (1UL << _bits) - 1;
        _blocks = new Qcow2TableCache(file, header.ClusterSize, cacheBytes, Write);
        TableOffset = header.RefcountTableOffset;
        TableClusters = header.RefcountTableClusters;
        byte[] bytes = new byte[(long)TableClusters * header.ClusterSize];
        file.Read(bytes, TableOffset);
        _table = new ulong[bytes.Length / 8];
        for (int i = 0; i < _table.Length; i++)
        {
            ulong entry = BinaryPrimitives.ReadUInt64BigEndian(bytes.AsSpan(i * 8));
            _table[i] = entry;
            if (IsBlock(entry) && !file.IsReadOnly)
            {
                Metadata.Add((long)entry);
            }
        }
    }

    internal long TableOffset { get; private set; }

    internal int TableClusters { get; private set; }

    /// <summary>Offsets of the clusters that are metadata: refcount blocks, and L2 tables of the active image.</summary>
    internal HashSet<long> Metadata { get; } = [];

    /// <summary>What is in use whatever the counts say, while these are being rebuilt.</summary>
    internal Func<long, bool>? IsReserved { get; set; }

    /// <summary>A cluster that only <see cref="IsReserved"/> needs to hear of has come into use.</summary>
    internal Action<long>? OnTaken { get; set; }

    internal ReadOnlySpan<ulong> Table => _table;

    internal bool IsBlock(ulong entry) => entry != 0 && entry <= long.MaxValue && (entry & (ulong)(_header.ClusterSize - 1)) == 0;

    internal ulong Max => _max;

    /// <summary>Whether a block that is there counts anything.</summary>
    internal bool HasCounts(long block) => _blocks.Get(block).Bytes.AsSpan().ContainsAnyExcept((byte)0);

    internal ulong Get(long cluster)
    {
        long index = cluster / _countsPerBlock;
        if (index >= _table.Length || _table[index] == 0)
        {
            return 0;
        }

        return Read(Block(index).Bytes, (int)(cluster % _countsPerBlock));
    }

    internal void Set(long cluster, ulong count)
    {
        long index = cluster / _countsPerBlock;
        EnsureBlock(index, cluster);
        Qcow2TableCache.Table block = Block(index);
        Write(block.Bytes, (int)(cluster % _countsPerBlock), count);
        _blocks.MarkDirty(block);
        if (count == 0)
        {
            _firstFree = Math.Min(_firstFree, cluster);
        }
    }

    /// <summary>Forgets blocks that can't be there: what they should count counts as free until it is set.</summary>
    internal void DropBlocks(Func<ulong, bool> isWrong)
    {
        for (int i = 0; i < _table.Length; i++)
        {
            if (_table[i] != 0 && isWrong(_table[i]))
            {
                Metadata.Remove((long)_table[i]);
                _table[i] = 0;
                _isTableDirty = true;
            }
        }
    }

    /// <summary>One user less. A count of 0 already is damage.</summary>
    /// <returns>Whether the cluster is free now.</returns>
    internal bool Drop(long cluster)
    {
        ulong count = Get(cluster);
        if (count == 0)
        {
            _onDamage($"a cluster in use at offset {cluster * _header.ClusterSize} has no references");
            return false;
        }

        Set(cluster, count - 1);
        if (count == 1)
        {
            _blocks.Forget(cluster * _header.ClusterSize);
        }

        return count == 1;
    }

    /// <summary>Takes clusters in one run, with one reference each.</summary>
    /// <param name="wanted">At most.</param>
    /// <param name="isWhole">Whether fewer are of no use.</param>
    /// <returns>The first one's number, and how many.</returns>
    internal (long First, int Count) Allocate(int wanted, bool isWhole = false)
    {
        while (true)
        {
            (long first, int count) = Find(wanted, isWhole);
            long taken = 0;
            // A block that a count needs may take a cluster of the run itself: look again then.
            for (int i = 0; i < count; i++)
            {
                if (EnsureBlock((first + i) / _countsPerBlock, first + i))
                {
                    taken++;
                }
            }

            if (taken != 0)
            {
                continue;
            }

            for (int i = 0; i < count; i++)
            {
                Set(first + i, 1);
                OnTaken?.Invoke(first + i);
            }

            if (!isWhole)
            {
                _firstFree = first + count;
            }

            return (first, count);
        }
    }

    /// <summary>Brings the counts into the file, in an order that no crash harms; they are stable only after a flush.</summary>
    internal void Write()
    {
        _blocks.Write();
        if (!_isTableDirty)
        {
            return;
        }

        _file.Flush();
        byte[] bytes = new byte[_table.Length * 8];
        for (int i = 0; i < _table.Length; i++)
        {
            BinaryPrimitives.WriteUInt64BigEndian(bytes.AsSpan(i * 8), _table[i]);
        }

        _file.Write(bytes, TableOffset);
        _isTableDirty = false;
        if (_isTableMoved)
        {
            _file.Flush();
            Span<byte> place = stackalloc byte[12];
            BinaryPrimitives.WriteInt64BigEndian(place, TableOffset);
            BinaryPrimitives.WriteInt32BigEndian(place[8..], TableClusters);
            _file.Write(place, 48);
            _file.Flush();
            _isTableMoved = false;
        }
    }

    internal bool IsDirty => _blocks.IsDirty || _isTableDirty;

    private (long First, int Count) Find(int wanted, bool isWhole)
    {
        long first = -1;
        for (long cluster = _firstFree; ; cluster++)
        {
            bool isFree = Get(cluster) == 0 && IsReserved?.Invoke(cluster) != true;
            if (isFree && IsMetadata(cluster))
            {
                _onDamage($"metadata at offset {cluster * _header.ClusterSize} has no references");
            }

            if (isFree)
            {
                first = first < 0 ? cluster : first;
                if (cluster - first + 1 == wanted)
                {
                    return (first, wanted);
                }
            }
            else if (first >= 0)
            {
                if (!isWhole)
                {
                    return (first, (int)(cluster - first));
                }

                first = -1;
            }
        }
    }

    private bool IsMetadata(long cluster)
    {
        long offset = cluster * _header.ClusterSize;
        return cluster == 0 || Metadata.Contains(offset) || (offset >= TableOffset && offset < TableOffset + ((long)TableClusters * _header.ClusterSize));
    }

    private Qcow2TableCache.Table Block(long index)
    {
        ulong entry = _table[index];
        if (!IsBlock(entry))
        {
            _onDamage($"its refcount table names the impossible offset 0x{entry & OffsetMask:x}");
        }

        return _blocks.Get((long)entry);
    }

    /// <returns>Whether a block was made, which took a free cluster.</returns>
    private bool EnsureBlock(long index, long near)
    {
        if (index >= _table.Length)
        {
            Grow(index);
            EnsureBlock(index, near);
            return true;
        }

        if (_table[index] != 0)
        {
            return false;
        }

        // The first free cluster of those that the block counts itself: it needs no other block.
        long end = (index + 1) * _countsPerBlock;
        long place = index * _countsPerBlock;
        while (place < end && (IsReserved?.Invoke(place) == true || IsMetadata(place)))
        {
            place++;
        }

        if (place == end)
        {
            // All of them are in use without being counted: only a rebuild meets that.
            place = Allocate(1).First;
        }

        long offset = place * _header.ClusterSize;
        _blocks.MakeEmpty(offset);
        _table[index] = (ulong)offset;
        Metadata.Add(offset);
        _isTableDirty = true;
        if (place / _countsPerBlock == index)
        {
            Set(place, 1);
            OnTaken?.Invoke(place);
        }

        return true;
    }

    private void Grow(long index)
    {
        long oldOffset = TableOffset;
        int oldClusters = TableClusters;
        long bytes = Math.Max((index + 1) * 8, _table.Length * 8L * 3 / 2);
        long clusters = (bytes + _header.ClusterSize - 1) / _header.ClusterSize;
        if (clusters * _header.ClusterSize > Qcow2Header.MaxRefcountTableBytes)
        {
            throw new Host.HostException("qcow2 refcount table", Host.Errno.EFBIG);
        }

        Array.Resize(ref _table, (int)(clusters * _header.ClusterSize / 8));
        long place = Allocate((int)clusters, isWhole: true).First;
        TableOffset = place * _header.ClusterSize;
        TableClusters = (int)clusters;
        _isTableDirty = true;
        _isTableMoved = true;
        Write();
        // While counts are being rebuilt, the old table's may not be right yet: it is found as lost later.
        for (int i = 0; i < oldClusters && IsReserved == null; i++)
        {
            Drop((oldOffset / _header.ClusterSize) + i);
        }
    }

    private ulong Read(byte[] block, int index) => _bits switch
    {
        8 => block[index],
        16 => BinaryPrimitives.ReadUInt16BigEndian(block.AsSpan(index * 2)),
        32 => BinaryPrimitives.ReadUInt32BigEndian(block.AsSpan(index * 4)),
        64 => BinaryPrimitives.ReadUInt64BigEndian(block.AsSpan(index * 8)),
        _ => (uint)(block[index * _bits / 8] >> (index * _bits % 8)) & _max,
    };

    private void Write(byte[] block, int index, ulong count)
    {
        switch (_bits)
        {
            case 8:
                block[index] = (byte)count;
                break;
            case 16:
                BinaryPrimitives.WriteUInt16BigEndian(block.AsSpan(index * 2), (ushort)count);
                break;
            case 32:
                BinaryPrimitives.WriteUInt32BigEndian(block.AsSpan(index * 4), (uint)count);
                break;
            case 64:
                BinaryPrimitives.WriteUInt64BigEndian(block.AsSpan(index * 8), count);
                break;
            default:
                int shift = index * _bits % 8;
                ref byte place = ref block[index * _bits / 8];
                place = (byte)((place & ~((int)_max << shift)) | ((int)count << shift));
                break;
        }
    }
}
