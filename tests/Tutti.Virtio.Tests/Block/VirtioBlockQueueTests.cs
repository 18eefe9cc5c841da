using static Tutti.Virtio.Block.VirtioBlockLayout;

namespace Tutti.Virtio.Tests.Block;

/// <summary>Requests that take their time: batches, resets, saved states, several queues.</summary>
public sealed class VirtioBlockQueueTests
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_batch_is_one_kick_and_one_interrupt(bool isDeferring)
    {
        BlockBench bench = new(queueSize: 64);
        bench.Disk.IsDeferring = isDeferring;
        for (int i = 0; i < 8; i++)
        {
            bench.Post(TypeIn, (ulong)i, 512);
        }

        bench.Worker.Run();
        Assert.Equal(1, bench.Disk.Kicks);
        Assert.Equal(isDeferring ? 8 : 0, bench.Device.RequestsUnderWay);
        Assert.Equal(isDeferring ? 8 : 0, bench.Disk.CompleteAll());
        Assert.Equal(1, bench.Driver.Signals[0]);
        Assert.Equal(8, bench.Ring.TakeAll());
    }

    [Fact]
    public void With_event_idx_the_guest_is_interrupted_when_it_wants_to_be()
    {
        BlockBench bench = new(queueSize: 64, ringFeatures: VirtioFeatures.EventIdx);
        bench.Disk.IsDeferring = true;
        for (int i = 0; i < 8; i++)
        {
            bench.Post(TypeIn, (ulong)i, 512);
        }

        bench.Ring.UsedEvent = 5;
        bench.Worker.Run();
        bench.Disk.CompleteAll(5);
        Assert.Equal(0, bench.Driver.Signals[0]);
        bench.Disk.CompleteAll(1);
        Assert.Equal(1, bench.Driver.Signals[0]);
        bench.Disk.CompleteAll();
        Assert.Equal(1, bench.Driver.Signals[0]);
        Assert.Equal(8, bench.Ring.AvailEvent);
    }

    [Fact]
    public void Requests_may_end_in_any_order()
    {
        BlockBench bench = new();
        bench.Disk.IsDeferring = true;
        bench.Post(TypeIn, 0, 512);
        bench.Post(TypeIn, 1, 512);
        bench.Worker.Run();
        bench.Disk.CompleteAll();
        Assert.True(bench.Ring.TryTake(out int first, out int written));
        Assert.True(bench.Ring.TryTake(out int second, out _));
        Assert.Equal((3, 0, 513), (first, second, written));
    }

    [Fact]
    public void Each_queue_has_its_own_requests_and_interrupt()
    {
        BlockBench bench = new(queues: 3);
        bench.WriteHeader(TypeIn, 0);
        bench.Driver[2].Post(
            new TestBuffer(BlockBench.Header, 16, false), new TestBuffer(BlockBench.Bytes, 512, true), new TestBuffer(BlockBench.Status, 1, true));
        bench.Driver[2].Notify();
        bench.Worker.Run();
        Assert.Equal([0, 0, 1], bench.Driver.Signals);
        Assert.Equal(1, bench.Driver[2].TakeAll());
        Assert.Equal(0, bench.Driver[0].TakeAll());
    }

    [Fact]
    public void A_reset_waits_for_what_is_under_way_and_shows_the_driver_none_of_it()
    {
        BlockBench bench = new();
        bench.Disk.IsDeferring = true;
        bench.Post(TypeIn, 0, 512);
        bench.Post(TypeIn, 1, 512);
        bench.Worker.Run();
        bench.Driver.Reset();
        Assert.NotEqual(0, bench.Device.Status);
        bench.Disk.CompleteAll(1);
        Assert.NotEqual(0, bench.Device.Status);
        bench.Disk.CompleteAll();
        Assert.Equal(0, bench.Device.Status);
        Assert.Equal(0, bench.Ring.TakeAll());
        Assert.Equal(0, bench.Driver.Signals[0]);

        bench.Disk.IsDeferring = false;
        bench.Driver.Start(BlockBench.AllFeatures, 16, 0);
        Assert.Equal(StatusOk, bench.Do(TypeIn, 0, 512));
    }

    [Fact]
    public void A_write_that_is_to_be_flushed_is_finished_even_in_a_reset()
    {
        BlockBench bench = new();
        bench.Device.WriteDeviceConfig(Writeback, [0]);
        bench.Disk.IsDeferring = true;
        bench.Post(TypeOut, 0, 512);
        bench.Worker.Run();
        bench.Driver.Reset();
        Assert.Equal(1, bench.Disk.CompleteAll(1));
        Assert.Equal(2, bench.Disk.Kicks);
        Assert.NotEqual(0, bench.Device.Status);
        Assert.Equal(1, bench.Disk.CompleteAll());
        Assert.Equal(0, bench.Device.Status);
    }

    [Fact]
    public async Task Disposal_waits_for_what_is_under_way()
    {
        BlockBench bench = new();
        bench.Disk.IsDeferring = true;
        bench.Post(TypeIn, 0, 512);
        bench.Worker.Run();
        Task disposal = Task.Run(bench.Device.Dispose);
        await Task.Delay(50);
        Assert.False(disposal.IsCompleted);
        bench.Disk.CompleteAll();
        await disposal.WaitAsync(TimeSpan.FromSeconds(20));
        Assert.Equal(0, bench.Worker.Open);
    }

    [Fact]
    public void A_restored_device_does_again_what_was_under_way()
    {
        BlockBench bench = new();
        bench.Device.WriteDeviceConfig(Writeback, [0]);
        bench.Disk.IsDeferring = true;
        bench.Post(TypeIn, 0, 512);
        bench.Post(TypeIn, 9, 512);
        bench.Worker.Run();
        VirtioDeviceState state = bench.Device.Save();

        // The old device goes before the new one comes: both have the same memory.
        bench.Driver.Reset();
        bench.Disk.CompleteAll();
        bench.Ram(BlockBench.Bytes, 512).Clear();
        MemoryBlockBackend disk = new(BlockBench.DiskSize);
        bench.Disk.Bytes.CopyTo(disk.Bytes, 0);
        Tutti.Virtio.Block.VirtioBlock copy = new(disk, bench.Worker, "disk-7");
        copy.Attach(bench.Driver.Memory, bench.Driver);
        copy.Restore(state);
        bench.Worker.Run();
        Assert.Equal(2, disk.Log!.Count);
        Assert.Equal(2, bench.Ring.TakeAll());
        Assert.True(bench.Driver.Signals[0] > 0);
        byte[] config = new byte[ConfigSize];
        copy.ReadDeviceConfig(0, config);
        Assert.Equal(0, config[Writeback]);
    }

    [Fact]
    public void A_guest_that_never_stops_asking_does_not_keep_the_worker_from_its_other_work()
    {
        BlockBench bench = new(queueSize: 64);
        int asked = 0;
        int askedAtBell = 0;
        using Tutti.Devices.IDoorbell bell = bench.Worker.AddDoorbell(() => askedAtBell = askedAtBell == 0 ? asked : askedAtBell);
        bench.Disk.Log = null;
        bench.Disk.OnKick = () =>
        {
            bench.Ring.TakeAll();
            for (int i = 0; i < 16 && asked < 2000; i++)
            {
                bench.Post(TypeIn, 0, 512);
                asked++;
            }
        };
        bench.Post(TypeIn, 0, 512);
        bell.Ring();
        bench.Worker.Run();
        Assert.Equal(2000, asked);
        Assert.InRange(askedAtBell, 1, 1000);
        Assert.Equal(0, bench.Device.RequestsUnderWay);
    }

    [Theory]
    [InlineData(false, 0UL)]
    [InlineData(true, 0UL)]
    [InlineData(true, VirtioFeatures.EventIdx)]
    public void Requests_allocate_nothing(bool isDeferring, ulong ringFeatures)
    {
        BlockBench bench = new(queueSize: 64, ringFeatures: ringFeatures);
        bench.Disk.Log = null;
        bench.Disk.IsDeferring = isDeferring;
        Assert.Equal(0, Allocations.Measure(() => Round(bench)));
    }

    private static void Round(BlockBench bench)
    {
        bench.Post(TypeIn, 1, 4096);
        bench.Post(TypeOut, 9, 4096);
        bench.Post(TypeFlush, 0, 0);
        bench.Post(TypeGetId, 0, 20);
        bench.Worker.Run();
        bench.Disk.CompleteAll();
        if (bench.Ring.TakeAll() != 4)
        {
            throw new InvalidOperationException("Requests were lost.");
        }
    }
}
