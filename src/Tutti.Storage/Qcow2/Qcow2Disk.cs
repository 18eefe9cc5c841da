using Tutti.Devices.Block;
using Tutti.Host;
using Tutti.Storage.Files;

namespace Tutti.Storage.Qcow2;

/// <summary>
/// A disk in a qcow2 image. Small reads and writes that need wait for nothing are done on the loop's thread; all others by the queue's threads. In
/// steady state nothing is allocated.
/// </summary>
internal sealed class Qcow2Disk : IDiskImage, IIoCompletion
{
    private readonly Qcow2Image _image;
    private readonly IoQueue _queue;
    private readonly Lock _lock = new();
    private readonly List<IBlockCompletion> _owners = [];
    private Qcow2Operation? _free;

    /// <param name="image">The image, which the disk owns from now on.</param>
    /// <param name="queue">The queue, used by this disk alone, which somebody else disposes of, after the disk.</param>
    internal Qcow2Disk(Qcow2Image image, IoQueue queue)
    {
        _image = image;
        _queue = queue;
        IsReadOnly = image.IsReadOnly;
        queue.OnBatchEnd = OnBatchEnd;
    }

    public long Size => _image.Size;

    public bool IsReadOnly { get; }

    public bool CanDiscard => !IsReadOnly;

    public int DiscardGranularity => _image.Header.ClusterSize;

    public int PhysicalBlockSize => Math.Clamp(_image.File.PhysicalBlockSize, 512, 4096);

    public void Submit(BlockRequest request)
    {
        ArgumentNullException.ThrowIfNull(request);
        BlockOperation operation = request.Operation;
        BlockStatus? early = IsReadOnly && operation is not BlockOperation.Read and not BlockOperation.Flush ? BlockStatus.Unsupported
            : operation != BlockOperation.Flush && !IsInRange(request) ? BlockStatus.IoError
            : null;
        if (early is BlockStatus status)
        {
            request.Owner.Complete(request, status);
            request.Owner.EndCompletions();
            return;
        }

        Qcow2Operation own = Rent();
        own.Request = request;
        _queue.Submit(own);
    }

    public void Kick() => _queue.Kick();

    void IIoCompletion.Complete(IoOperation operation)
    {
        Qcow2Operation own = (Qcow2Operation)operation;
        BlockRequest request = own.Request!;
        BlockStatus status = own.Error == 0 ? BlockStatus.Ok : BlockStatus.IoError;
        Return(own);
        if (!_owners.Contains(request.Owner))
        {
            _owners.Add(request.Owner);
        }

        request.Owner.Complete(request, status);
    }

    public void Dispose()
    {
        _queue.Drain();
        try
        {
            // The second time for what the first one freed.
            _image.Flush();
            _image.Flush();
        }
        catch (HostException e)
        {
            _image.File.Notices.Report(_image.File.Path, "writing", e.Errno);
        }

        _image.Dispose();
    }

    private bool IsInRange(BlockRequest request)
    {
        long sum = 0;
        for (int i = 0; i < request.SegmentCount; i++)
        {
            sum += request.Segments[i].Length;
        }

        bool hasBytes = request.Operation is not BlockOperation.Read and not BlockOperation.Write || sum == request.Length;
        return hasBytes && request.Offset >= 0 && request.Length >= 0 && request.Length <= Size && request.Offset <= Size - request.Length;
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

    private Qcow2Operation Rent()
    {
        lock (_lock)
        {
            Qcow2Operation? operation = _free;
            if (operation != null)
            {
                _free = operation.NextFree;
                operation.NextFree = null;
                return operation;
            }
        }

        return new Qcow2Operation(_image) { Owner = this };
    }

    private void Return(Qcow2Operation operation)
    {
        operation.Request = null;
        lock (_lock)
        {
            operation.NextFree = _free;
            _free = operation;
        }
    }

    private sealed class Qcow2Operation : IoOperation
    {
        private readonly Qcow2Image _image;
        private readonly IoOperation _scratch = new() { Owner = NoCompletion.Instance };

        internal Qcow2Operation(Qcow2Image image)
        {
            _image = image;
            Kind = IoKind.Work;
            Work = Run;
            AtOnce = TryAtOnce;
        }

        internal BlockRequest? Request { get; set; }

        internal Qcow2Operation? NextFree { get; set; }

        private bool TryAtOnce()
        {
            BlockRequest request = Request!;
            if (request.Length > IoQueue.SmallTransfer)
            {
                return false;
            }

            ReadOnlySpan<Memory.MemorySegment> segments = request.Segments.AsSpan(0, request.SegmentCount);
            return request.Operation switch
            {
                BlockOperation.Read => _image.TryReadAtOnce(segments, 0, request.Offset, request.Length, _scratch),
                BlockOperation.Write => _image.TryWriteAtOnce(segments, request.Offset, request.Length, _scratch),
                _ => false,
            };
        }

        private int Run()
        {
            BlockRequest request = Request!;
            ReadOnlySpan<Memory.MemorySegment> segments = request.Segments.AsSpan(0, request.SegmentCount);
            switch (request.Operation)
            {
                case BlockOperation.Read:
                    _image.Read(segments, 0, request.Offset, request.Length, _scratch);
                    break;
                case BlockOperation.Write:
                    _image.Write(segments, request.Offset, request.Length, _scratch);
                    break;
                case BlockOperation.Flush:
                    _image.Flush();
                    break;
                case BlockOperation.Discard:
                    _image.Discard(request.Offset, request.Length);
                    break;
                case BlockOperation.WriteZeroes:
                    _image.WriteZeroes(request.Offset, request.Length, request.MayUnmap, _scratch);
                    break;
            }

            return 0;
        }
    }
}
