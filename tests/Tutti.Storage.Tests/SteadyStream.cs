using Tutti.Devices.Block;

namespace Tutti.Storage.Tests;

/// <summary>Keeps eight requests under way until enough have been, on the first 64 KiB.</summary>
internal sealed class SteadyStream : IBlockCompletion
{
    private readonly Disk _disk;
    private readonly BlockRequest[] _requests;
    private readonly Action _begin;
    private readonly ManualResetEventSlim _isDone = new();
    private long _allocated;
    private int _left;
    private int _open;
    private int _failures;

    private SteadyStream(Disk disk, NativeBytes bytes)
    {
        _disk = disk;
        _begin = Begin;
        _requests = [.. Enumerable.Range(0, 8).Select(i => new BlockRequest
        {
            Owner = this,
            Operation = i % 2 == 0 ? BlockOperation.Read : BlockOperation.Write,
            Offset = i * 8192,
            Length = 8192,
            Segments = [bytes.Part(0, 512), bytes.Part(512, 7680)],
            SegmentCount = 2,
        })];
    }

    public static void AssertAllocatesNothing(Disk disk, NativeBytes bytes)
    {
        SteadyStream stream = new(disk, bytes);
        stream.Run(1000);

        // The runtime gives a thread memory by 8 KiB, and what it allocates once for itself counts as much; a request's
        // smallest object would make 120,000 bytes.
        Assert.InRange(stream.Run(5000), 0, 2 * 8192);
    }

    /// <returns>Bytes that the disk's thread has allocated.</returns>
    private long Run(int count)
    {
        _left = count;
        _isDone.Reset();
        _disk.Worker.Post(_begin);
        Assert.True(_isDone.Wait(TimeSpan.FromSeconds(60)));
        Assert.Equal(0, _failures);
        return _allocated;
    }

    public void Complete(BlockRequest request, BlockStatus status)
    {
        _failures += status == BlockStatus.Ok ? 0 : 1;
        _open--;
        if (_left > 0)
        {
            Submit(request);
        }
        else if (_open == 0)
        {
            _allocated += GC.GetAllocatedBytesForCurrentThread();
            _isDone.Set();
        }
    }

    public void EndCompletions() => _disk.Backend.Kick();

    private void Begin()
    {
        _allocated = -GC.GetAllocatedBytesForCurrentThread();
        foreach (BlockRequest request in _requests)
        {
            Submit(request);
        }

        _disk.Backend.Kick();
    }

    private void Submit(BlockRequest request)
    {
        _left--;
        _open++;
        _disk.Backend.Submit(request);
    }
}
