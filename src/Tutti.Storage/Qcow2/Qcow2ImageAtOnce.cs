using Tutti.Memory;
using Tutti.Storage.Files;

namespace Tutti.Storage.Qcow2;

/// <summary>Reads and writes that wait for nothing, so that the disk's own thread can do them; what they can't do is left to the calls that wait.</summary>
internal sealed partial class Qcow2Image
{
    public bool TryReadAtOnce(ReadOnlySpan<MemorySegment> segments, long skip, long offset, long length, IoOperation scratch)
    {
        if (!_gate.TryEnterReadLock(0))
        {
            return false;
        }

        try
        {
            for (long done = 0; done < length;)
            {
                if (!TryMapAtOnce(offset + done, length - done, isWrite: false, out Run run) || !TryReadRun(run, segments, skip + done, offset + done, scratch))
                {
                    return false;
                }

                done += run.Length;
            }

            return true;
        }
        finally
        {
            _gate.ExitReadLock();
        }
    }

    /// <summary>Writes to clusters that are there and the image's own.</summary>
    /// <returns>Whether all was written; else a part may have been.</returns>
    /// <exception cref="Host.HostException">The storage fails, or the image is damaged.</exception>
    internal bool TryWriteAtOnce(ReadOnlySpan<MemorySegment> segments, long offset, long length, IoOperation scratch)
    {
        if (!_gate.TryEnterReadLock(0))
        {
            return false;
        }

        try
        {
            for (long done = 0; done < length;)
            {
                if (!TryMapAtOnce(offset + done, length - done, isWrite: true, out Run run))
                {
                    return false;
                }

                Do(scratch, IoKind.Write, run.Place, segments, done, run.Length);
                done += run.Length;
            }

            return true;
        }
        finally
        {
            _gate.ExitReadLock();
        }
    }

    /// <summary>Finds a run whose table is in memory; one to be written must be there and the image's own.</summary>
    private bool TryMapAtOnce(long offset, long length, bool isWrite, out Run run)
    {
        run = default;
        // Another holds it while it reads a table.
        if (!_tables.TryEnter())
        {
            return false;
        }

        try
        {
            long index = offset >> (_clusterBits + _l2Bits);
            long table = index < _l1.Length ? (long)(_l1[index] & OffsetMask) : 0;
            if (table != 0 && !_l2.Has(table))
            {
                return false;
            }

            run = Map(offset, length);
            if (isWrite && run.IsCopied)
            {
                CheckData(run.Place, run.Length);
            }

            return !isWrite || run.IsCopied;
        }
        finally
        {
            _tables.Exit();
        }
    }

    private bool TryReadRun(Run run, ReadOnlySpan<MemorySegment> segments, long skip, long offset, IoOperation scratch)
    {
        switch (run.Kind)
        {
            case RunKind.Data:
                if (!IsThere(run.Place))
                {
                    return false;
                }

                scratch.Set(IoKind.Read, _file, run.Place, segments, skip, run.Length);
                return scratch.TryReadCached() && scratch.Error == 0;
            case RunKind.Compressed:
                return false;
            case RunKind.Absent when _backing != null && offset < _backing.Size:
                long there = Math.Min(run.Length, _backing.Size - offset);
                Segments.Clear(segments, skip + there, run.Length - there);
                return _backing.TryReadAtOnce(segments, skip, offset, there, scratch);
            default:
                Segments.Clear(segments, skip, run.Length);
                return true;
        }
    }
}
