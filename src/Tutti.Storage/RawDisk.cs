using System.Runtime.InteropServices;
using Tutti.Devices.Block;
using Tutti.Host;
using Tutti.Memory;
using Tutti.Storage.Files;

namespace Tutti.Storage;

/// <summary>
/// A disk whose bytes are those of a file or block device of the host's. A file whose length is no multiple of 512 gives a disk of the next
/// multiple, whose last bytes read as zeroes, as in QEMU; the file grows when they are written.
/// </summary>
public sealed class RawDisk : IDiskImage, IIoCompletion
{
    private const int SectorSize = 512;
    private readonly BlockFile _file;
    private readonly IoQueue _queue;
    private readonly bool _guardsHeader;
    private readonly Lock _lock = new();
    private readonly List<IBlockCompletion> _owners = [];
    private readonly Action _onBatchEnd;
    private RawOperation? _free;

    /// <param name="file">The file, which the disk owns from now on.</param>
    /// <param name="queue">The queue, used by this disk alone, which somebody else disposes of, after the disk.</param>
    /// <param name="guardsHeader">Whether the guest is kept from writing what would let the file be taken for another format: see <see cref="ImageFormat.Probe"/>.</param>
    /// <exception cref="HostException">The file's length can't be read.</exception>
    public RawDisk(BlockFile file, IoQueue queue, bool guardsHeader = false)
    {
        ArgumentNullException.ThrowIfNull(file);
        ArgumentNullException.ThrowIfNull(queue);
        _file = file;
        _queue = queue;
        _guardsHeader = guardsHeader;
        Size = RoundUp(file.Length);
        _onBatchEnd = OnBatchEnd;
        queue.OnBatchEnd = _onBatchEnd;
    }

    public long Size { get; }

    public bool IsReadOnly => _file.IsReadOnly;

    public bool CanDiscard => !IsReadOnly && _file.CanPunchHoles;

    public int DiscardGranularity => Math.Max(SectorSize, _file.DiscardGranularity);

    public int PhysicalBlockSize => Math.Clamp(_file.PhysicalBlockSize, SectorSize, 4096);

    /// <summary>The disk's size for a file's length. What a file of nearly 2^63 bytes has behind its last whole sector is left out.</summary>
    internal static long RoundUp(long length) => (Math.Min(length, long.MaxValue - SectorSize + 1) + SectorSize - 1) & -SectorSize;

    public void Submit(BlockRequest request)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (IsReadOnly && request.Operation is not BlockOperation.Read and not BlockOperation.Flush)
        {
            End(request, BlockStatus.Unsupported);
            return;
        }

        // The owner has checked the range against the size; a mistake there must not reach another part of a block device, or let a file grow.
        bool isInRange = request.Offset >= 0 && request.Length >= 0 && request.Length <= Size && request.Offset <= Size - request.Length;
        if (request.Operation != BlockOperation.Flush && !isInRange)
        {
            End(request, BlockStatus.IoError);
            return;
        }

        RawOperation operation = Rent();
        operation.Request = request;
        operation.Offset = request.Offset;
        operation.Length = request.Length;
        operation.MayUnmap = request.MayUnmap;
        operation.Kind = request.Operation switch
        {
            BlockOperation.Read => IoKind.Read,
            BlockOperation.Write => IoKind.Write,
            BlockOperation.Flush => IoKind.Flush,
            BlockOperation.Discard => IoKind.Discard,
            _ => IoKind.WriteZeroes,
        };
        if (operation.Kind is IoKind.Read or IoKind.Write && !TrySetSegments(operation, request))
        {
            Return(operation);
            End(request, BlockStatus.IoError);
            return;
        }

        _queue.Submit(operation);
    }

    public void Kick() => _queue.Kick();

    void IIoCompletion.Complete(IoOperation operation)
    {
        RawOperation own = (RawOperation)operation;
        BlockRequest request = own.Request!;
        // A discard is a wish: where the host can't do it, nothing has changed, and that is all right.
        bool isOk = own.Error == 0 || (own.Kind == IoKind.Discard && own.Error is Errno.EOPNOTSUPP or Errno.EINVAL or Errno.ENOSYS or Errno.ENOTTY or Errno.ENODEV);
        Return(own);
        if (!_owners.Contains(request.Owner))
        {
            _owners.Add(request.Owner);
        }

        request.Owner.Complete(request, isOk ? BlockStatus.Ok : BlockStatus.IoError);
    }

    public void Dispose()
    {
        _queue.Drain();
        _file.Dispose();
    }

    private static void End(BlockRequest request, BlockStatus status)
    {
        request.Owner.Complete(request, status);
        request.Owner.EndCompletions();
    }

    private bool TrySetSegments(RawOperation operation, BlockRequest request)
    {
        ReadOnlySpan<MemorySegment> segments = request.Segments.AsSpan(0, request.SegmentCount);
        if (_guardsHeader && operation.Kind == IoKind.Write && request.Offset < SectorSize && request.Length > 0)
        {
            return operation.TrySetGuardedSegments(segments, request.Length);
        }

        operation.SetSegments(segments);
        return operation.Length == request.Length;
    }

    private void OnBatchEnd()
    {
        // By index: an owner may submit and complete more meanwhile, whose batch end comes later.
        for (int i = 0; i < _owners.Count; i++)
        {
            _owners[i].EndCompletions();
        }

        _owners.Clear();
    }

    private RawOperation Rent()
    {
        lock (_lock)
        {
            RawOperation? operation = _free;
            if (operation != null)
            {
                _free = operation.NextFree;
                operation.NextFree = null;
                return operation;
            }
        }

        return new RawOperation { Owner = this, File = _file };
    }

    private void Return(RawOperation operation)
    {
        operation.Request = null;
        lock (_lock)
        {
            operation.NextFree = _free;
            _free = operation;
        }
    }

    private sealed class RawOperation : IoOperation
    {
        private byte[]? _firstSector;
        private MemorySegment[] _guarded = [];

        internal BlockRequest? Request { get; set; }

        internal RawOperation? NextFree { get; set; }

        /// <summary>Takes the first sector's bytes once, since the guest may change them at any time, and looks at what is then written.</summary>
        internal bool TrySetGuardedSegments(ReadOnlySpan<MemorySegment> segments, long length)
        {
            _firstSector ??= GC.AllocateUninitializedArray<byte>(SectorSize, pinned: true);
            SetSegments(segments);
            if (Length != length || length < SectorSize)
            {
                return false;
            }

            if (_guarded.Length <= segments.Length)
            {
                _guarded = new MemorySegment[segments.Length + 1];
            }

            int count = 1;
            int copied = 0;
            foreach (MemorySegment segment in segments)
            {
                int take = Math.Min(SectorSize - copied, segment.Length);
                segment.Span[..take].CopyTo(_firstSector.AsSpan(copied));
                copied += take;
                if (take < segment.Length)
                {
                    _guarded[count++] = segment.Slice(take, segment.Length - take);
                }
            }

            if (ImageFormat.IsOtherThanRaw(_firstSector))
            {
                return false;
            }

            _guarded[0] = new MemorySegment(Marshal.UnsafeAddrOfPinnedArrayElement(_firstSector, 0), SectorSize);
            SetSegments(_guarded.AsSpan(0, count));
            return true;
        }
    }
}
