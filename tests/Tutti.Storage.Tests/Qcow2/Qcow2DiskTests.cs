using Tutti.Devices.Block;

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

        // On the loop's thread, so that nobody else could end them.
        disk.Worker.Run(() =>
        {
            Assert.Equal(BlockStatus.Ok, requests.Write(Cluster + 4096, from.Part(0, 4096)));
            Assert.Equal(BlockStatus.Ok, requests.Read(Cluster, to.Segment));
        });
        Assert.True(to.Span[..4096].SequenceEqual(from.Span[..4096]));
        Assert.True(to.Span[4096..8192].SequenceEqual(from.Span[..4096]));
        Assert.True(to.Span[8192..].SequenceEqual(from.Span[8192..]));

        // From the file below, through two images, and from nowhere.
        disk.Worker.Run(() => Assert.Equal(BlockStatus.Ok, requests.Read(3 * Cluster, to.Part(0, 512))));
        Assert.True(to.Span[..512].IndexOfAnyExcept((byte)7) < 0);
        disk.Worker.Run(() => Assert.Equal(BlockStatus.Ok, requests.Read(9 * Cluster, to.Part(0, 512))));
        Assert.True(to.Span[..512].IndexOfAnyExcept((byte)0) < 0);
    }

    [Fact]
    public void Small_requests_in_steady_state_allocate_nothing()
    {
        using Disk disk = Open();
        using NativeBytes bytes = new(4096);
        TestRequests requests = new(disk.Backend);
        requests.Write(0, bytes.Segment);
        Steady traffic = new(disk.Backend, bytes);
        long allocated = 0;
        disk.Worker.Run(() =>
        {
            traffic.Run(500);
            long before = GC.GetAllocatedBytesForCurrentThread();
            traffic.Run(5000);
            allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        });
        Assert.Equal(5500, traffic.Ended);
        Assert.InRange(allocated, 0, 2 * 8192);
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

    private sealed class Steady : IBlockCompletion
    {
        private readonly IBlockBackend _disk;
        private readonly BlockRequest _request;

        public Steady(IBlockBackend disk, NativeBytes bytes)
        {
            _disk = disk;
            _request = new BlockRequest { Owner = this, Length = bytes.Segment.Length, Segments = [bytes.Segment], SegmentCount = 1 };
        }

        public int Ended { get; private set; }

        public void Run(int count)
        {
            for (int i = 0; i < count; i++)
            {
                _request.Operation = i % 2 == 0 ? BlockOperation.Write : BlockOperation.Read;
                _disk.Submit(_request);
                _disk.Kick();
            }
        }

        public void Complete(BlockRequest request, BlockStatus status) => Ended += status == BlockStatus.Ok ? 1 : 0;

        public void EndCompletions()
        {
        }
    }
}
