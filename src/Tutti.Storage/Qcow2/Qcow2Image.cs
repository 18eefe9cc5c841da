using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Tutti.Host;
using Tutti.Memory;
using Tutti.Storage.Files;

namespace Tutti.Storage.Qcow2;

/// <summary>
/// An opened qcow2 image, for calls that wait; safe from any thread. Reads, and writes to clusters that are there, go on side by side; what changes
/// the image's tables has it for itself. The order in which tables reach the file (counts and data, L2 tables, L1 table, only then what
/// was freed) leaves lost clusters behind after a crash, and no damage.
/// </summary>
internal sealed partial class Qcow2Image : IImageSource
{
    internal const ulong Copied = 1UL << 63;
    internal const ulong Compressed = 1UL << 62;
    internal const ulong Zero = 1;
    internal const ulong OffsetMask = 0x00FF_FFFF_FFFF_FE00;
    private const int MaxPendingFrees = 4096;
    private readonly BlockFile _file;
    private readonly IImageSource? _backing;
    private readonly ReaderWriterLockSlim _gate = new();
    private readonly Lock _tables = new();
    private readonly Qcow2TableCache _l2;
    private readonly Qcow2Refcounts _refcounts;
    private readonly Qcow2Compressed _compressed;
    private readonly List<long> _pendingFrees = [];
    private readonly HashSet<int> _dirtyL1 = [];
    private readonly byte[] _fill;
    private readonly byte[] _zeroes;
    private readonly IoOperation _fillOperation = new() { Owner = NoCompletion.Instance };
    private readonly int _clusterBits;
    private readonly int _clusterSize;
    private readonly int _l2Bits;
    private Qcow2Header _header;
    private ulong[] _l1;
    private bool _isCorrupt;

    /// <summary>The file is so long at least: it never becomes shorter.</summary>
    private long _knownEnd;

    private Qcow2Image(BlockFile file, Qcow2Header header, IImageSource? backing, long cacheBytes)
    {
        _file = file;
        _header = header;
        _backing = backing;
        _clusterBits = header.ClusterBits;
        _clusterSize = header.ClusterSize;
        _l2Bits = _clusterBits - 3;
        _isCorrupt = header.Incompatible.HasFlag(Qcow2Incompatible.Corrupt);
        _l2 = new Qcow2TableCache(file, _clusterSize, cacheBytes, WriteTables);
        _refcounts = new Qcow2Refcounts(file, header, cacheBytes, Damage);
        _compressed = new Qcow2Compressed(file, header);
        _fill = GC.AllocateArray<byte>(_clusterSize, pinned: true);
        _zeroes = GC.AllocateArray<byte>(_clusterSize, pinned: true);
        _l1 = ReadL1(header.L1Offset, header.L1Entries);
        // Only writes need to know where tables are: of a chain's images, that of the topmost.
        foreach (ulong entry in file.IsReadOnly ? [] : _l1)
        {
            if ((entry & OffsetMask) != 0)
            {
                _refcounts.Metadata.Add((long)(entry & OffsetMask));
            }
        }
    }

    public long Size => _header.Size;

    internal Qcow2Header Header => _header;

    internal bool IsReadOnly => _file.IsReadOnly || _isCorrupt;

    internal BlockFile File => _file;

    /// <summary>Opens an image and what it stands on. The file is its own from now on, also when this throws.</summary>
    /// <param name="file">The image.</param>
    /// <param name="scope">What it may stand on; null for files in its folder.</param>
    /// <param name="depth">Images above it.</param>
    /// <param name="opensBacking">Whether anything is read that it stands on.</param>
    /// <param name="cacheBytes">Bytes of tables that are kept, of each kind.</param>
    /// <exception cref="DiskException">It is damaged, wants what is not built, or its backing file is missing or not allowed.</exception>
    internal static Qcow2Image Open(BlockFile file, BackingScope? scope = null, int depth = 0, bool opensBacking = true, long cacheBytes = Qcow2TableCache.DefaultBytes)
    {
        IImageSource? backing = null;
        try
        {
            Qcow2Header header = Qcow2Header.Read(file);
            if (header.Incompatible.HasFlag(Qcow2Incompatible.ExtendedL2))
            {
                throw new DiskException($"disk '{file.Path}' has subclusters (extended_l2), which are not supported; convert it with 'qemu-img convert -O qcow2'");
            }

            scope ??= new BackingScope(BackingRule.OwnFolder, file.Path);
            scope.TakeTables(file.Path, header);
            backing = header.BackingFile == null || !opensBacking ? null : Qcow2Backing.Open(file, header, scope, depth + 1);
            Qcow2Image image = new(file, header, backing, cacheBytes);
            return image;
        }
        catch
        {
            backing?.Dispose();
            file.Dispose();
            throw;
        }
    }

    /// <summary>Refuses a file that ends before its tables do, such as a download that broke off: what is behind the end would read as zeroes.</summary>
    /// <exception cref="DiskException">It is such a file.</exception>
    internal void RefuseCut()
    {
        long length = _file.Length;
        if (_header.L1Offset + (_l1.Length * 8L) > length || _refcounts.TableOffset >= length || _l1.Any(entry => (long)(entry & OffsetMask) >= length))
        {
            throw new DiskException($"disk '{_file.Path}' is cut short: after its {length} bytes more must come; copy or download it again");
        }
    }

    /// <summary>Makes an image that is to be written ready for that.</summary>
    /// <exception cref="DiskException">Its reference counts can't be trusted, nor made anew.</exception>
    /// <exception cref="HostException">The storage fails.</exception>
    internal void BeginWriting()
    {
        if (IsReadOnly)
        {
            if (!_file.IsReadOnly)
            {
                _file.Notices.Report(_file.Path, "it is marked as damaged, so the guest can only read it; mend it with 'tutti disk check --repair'");
            }

            return;
        }

        if (_header.Incompatible.HasFlag(Qcow2Incompatible.Dirty))
        {
            ImageCheck left = Mend();
            if (left.Corruptions != 0)
            {
                throw new DiskException($"disk '{_file.Path}' was not closed properly, and is damaged ({left.Messages[0]}); add ro to read what is there, or try 'qemu-img check -r all' on a copy");
            }

            _file.Notices.Report(_file.Path, $"it was not closed properly; its reference counts were made anew ({left.LeaksFixed + left.CorruptionsFixed} were wrong)");
        }

        if (_header.Autoclear != 0)
        {
            // What depends on nobody else having written, such as bitmaps, holds no longer.
            Span<byte> none = stackalloc byte[8];
            none.Clear();
            _file.Write(none, 88);
        }
    }

    public void Read(ReadOnlySpan<MemorySegment> segments, long skip, long offset, long length, IoOperation scratch)
    {
        _gate.EnterReadLock();
        try
        {
            ReadHere(segments, skip, offset, length, scratch);
        }
        finally
        {
            _gate.ExitReadLock();
        }
    }

    internal void Write(ReadOnlySpan<MemorySegment> segments, long offset, long length, IoOperation scratch)
    {
        long done;
        _gate.EnterReadLock();
        try
        {
            done = WriteInPlace(segments, 0, offset, length, scratch);
        }
        finally
        {
            _gate.ExitReadLock();
        }

        if (done == length)
        {
            return;
        }

        _gate.EnterWriteLock();
        try
        {
            while (done < length)
            {
                done += WriteInPlace(segments, done, offset + done, length - done, scratch);
                if (done < length)
                {
                    done += WriteNew(segments, done, offset + done, length - done, scratch);
                }
            }
        }
        finally
        {
            _gate.ExitWriteLock();
        }
    }

    /// <summary>Brings all that was written to stable storage.</summary>
    internal void Flush()
    {
        _gate.EnterWriteLock();
        try
        {
            FlushHere();
        }
        finally
        {
            _gate.ExitWriteLock();
        }
    }

    public void Dispose()
    {
        _backing?.Dispose();
        _file.Dispose();
        _gate.Dispose();
    }

    /// <summary>Says that the image is damaged: it is marked so, where that is possible, and not written any more.</summary>
    [System.Diagnostics.CodeAnalysis.DoesNotReturn]
    private void Damage(string what)
    {
        _file.Notices.Report(_file.Path, $"the image is damaged ({what}); check it with 'tutti disk check'");
        if (!_file.IsReadOnly && !_isCorrupt && _header.Version >= 3)
        {
            _isCorrupt = true;
            Span<byte> features = stackalloc byte[8];
            BinaryPrimitives.WriteUInt64BigEndian(features, (ulong)(_header.Incompatible | Qcow2Incompatible.Corrupt));
            _file.Write(features, 72);
        }

        _isCorrupt = true;
        throw new HostException("qcow2", Errno.EIO);
    }

    private ulong[] ReadL1(long offset, int entries)
    {
        byte[] bytes = new byte[entries * 8];
        _file.Read(bytes, offset);
        ulong[] table = new ulong[entries];
        for (int i = 0; i < entries; i++)
        {
            table[i] = BinaryPrimitives.ReadUInt64BigEndian(bytes.AsSpan(i * 8));
        }

        return table;
    }

    /// <summary>What holds a run of bytes: all of one kind, and in one run in the file where they are there.</summary>
    private Run Map(long offset, long length)
    {
        lock (_tables)
        {
            long l1Index = offset >> (_clusterBits + _l2Bits);
            int index = (int)((offset >> _clusterBits) & ((1L << _l2Bits) - 1));
            long inCluster = offset & (_clusterSize - 1);
            long most = Math.Min(length, ((long)((1 << _l2Bits) - index) << _clusterBits) - inCluster);
            ulong l1 = l1Index < _l1.Length ? _l1[l1Index] : 0;
            if ((l1 & OffsetMask) == 0)
            {
                return new Run(RunKind.Absent, 0, 0, most, false);
            }

            byte[] table = _l2.Get(CheckTable(l1)).Bytes;
            ulong entry = Entry(table, index);
            RunKind kind = KindOf(entry);
            bool isCopied = (l1 & entry & Copied) != 0 && kind == RunKind.Data;
            long place = kind == RunKind.Data ? (long)(entry & OffsetMask) : 0;
            if (kind == RunKind.Data && (place & (_clusterSize - 1)) != 0)
            {
                Damage($"an L2 entry names the impossible offset 0x{place:x}");
            }

            long run = _clusterSize - inCluster;
            while (run < most && kind != RunKind.Compressed)
            {
                ulong next = Entry(table, ++index);
                if (KindOf(next) != kind || (kind == RunKind.Data && ((long)(next & OffsetMask) != place + inCluster + run || ((l1 & next & Copied) != 0) != isCopied)))
                {
                    break;
                }

                run += _clusterSize;
            }

            return new Run(kind, entry, place + inCluster, Math.Min(run, most), isCopied);
        }
    }

    private long CheckTable(ulong l1)
    {
        long offset = (long)(l1 & OffsetMask);
        if ((offset & (_clusterSize - 1)) != 0)
        {
            Damage($"an L1 entry names the impossible offset 0x{offset:x}");
        }

        long tableEnd = _refcounts.TableOffset + ((long)_refcounts.TableClusters << _clusterBits);
        if ((offset >= _header.L1Offset - _clusterSize + 1 && offset < _header.L1Offset + (_l1.Length * 8L)) || (offset >= _refcounts.TableOffset && offset < tableEnd))
        {
            Damage($"an L2 table at offset 0x{offset:x} is where other tables are");
        }

        return offset;
    }

    private RunKind KindOf(ulong entry) =>
        (entry & Compressed) != 0 ? RunKind.Compressed
        : _header.Version >= 3 && (entry & Zero) != 0 ? RunKind.Zero
        : (entry & OffsetMask) != 0 ? RunKind.Data
        : RunKind.Absent;

    private static ulong Entry(byte[] table, int index) => BinaryPrimitives.ReadUInt64BigEndian(table.AsSpan(index * 8));

    private void ReadHere(ReadOnlySpan<MemorySegment> segments, long skip, long offset, long length, IoOperation scratch)
    {
        while (length > 0)
        {
            Run run = Map(offset, length);
            switch (run.Kind)
            {
                case RunKind.Data:
                    CheckThere(run.Place);
                    Do(scratch, IoKind.Read, run.Place, segments, skip, run.Length);
                    break;
                case RunKind.Compressed:
                    _compressed.Read(run.Entry, (int)(offset & (_clusterSize - 1)), segments, skip, (int)run.Length);
                    break;
                case RunKind.Absent when _backing != null && offset < _backing.Size:
                    long there = Math.Min(run.Length, _backing.Size - offset);
                    _backing.Read(segments, skip, offset, there, scratch);
                    Segments.Clear(segments, skip + there, run.Length - there);
                    break;
                default:
                    Segments.Clear(segments, skip, run.Length);
                    break;
            }

            skip += run.Length;
            offset += run.Length;
            length -= run.Length;
        }
    }

    /// <summary>A file that was cut has no zeroes where it ends, but damage. A last cluster may be there in part.</summary>
    private void CheckThere(long place)
    {
        if (!IsThere(place))
        {
            lock (_tables)
            {
                Damage($"an L2 entry names offset 0x{place:x}, behind the file's end");
            }
        }
    }

    private bool IsThere(long place)
    {
        if (place >= Volatile.Read(ref _knownEnd))
        {
            Volatile.Write(ref _knownEnd, _file.Length);
        }

        return place < Volatile.Read(ref _knownEnd);
    }

    /// <summary>Writes as long as the clusters are there and the image's own.</summary>
    private long WriteInPlace(ReadOnlySpan<MemorySegment> segments, long skip, long offset, long length, IoOperation scratch)
    {
        long done = 0;
        while (done < length)
        {
            Run run = Map(offset + done, length - done);
            if (!run.IsCopied)
            {
                break;
            }

            CheckData(run.Place, run.Length);
            Do(scratch, IoKind.Write, run.Place, segments, skip + done, run.Length);
            done += run.Length;
        }

        return done;
    }

    /// <summary>No guest may write to what describes the image.</summary>
    private void CheckData(long place, long length)
    {
        lock (_tables)
        {
            bool isBad = _isCorrupt || place < _clusterSize || Overlaps(_header.L1Offset, _l1.Length * 8L)
                || Overlaps(_refcounts.TableOffset, (long)_refcounts.TableClusters << _clusterBits);
            for (long at = place & -_clusterSize; at < place + length && !isBad; at += _clusterSize)
            {
                isBad = _refcounts.Metadata.Contains(at);
            }

            if (isBad)
            {
                Damage($"the guest's data at offset 0x{place:x} is where its tables are");
            }
        }

        bool Overlaps(long start, long size) => place < start + size && start < place + length;
    }

    private void Do(IoOperation scratch, IoKind kind, long place, ReadOnlySpan<MemorySegment> segments, long skip, long length)
    {
        scratch.Set(kind, _file, place, segments, skip, length);
        scratch.RunHere();
        if (scratch.Error != 0)
        {
            _file.Notices.Report(_file.Path, kind == IoKind.Read ? "reading" : "writing", scratch.Error);
            throw new HostException(kind == IoKind.Read ? "preadv" : "pwritev", scratch.Error);
        }
    }

    private void FlushHere()
    {
        if (_file.IsReadOnly)
        {
            return;
        }

        if (_isCorrupt)
        {
            if (_l2.IsDirty || _dirtyL1.Count != 0)
            {
                // These tables stay out of a damaged file: what they name is not there after a flush, and the guest is told so.
                throw new HostException("qcow2", Errno.EIO);
            }

            _file.Flush();
            return;
        }

        lock (_tables)
        {
            WriteTables();
            _file.Flush();
            if (_pendingFrees.Count != 0)
            {
                ApplyFrees();
            }
        }
    }

    /// <summary>Each step rests on those before it, which are stable by then.</summary>
    private void WriteTables()
    {
        _refcounts.Write();
        if (_l2.IsDirty)
        {
            _file.Flush();
            _l2.Write();
        }

        if (_dirtyL1.Count != 0)
        {
            _file.Flush();
            Span<byte> entry = stackalloc byte[8];
            foreach (int index in _dirtyL1)
            {
                BinaryPrimitives.WriteUInt64BigEndian(entry, _l1[index]);
                _file.Write(entry, _header.L1Offset + (index * 8L));
            }

            _dirtyL1.Clear();
        }
    }

    /// <summary>Nothing in the file uses these clusters any more: now they may be used anew.</summary>
    private void ApplyFrees()
    {
        int done = 0;
        try
        {
            GiveBack(_pendingFrees.Where(cluster => TryFree(cluster, ref done)));
        }
        finally
        {
            // A full host may stop this half-way: what has been counted down must not be so twice.
            _pendingFrees.RemoveRange(0, done);
        }
    }

    private bool TryFree(long cluster, ref int done)
    {
        bool isFree = _refcounts.Drop(cluster);
        done++;
        if (isFree)
        {
            _l2.Forget(cluster << _clusterBits);
        }

        return isFree;
    }

    private void Punch(long start, long end)
    {
        if (end > start)
        {
            _ = _file.TryDiscard(start << _clusterBits, (end - start) << _clusterBits);
        }
    }

    private static MemorySegment Pinned(byte[] bytes, int start, int length) => new(Marshal.UnsafeAddrOfPinnedArrayElement(bytes, start), length);

    private enum RunKind
    {
        /// <summary>Not in this image.</summary>
        Absent,
        Zero,
        Data,
        Compressed,
    }

    private readonly record struct Run(RunKind Kind, ulong Entry, long Place, long Length, bool IsCopied);
}
