using Tutti.Devices.Block;
using Tutti.Memory;

namespace Tutti.Virtio.Tests.Block;

/// <summary>A disk in an array. It checks that every request keeps the contract, and completes at once, when told, or on a thread of its own.</summary>
internal sealed class MemoryBlockBackend : IBlockBackend
{
    private readonly Lock _lock = new();
    private readonly BlockRequest[] _queued = new BlockRequest[4096];
    private int _queuedCount;

    public MemoryBlockBackend(int size) => Bytes = new byte[size];

    public byte[] Bytes { get; private set; }

    /// <summary>Requests wait for <see cref="CompleteAll"/>.</summary>
    public bool IsDeferring { get; set; }

    /// <summary>What the next requests end with.</summary>
    public BlockStatus Answer { get; set; }

    /// <summary>Operations in the order of their coming.</summary>
    public List<(BlockOperation Operation, long Offset, long Length, bool MayUnmap)>? Log { get; set; } = [];

    /// <summary>What to do when a batch of requests has come.</summary>
    public Action? OnKick { get; set; }

    public int Kicks { get; private set; }

    public int Waiting => _queuedCount;

    public long Size => Bytes.Length;

    public bool IsReadOnly { get; init; }

    public bool CanDiscard { get; init; } = true;

    public int DiscardGranularity { get; init; } = 65536;

    public int PhysicalBlockSize { get; init; } = 4096;

    public void Grow(int size)
    {
        byte[] bytes = new byte[size];
        Bytes.CopyTo(bytes, 0);
        Bytes = bytes;
    }

    public void Submit(BlockRequest request)
    {
        Check(request);
        lock (_lock)
        {
            Log?.Add((request.Operation, request.Offset, request.Length, request.MayUnmap));
            if (IsDeferring)
            {
                _queued[_queuedCount++] = request;
                return;
            }
        }

        Do(request);
    }

    public void Kick()
    {
        Kicks++;
        OnKick?.Invoke();
    }

    /// <summary>Ends what waits, the newest first.</summary>
    public int CompleteAll(int most = int.MaxValue)
    {
        int done = 0;
        IBlockCompletion? owner = null;
        while (done < most)
        {
            BlockRequest request;
            lock (_lock)
            {
                if (_queuedCount == 0)
                {
                    break;
                }

                request = _queued[--_queuedCount];
            }

            owner = request.Owner;
            Do(request);
            done++;
        }

        owner?.EndCompletions();
        return done;
    }

    private void Do(BlockRequest request)
    {
        if (Answer == BlockStatus.Ok)
        {
            Transfer(request);
        }

        request.Owner.Complete(request, Answer);
    }

    private void Transfer(BlockRequest request)
    {
        Span<byte> disk = Bytes.AsSpan((int)request.Offset, (int)request.Length);
        switch (request.Operation)
        {
            case BlockOperation.WriteZeroes:
                disk.Clear();
                break;
            case BlockOperation.Discard:
                disk.Fill(0xDD);
                break;
            case BlockOperation.Read or BlockOperation.Write:
                foreach (MemorySegment segment in request.Segments.AsSpan(0, request.SegmentCount))
                {
                    Span<byte> part = disk[..segment.Length];
                    if (request.Operation == BlockOperation.Read)
                    {
                        part.CopyTo(segment.Span);
                    }
                    else
                    {
                        segment.Span.CopyTo(part);
                    }

                    disk = disk[segment.Length..];
                }

                break;
        }
    }

    private void Check(BlockRequest request)
    {
        if (request.Operation == BlockOperation.Flush)
        {
            return;
        }

        Assert.True((request.Offset | request.Length) % 512 == 0 && request.Length > 0, $"{request.Operation} {request.Offset}+{request.Length}");
        Assert.True(request.Offset >= 0 && request.Length <= Size - request.Offset, $"{request.Operation} {request.Offset}+{request.Length} of {Size}");
        Assert.True(!IsReadOnly || request.Operation == BlockOperation.Read, "A write to a read-only disk.");
        if (request.Operation is BlockOperation.Read or BlockOperation.Write)
        {
            long sum = 0;
            foreach (MemorySegment segment in request.Segments.AsSpan(0, request.SegmentCount))
            {
                Assert.NotEqual(0, segment.Length);
                sum += segment.Length;
            }

            Assert.Equal(request.Length, sum);
        }
    }
}
