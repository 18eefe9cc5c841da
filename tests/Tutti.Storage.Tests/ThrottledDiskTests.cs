using Tutti.Devices.Block;
using Tutti.Memory;

namespace Tutti.Storage.Tests;

/// <summary>The tests bring their own time: nothing here waits.</summary>
public sealed class ThrottledDiskTests
{
    private const long Second = 1_000_000_000;
    private readonly FakeDisk _inner = new();
    private readonly NoOwner _owner = new();
    private long _now = 1234;
    private long _deadline = long.MaxValue;

    [Fact]
    public void Bytes_pass_at_their_rate_after_the_burst()
    {
        ThrottledDisk disk = Make(new DiskLimits { BytesPerSecond = 1 << 20, BytesBurst = 1 << 20 });
        Submit(disk, BlockOperation.Write, 4096, 3 * 256);
        Assert.Equal(256, _inner.Count);
        Advance(disk, 2 * Second);
        Assert.InRange(_inner.Count, 3 * 256 - 1, 3 * 256);
    }

    [Fact]
    public void Operations_pass_at_their_rate_and_one_by_one()
    {
        ThrottledDisk disk = Make(new DiskLimits { OperationsPerSecond = 100, OperationsBurst = 1 });
        Submit(disk, BlockOperation.Read, 512, 1000);
        Assert.Equal(1, _inner.Count);
        Advance(disk, Second / 10);
        Assert.InRange(_inner.Count, 10, 11);
        Advance(disk, Second);
        Assert.InRange(_inner.Count, 110, 111);
        Assert.True(_inner.Kicks > 50);
    }

    [Fact]
    public void A_request_larger_than_the_burst_passes_and_is_paid_for()
    {
        ThrottledDisk disk = Make(new DiskLimits { BytesPerSecond = 1000, BytesBurst = 10 });
        Submit(disk, BlockOperation.Read, 10_000, 2);
        Assert.Equal(1, _inner.Count);
        Advance(disk, 9 * Second);
        Assert.Equal(1, _inner.Count);
        Advance(disk, Second);
        Assert.Equal(2, _inner.Count);
    }

    [Fact]
    public void Requests_keep_their_order()
    {
        ThrottledDisk disk = Make(new DiskLimits { OperationsPerSecond = 1000, OperationsBurst = 1 });
        for (int i = 0; i < 100; i++)
        {
            Submit(disk, i % 3 == 0 ? BlockOperation.Write : BlockOperation.Read, 512, 1, offset: i * 512L);
        }

        Advance(disk, Second);
        Assert.Equal(Enumerable.Range(0, 100).Select(i => i * 512L), _inner.Offsets);
    }

    [Fact]
    public void Writes_that_wait_for_their_own_limit_do_not_hold_reads_up()
    {
        ThrottledDisk disk = Make(new DiskLimits { WriteOperationsPerSecond = 1, OperationsBurst = 1 });
        Submit(disk, BlockOperation.Write, 512, 10);
        Submit(disk, BlockOperation.Read, 512, 100);
        Assert.Equal(101, _inner.Count);
        Advance(disk, 10 * Second);
        Assert.Equal(110, _inner.Count);
    }

    [Fact]
    public void Flushes_pass_at_once_and_discards_are_counted_but_not_by_their_bytes()
    {
        ThrottledDisk disk = Make(new DiskLimits { BytesPerSecond = 1000, BytesBurst = 1000, OperationsPerSecond = 10, OperationsBurst = 5 });
        Submit(disk, BlockOperation.Discard, 1 << 30, 6);
        Submit(disk, BlockOperation.Flush, 0, 1);
        Assert.Equal(6, _inner.Count);
        Advance(disk, Second);
        Assert.Equal(7, _inner.Count);
    }

    [Fact]
    public void A_pause_saves_no_more_than_the_burst()
    {
        ThrottledDisk disk = Make(new DiskLimits { OperationsPerSecond = 100, OperationsBurst = 7 });
        Advance(disk, 3600 * Second);
        Submit(disk, BlockOperation.Read, 512, 100);
        Assert.Equal(7, _inner.Count);
    }

    [Fact]
    public void Nothing_is_allocated_while_requests_wait_and_pass()
    {
        ThrottledDisk disk = Make(new DiskLimits { OperationsPerSecond = 1000, OperationsBurst = 1 });
        BlockRequest[] requests = [.. Enumerable.Range(0, 64).Select(_ => Request(BlockOperation.Read, 512, 0))];
        _inner.Remembers = false;
        Round();
        long before = GC.GetAllocatedBytesForCurrentThread();
        Round();
        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());

        void Round()
        {
            foreach (BlockRequest request in requests)
            {
                disk.Submit(request);
            }

            Advance(disk, Second);
        }
    }

    private ThrottledDisk Make(DiskLimits limits) => new(_inner, limits, () => _now, deadline => _deadline = deadline);

    private void Submit(ThrottledDisk disk, BlockOperation operation, long length, int count, long offset = 0)
    {
        for (int i = 0; i < count; i++)
        {
            disk.Submit(Request(operation, length, offset));
        }
    }

    private BlockRequest Request(BlockOperation operation, long length, long offset) =>
        new() { Owner = _owner, Operation = operation, Length = length, Offset = offset };

    /// <summary>Lets time pass, with the timer's calls at their times.</summary>
    private void Advance(ThrottledDisk disk, long nanoseconds)
    {
        long end = _now + nanoseconds;
        while (_deadline <= end)
        {
            _now = _deadline;
            _deadline = long.MaxValue;
            disk.OnTimer();
            Assert.True(_deadline > _now, "the timer is armed for the past");
        }

        _now = end;
    }

    private sealed class FakeDisk : IBlockBackend
    {
        public List<long> Offsets { get; } = [];

        public bool Remembers { get; set; } = true;

        public int Count { get; private set; }

        public int Kicks { get; private set; }

        public long Size => 1L << 40;

        public bool IsReadOnly => false;

        public bool CanDiscard => true;

        public int DiscardGranularity => 4096;

        public int PhysicalBlockSize => 4096;

        public void Submit(BlockRequest request)
        {
            Count++;
            if (Remembers)
            {
                Offsets.Add(request.Offset);
            }
        }

        public void Kick() => Kicks++;
    }

    private sealed class NoOwner : IBlockCompletion
    {
        public void Complete(BlockRequest request, BlockStatus status)
        {
        }

        public void EndCompletions()
        {
        }
    }
}
