using System.Buffers.Binary;
using Tutti.Host;
using Tutti.Memory;
using Tutti.Storage.Files;

namespace Tutti.Storage.Qcow2;

/// <summary>What changes an image's tables; the image is the caller's alone.</summary>
internal sealed partial class Qcow2Image
{
    /// <summary>Frees what is wholly in a range, and lets it read as zeroes where the image can say so.</summary>
    internal void Discard(long offset, long length)
    {
        _gate.EnterWriteLock();
        try
        {
            long start = (offset + _clusterSize - 1) & -_clusterSize;
            long end = offset + length == Size ? Size : (offset + length) & -_clusterSize;
            if (start < end && (_header.Version >= 3 || _backing == null))
            {
                Unmap(start, end);
            }
        }
        finally
        {
            _gate.ExitWriteLock();
        }
    }

    internal void WriteZeroes(long offset, long length, bool mayUnmap, IoOperation scratch)
    {
        _gate.EnterWriteLock();
        try
        {
            ZeroHere(offset, length, mayUnmap, scratch);
        }
        finally
        {
            _gate.ExitWriteLock();
        }
    }

    private void ZeroHere(long offset, long length, bool mayUnmap, IoOperation scratch)
    {
        bool canSay = _header.Version >= 3 || _backing == null;
        long end = offset + length;
        while (offset < end)
        {
            long inCluster = offset & (_clusterSize - 1);
            long whole = end == Size ? end - offset : (end - offset) & -_clusterSize;
            Run run = Map(offset, inCluster == 0 && whole > 0 ? whole : Math.Min(_clusterSize - inCluster, end - offset));
            bool isZero = run.Kind == RunKind.Zero || (run.Kind == RunKind.Absent && (_backing == null || offset >= _backing.Size));
            if (run.IsCopied && !(mayUnmap && canSay && inCluster == 0 && whole > 0))
            {
                CheckData(run.Place, run.Length);
                _file.WriteZeroes(run.Place, run.Length, mayUnmap);
            }
            else if (!isZero && canSay && inCluster == 0 && whole > 0)
            {
                Unmap(offset, offset + run.Length);
            }
            else if (!isZero)
            {
                long piece = Math.Min(run.Length, _clusterSize - inCluster);
                run = run with { Length = WriteNew([Pinned(_zeroes, 0, _clusterSize)], 0, offset, piece, scratch) };
            }

            offset += run.Length;
        }
    }

    /// <summary>Takes whole clusters (but for the image's last one) out of the image: they read as zeroes.</summary>
    private void Unmap(long start, long end)
    {
        lock (_tables)
        {
            for (long at = start; at < end; at += _clusterSize)
            {
                Run run = Map(at, end - at);
                bool showsBacking = _backing != null && at < _backing.Size;
                ulong entry = showsBacking ? Zero : 0;
                if (run.Kind == RunKind.Absent && !showsBacking)
                {
                    // As it is to be, up to the next one that is there.
                    at += ((run.Length + _clusterSize - 1) & -_clusterSize) - _clusterSize;
                    continue;
                }

                SetEntry(at, entry);
                if (_pendingFrees.Count >= MaxPendingFrees)
                {
                    FlushHere();
                }
            }
        }
    }

    /// <summary>Gives a guest cluster a new entry; what the old one used is freed once that is stable.</summary>
    private void SetEntry(long offset, ulong entry)
    {
        Qcow2TableCache.Table table = TableToWrite(offset);
        Span<byte> place = table.Bytes.AsSpan((int)((offset >> _clusterBits) & ((1L << _l2Bits) - 1)) * 8, 8);
        ulong old = BinaryPrimitives.ReadUInt64BigEndian(place);
        BinaryPrimitives.WriteUInt64BigEndian(place, entry);
        _l2.MarkDirty(table);
        FreeLater(old, entry);
    }

    private void FreeLater(ulong old, ulong replacement)
    {
        if ((old & Compressed) != 0)
        {
            (long place, int length) = _compressed.Locate(old);
            for (long cluster = place >> _clusterBits; cluster <= (place + length - 1) >> _clusterBits; cluster++)
            {
                _pendingFrees.Add(cluster);
            }
        }
        else if ((old & OffsetMask) != 0 && (old & OffsetMask) != (replacement & OffsetMask))
        {
            _pendingFrees.Add((long)(old & OffsetMask) >> _clusterBits);
        }
    }

    /// <summary>The L2 table of a guest cluster, the image's own: made, or copied from a snapshot's, when need be.</summary>
    private Qcow2TableCache.Table TableToWrite(long offset)
    {
        int index = (int)(offset >> (_clusterBits + _l2Bits));
        ulong l1 = _l1[index];
        if ((l1 & OffsetMask) != 0 && (l1 & Copied) != 0)
        {
            return _l2.Get(CheckTable(l1));
        }

        byte[]? old = (l1 & OffsetMask) == 0 ? null : [.. _l2.Get(CheckTable(l1)).Bytes];
        long place = _refcounts.Allocate(1).First << _clusterBits;
        Qcow2TableCache.Table table = _l2.MakeEmpty(place);
        if (old != null)
        {
            for (int at = 0; at < old.Length; at += 8)
            {
                ulong entry = BinaryPrimitives.ReadUInt64BigEndian(old.AsSpan(at));
                BinaryPrimitives.WriteUInt64BigEndian(table.Bytes.AsSpan(at), entry & ~Copied);
            }

            _refcounts.Metadata.Remove((long)(l1 & OffsetMask));
            _pendingFrees.Add((long)(l1 & OffsetMask) >> _clusterBits);
        }

        _l1[index] = (ulong)place | Copied;
        _dirtyL1.Add(index);
        _refcounts.Metadata.Add(place);
        return table;
    }

    /// <summary>Writes to clusters that are not there yet, or are shared: as many as fit in one free run.</summary>
    /// <returns>Bytes.</returns>
    private long WriteNew(ReadOnlySpan<MemorySegment> segments, long skip, long offset, long length, IoOperation scratch)
    {
        if (_isCorrupt)
        {
            throw new HostException("qcow2", Errno.EIO);
        }

        long inCluster = offset & (_clusterSize - 1);
        Run run = Map(offset, length);
        int wanted = (int)((inCluster + run.Length + _clusterSize - 1) >> _clusterBits);
        lock (_tables)
        {
            // Before anything is taken: an entry whose table can't be had would only cost clusters.
            TableToWrite(offset);
            (long first, int count) = _refcounts.Allocate(wanted);
            long place = first << _clusterBits;
            long bytes = Math.Min(run.Length, ((long)count << _clusterBits) - inCluster);
            try
            {
                CheckData(place, (long)count << _clusterBits);
                long start = offset - inCluster;
                long end = offset + bytes;
                long last = end & (_clusterSize - 1);
                Fill(start, inCluster, place);
                Do(scratch, IoKind.Write, place + inCluster, segments, skip, bytes);
                Fill(end, last == 0 ? 0 : _clusterSize - last, place + inCluster + bytes);
            }
            catch (HostException)
            {
                for (int i = 0; i < count && !_isCorrupt; i++)
                {
                    _refcounts.Drop(first + i);
                }

                throw;
            }

            for (int i = 0; i < count; i++)
            {
                SetEntry(offset - inCluster + ((long)i << _clusterBits), (ulong)(place + ((long)i << _clusterBits)) | Copied);
            }

            if (_pendingFrees.Count >= MaxPendingFrees)
            {
                FlushHere();
            }

            return bytes;
        }
    }

    /// <summary>The part of a new cluster that is not written now is as it was.</summary>
    private void Fill(long offset, long length, long place)
    {
        if (length == 0)
        {
            return;
        }

        Span<byte> bytes = _fill.AsSpan(0, (int)length);
        bytes.Clear();
        long there = Math.Min(length, Size - offset);
        if (there > 0)
        {
            ReadHere([Pinned(_fill, 0, (int)there)], 0, offset, there, _fillOperation);
        }

        _file.Write(bytes, place);
    }
}
