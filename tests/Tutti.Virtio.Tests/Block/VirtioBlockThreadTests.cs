using System.Collections.Concurrent;
using Tutti.Devices.Block;
using static Tutti.Virtio.Block.VirtioBlockLayout;

namespace Tutti.Virtio.Tests.Block;

/// <summary>Completions come on other threads than requests, and resets in between.</summary>
public sealed class VirtioBlockThreadTests
{
    [Fact]
    public void Completions_on_other_threads_lose_no_request_and_survive_resets()
    {
        using ThreadedBackend disk = new();
        ManualWorker worker = new();
        Tutti.Virtio.Block.VirtioBlock device = new(disk, worker, "threads");
        TestDriver driver = new(device, BlockBench.AllFeatures, 64, VirtioFeatures.EventIdx);
        Random random = new(4);
        driver.Ram[(int)BlockBench.Header] = (byte)TypeIn;
        driver.Ram[(int)BlockBench.Header + RequestSector] = 1;
        for (int round = 0; round < 60; round++)
        {
            int posted = 0;
            int taken = 0;
            int wanted = random.Next(1, 300);
            DateTime deadline = DateTime.UtcNow.AddSeconds(30);
            while (taken < wanted)
            {
                for (; posted < wanted && posted - taken < 20; posted++)
                {
                    driver[0].Post(
                        new TestBuffer(BlockBench.Header, 16, false), new TestBuffer(BlockBench.Bytes, 512, true), new TestBuffer(BlockBench.Status, 1, true));
                }

                driver[0].Notify();
                worker.Run();
                taken += driver[0].TakeAll();
                Assert.True(DateTime.UtcNow < deadline, $"{taken} of {wanted} came back.");
                if (random.Next(100) == 0)
                {
                    break;
                }
            }

            driver.Reset();
            SpinWait.SpinUntil(() => device.Status == 0, TimeSpan.FromSeconds(30));
            Assert.Equal((0, 0), (device.Status, device.RequestsUnderWay));
            driver.Start(BlockBench.AllFeatures, 64, VirtioFeatures.EventIdx);
        }

        device.Dispose();
        Assert.Empty(disk.Failures);
    }

    /// <summary>Fills reads with their sector's number, on two threads.</summary>
    private sealed class ThreadedBackend : IBlockBackend, IDisposable
    {
        private readonly BlockingCollection<BlockRequest> _requests = [];
        private readonly Thread[] _threads;

        public ThreadedBackend()
        {
            _threads = [new Thread(Work), new Thread(Work)];
            Array.ForEach(_threads, thread => thread.Start());
        }

        public ConcurrentBag<Exception> Failures { get; } = [];

        public long Size => BlockBench.DiskSize;

        public bool IsReadOnly => false;

        public bool CanDiscard => true;

        public int DiscardGranularity => 4096;

        public int PhysicalBlockSize => 512;

        public void Submit(BlockRequest request) => _requests.Add(request);

        public void Kick()
        {
        }

        public void Dispose()
        {
            _requests.CompleteAdding();
            Array.ForEach(_threads, thread => thread.Join());
            _requests.Dispose();
        }

        private void Work()
        {
            try
            {
                foreach (BlockRequest request in _requests.GetConsumingEnumerable())
                {
                    request.Segments[0].Span.Fill((byte)(request.Offset >> 9));
                    request.Owner.Complete(request, BlockStatus.Ok);
                    request.Owner.EndCompletions();
                }
            }
            catch (Exception exception)
            {
                Failures.Add(exception);
            }
        }
    }
}
