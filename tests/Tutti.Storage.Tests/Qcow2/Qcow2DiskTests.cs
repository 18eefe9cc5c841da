using Tutti.Devices.Block;
using Tutti.Memory;

namespace Tutti.Storage.Tests.Qcow2;

public sealed class Qcow2DiskTests : IDisposable
{
    private const int Cluster = 1 << 16;
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Small_requests_that_need_wait_for_nothing_end_while_they_are_submitted()
    {
        using Disk disk = Open();
        using NativeBytes from = new(Cluster);
        using NativeBytes to = new(Cluster);
        new Random(1).NextBytes(from.Span);
        TestRequests requests = new(disk.Backend);
        Assert.Equal(BlockStatus.Ok, requests.Write(Cluster, from.Segment));

        AssertAtOnce(disk, BlockOperation.Write, Cluster + 4096, from.Part(0, 4096));
        AssertAtOnce(disk, BlockOperation.Read, Cluster, to.Segment);
        Assert.True(to.Span[..4096].SequenceEqual(from.Span[..4096]));
        Assert.True(to.Span[4096..8192].SequenceEqual(from.Span[..4096]));
        Assert.True(to.Span[8192..].SequenceEqual(from.Span[8192..]));

        // From the file below, through two images, and from nowhere.
        AssertAtOnce(disk, BlockOperation.Read, 3 * Cluster, to.Part(0, 512));
        Assert.True(to.Span[..512].IndexOfAnyExcept((byte)7) < 0);
        AssertAtOnce(disk, BlockOperation.Read, 9 * Cluster, to.Part(0, 512));
        Assert.True(to.Span[..512].IndexOfAnyExcept((byte)0) < 0);
    }

    [Fact]
    public void Small_requests_in_steady_state_allocate_nothing()
    {
        using Disk disk = Open();
        using NativeBytes bytes = new(Cluster);
        Assert.Equal(BlockStatus.Ok, new TestRequests(disk.Backend).Write(0, bytes.Segment));
        SteadyStream.AssertAllocatesNothing(disk, bytes);
    }

    /// <summary>The request is over when the call that submits it returns; a busy host may want several tries, since what once took long is left to threads for a while.</summary>
    private static void AssertAtOnce(Disk disk, BlockOperation operation, long offset, MemorySegment segment)
    {
        for (int attempt = 0; attempt < 100; attempt++)
        {
            Once once = new();
            bool isAtOnce = false;
            disk.Worker.Run(() =>
            {
                disk.Backend.Submit(new BlockRequest { Owner = once, Operation = operation, Offset = offset, Length = segment.Length, Segments = [segment], SegmentCount = 1 });
                disk.Backend.Kick();
                isAtOnce = once.Ended.IsSet;
            });
            Assert.True(once.Ended.Wait(TimeSpan.FromSeconds(30)), "the request does not end");
            Assert.Equal(BlockStatus.Ok, once.Status);
            if (isAtOnce)
            {
                return;
            }

            Thread.Sleep(100);
        }

        Assert.Fail($"{operation} at {offset} is always left to another thread");
    }

    private Disk Open()
    {
        byte[] below = new byte[4 * Cluster];
        Array.Fill(below, (byte)7);
        _folder.File("base.raw", below);
        ImageFiles.Create(_folder.File("middle.qcow2"), ImageFormat.Qcow2, 1 << 20, "base.raw", ImageFormat.Raw);
        string path = _folder.File("top.qcow2");
        ImageFiles.Create(path, ImageFormat.Qcow2, 1 << 20, "middle.qcow2", ImageFormat.Qcow2);
        return Disk.Open(new DiskOptions { Path = path });
    }

    private sealed class Once : IBlockCompletion
    {
        public ManualResetEventSlim Ended { get; } = new();

        public BlockStatus Status { get; private set; }

        public void Complete(BlockRequest request, BlockStatus status)
        {
            Status = status;
            Ended.Set();
        }

        public void EndCompletions()
        {
        }
    }
}
