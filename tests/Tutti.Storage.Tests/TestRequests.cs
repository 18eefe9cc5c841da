using Tutti.Devices.Block;
using Tutti.Memory;

namespace Tutti.Storage.Tests;

/// <summary>Does requests on a disk one by one, and waits for each.</summary>
internal sealed class TestRequests(IBlockBackend disk) : IBlockCompletion
{
    private readonly ManualResetEventSlim _isEnded = new();
    private BlockStatus? _status;

    /// <summary>Calls of <see cref="IBlockCompletion.EndCompletions"/>.</summary>
    public int Batches { get; private set; }

    public BlockStatus Read(long offset, params MemorySegment[] segments) => Run(BlockOperation.Read, offset, segments.Sum(s => s.Length), segments);

    public BlockStatus Write(long offset, params MemorySegment[] segments) => Run(BlockOperation.Write, offset, segments.Sum(s => s.Length), segments);

    public BlockStatus Flush() => Run(BlockOperation.Flush, 0, 0, []);

    public BlockStatus Run(BlockOperation operation, long offset, long length, MemorySegment[] segments, bool mayUnmap = false)
    {
        BlockRequest request = new()
        {
            Owner = this,
            Operation = operation,
            Offset = offset,
            Length = length,
            Segments = segments,
            SegmentCount = segments.Length,
            MayUnmap = mayUnmap,
        };
        _status = null;
        _isEnded.Reset();
        disk.Submit(request);
        disk.Kick();
        Assert.True(_isEnded.Wait(TimeSpan.FromSeconds(30)), $"{operation} at {offset} does not end");
        return _status!.Value;
    }

    public void Complete(BlockRequest request, BlockStatus status) => _status = status;

    public void EndCompletions()
    {
        Batches++;
        _isEnded.Set();
    }
}
