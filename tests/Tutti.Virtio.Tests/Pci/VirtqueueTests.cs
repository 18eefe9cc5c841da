using System.Security.Cryptography;
using Tutti.Memory;
using Tutti.Virtio.Pci;
using static Tutti.Virtio.Pci.VirtioPciLayout;

namespace Tutti.Virtio.Tests.Pci;

public sealed class VirtqueueTests : IDisposable
{
    private const ulong AllFeatures = ulong.MaxValue & ~EchoDevice.FeatureNeedsA;
    private const ulong NoEvents = AllFeatures & ~VirtioFeatures.EventIdx;
    private const ulong QueueAddress = 0x1_0000;
    private const ulong Table = 0x2_0000;
    private const int Size = 16;
    private const byte NeedsReset = 0x40;
    private readonly PciBed _bed = new();
    private readonly EchoDevice _device;
    private readonly PciDriver _driver;

    public VirtqueueTests()
    {
        _device = new EchoDevice(_bed.Worker);
        _driver = new PciDriver(_bed, _bed.Plug(_device).Slot);
    }

    public static TheoryData<string> BrokenRings() =>
    [
        "head", "next", "loop", "too long", "readable after writable", "outside RAM", "across the end of a region", "address wraps", "length",
        "indirect in indirect", "indirect with next", "indirect length", "indirect outside", "indirect next", "index ahead", "index back", "offered twice",
    ];

    public void Dispose() => _bed.Dispose();

    [Theory]
    [InlineData(AllFeatures)]
    [InlineData(NoEvents)]
    public void Chains_of_any_shape_come_back_with_what_the_device_wrote(ulong features)
    {
        GuestQueue queue = Start(features);
        Random random = new(1);
        for (int round = 0; round < 500; round++)
        {
            random.NextBytes(_bed.Ram(0x100, 100));
            byte[] sent = _bed.Ram(0x100, 100).ToArray();
            Buffer[] buffers = [new(0x100, 60), new(0x13C, 0), new(0x13C, 40), new(0x400, 33, true), new(PciBed.HighStart + 0x10, 80, true)];
            ushort head = random.Next(2) == 0 ? queue.Add(buffers) : queue.AddIndirect(Table + 4, buffers);
            _ = queue.Kick();
            _ = _bed.Worker.Run();
            Assert.True(queue.TryTake(out ushort used, out uint written));
            Assert.Equal((head, 100u), (used, written));
            byte[] received = [.. _bed.Ram(0x400, 33), .. _bed.Ram(PciBed.HighStart + 0x10, 67)];
            Assert.Equal(sent, received);
        }

        Assert.True(_bed.AreGuardsWhole());
    }

    [Fact]
    public void Direct_descriptors_may_come_before_an_indirect_table()
    {
        GuestQueue queue = Start(AllFeatures);
        _bed.Ram(0x100, 8).Fill(3);
        queue.Describe(0, 0x100, 4, 1, 1);
        queue.Describe(1, Table, 32, 4, 0);
        queue.Describe(Table, 0x104, 4, 1, 1);
        queue.Describe(Table + 16, 0x200, 8, 2, 0);
        queue.Offer(0);
        _driver.Notify(0);
        _ = _bed.Worker.Run();
        Assert.Equal(1, queue.UsedIndex);
        Assert.Equal(3, _bed.Ram(0x207, 1)[0]);
    }

    [Fact]
    public void A_table_may_be_longer_than_the_queue_that_the_driver_has_made_small()
    {
        GuestQueue queue = Start(AllFeatures);
        Buffer[] buffers = [.. Enumerable.Range(0, 63).Select(i => new Buffer(0x100 + (ulong)i, 1)), new(0x800, 63, true)];
        _ = queue.AddIndirect(Table, buffers);
        _ = queue.Kick();
        _ = _bed.Worker.Run();
        Assert.True(queue.TryTake(out _, out uint written));
        Assert.Equal(63u, written);
    }

    [Theory]
    [MemberData(nameof(BrokenRings))]
    public void A_broken_ring_makes_the_device_need_a_reset_once_and_writes_nothing(string what)
    {
        GuestQueue queue = Start(AllFeatures);
        _driver.UseMessages(2);
        byte[] before = Hash();
        ushort? head = Break(queue, what);
        byte[] broken = Hash();
        if (head is ushort offered)
        {
            queue.Offer(offered);
            broken = Hash();
        }

        Assert.NotEqual(before, broken);
        _driver.Notify(0);
        _driver.Notify(0);
        Assert.InRange(_bed.Worker.Run(), 1, 10);
        Assert.Equal(NeedsReset, _driver.Status & NeedsReset);
        Assert.Equal(1, _bed.MessageCount(PciDriver.ConfigMessage));
        Assert.Equal(what == "offered twice" ? Hash() : broken, Hash());

        // The reset heals.
        queue = Start(AllFeatures);
        _ = queue.Add(new Buffer(0x100, 4), new Buffer(0x200, 4, true));
        _ = queue.Kick();
        _ = _bed.Worker.Run();
        Assert.True(queue.TryTake(out _, out _));
    }

    [Fact]
    public void Indirect_tables_need_their_feature()
    {
        GuestQueue queue = Start(AllFeatures & ~VirtioFeatures.IndirectDesc);
        _ = queue.AddIndirect(Table, new Buffer(0x100, 4));
        _ = queue.Kick();
        _ = _bed.Worker.Run();
        Assert.Equal(NeedsReset, _driver.Status & NeedsReset);
    }

    [Fact]
    public void With_event_idx_the_device_is_told_of_the_next_chain_and_interrupts_at_the_index_that_the_driver_named()
    {
        GuestQueue queue = Start(AllFeatures);
        _driver.UseMessages(2);
        queue.SetUsedEvent(2);
        for (int i = 0; i < 4; i++)
        {
            _ = queue.Add(new Buffer(0x100, 4), new Buffer(0x200, 4, true));
            Assert.True(queue.Kick());
            _ = _bed.Worker.Run();
            Assert.Equal(i < 2 ? 0 : 1, _bed.MessageCount(PciDriver.FirstQueueMessage));
            Assert.Equal(i + 1, queue.AvailEvent);
        }
    }

    [Fact]
    public void Without_event_idx_the_flags_say_who_wants_to_hear()
    {
        GuestQueue queue = Start(NoEvents);
        _driver.UseMessages(2);
        queue.SetNoInterrupt(true);
        _ = queue.Add(new Buffer(0x100, 4), new Buffer(0x200, 4, true));
        Assert.True(queue.Kick());
        _ = _bed.Worker.Run();
        Assert.Equal(0, _bed.MessageCount(PciDriver.FirstQueueMessage));
        queue.SetNoInterrupt(false);
        _ = queue.Add(new Buffer(0x100, 4), new Buffer(0x200, 4, true));
        _ = queue.Kick();
        _ = _bed.Worker.Run();
        Assert.Equal(1, _bed.MessageCount(PciDriver.FirstQueueMessage));
        Assert.Equal(0, queue.UsedFlags);
    }

    [Fact]
    public void Indices_wrap()
    {
        GuestQueue queue = Start(AllFeatures);
        for (int i = 0; i < 70_000; i++)
        {
            _ = queue.Add(new Buffer(0x100, 4), new Buffer(0x200, 4, true));
            Assert.True(queue.Kick());
            _ = _bed.Worker.Run();
            Assert.True(queue.TryTake(out _, out _));
        }
    }

    [Fact]
    public void Observers_of_code_hear_of_the_bytes_that_were_written_and_of_no_others()
    {
        GuestQueue queue = Start(AllFeatures);
        Recorder recorder = new();
        _bed.Memory.AddCodeWriteObserver(recorder);
        foreach (ulong address in (ulong[])[0x5000, 0x6000, 0x7000])
        {
            _ = _bed.Memory.Pages.SetCode(_bed.Memory.GetPageIndex(address));
        }

        _ = queue.Add(new Buffer(0x100, 100), new Buffer(0x5FC0, 0x80, true), new Buffer(0x7000, 4, true));
        _ = queue.Kick();
        _ = _bed.Worker.Run();
        Assert.Equal([(0x5FC0UL, 0x40), (0x6000UL, 36)], recorder.Writes);
    }

    [Fact]
    public void A_request_allocates_nothing()
    {
        GuestQueue queue = Start(AllFeatures);
        _driver.UseMessages(2);
        _ = _bed.Worker.Run();
        long least = long.MaxValue;
        for (int i = 0; i < 50; i++)
        {
            for (int chain = 0; chain < 4; chain++)
            {
                _ = queue.AddIndirect(Table + (ulong)(0x100 * chain), new Buffer(0x100, 4), new Buffer(0x104, 4), new Buffer(0x200, 8, true));
            }

            _driver.Notify(0);
            long before = GC.GetAllocatedBytesForCurrentThread();
            _ = _bed.Worker.Run();
            least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
            while (queue.TryTake(out _, out _))
            {
            }
        }

        Assert.Equal(0, least);
        Assert.Equal(200, queue.UsedIndex);
    }

    private GuestQueue Start(ulong features)
    {
        _driver.Begin(features);
        GuestQueue queue = _driver.AddQueue(0, Size, QueueAddress, features);
        _driver.Finish();
        _ = _bed.Worker.Run();
        return queue;
    }

    private byte[] Hash() => SHA256.HashData(_bed.Ram(0, PciBed.RegionSize));

    private ushort? Break(GuestQueue queue, string what)
    {
        const ushort Next = 1;
        const ushort Write = 2;
        const ushort Indirect = 4;
        queue.Describe(0, 0x100, 4, 0, 0);
        switch (what)
        {
            case "head":
                return Size;
            case "next":
                queue.Describe(0, 0x100, 4, Next, Size);
                break;
            case "loop":
                queue.Describe(0, 0x100, 4, Next, 1);
                queue.Describe(1, 0x100, 4, Next, 0);
                break;
            case "too long":
                for (int i = 0; i < 65; i++)
                {
                    queue.Describe(Table + (ulong)(16 * i), 0x100, 1, i < 64 ? Next : (ushort)0, (ushort)(i + 1));
                }

                queue.Describe(0, Table, 65 * 16, Indirect, 0);
                break;
            case "readable after writable":
                queue.Describe(0, 0x100, 4, Next | Write, 1);
                queue.Describe(1, 0x100, 4, 0, 0);
                break;
            case "outside RAM":
                queue.Describe(0, 0x9000_0000, 4, 0, 0);
                break;
            case "across the end of a region":
                queue.Describe(0, PciBed.RegionSize - 4, 8, Write, 0);
                break;
            case "address wraps":
                queue.Describe(0, ulong.MaxValue - 3, 8, Write, 0);
                break;
            case "length":
                queue.Describe(0, 0x100, uint.MaxValue, 0, 0);
                break;
            case "indirect in indirect":
                queue.Describe(0, Table, 16, Indirect, 0);
                queue.Describe(Table, Table + 0x100, 16, Indirect, 0);
                break;
            case "indirect with next":
                queue.Describe(0, Table, 16, Indirect | Next, 1);
                break;
            case "indirect length":
                queue.Describe(0, Table, 24, Indirect, 0);
                break;
            case "indirect outside":
                queue.Describe(0, PciBed.RegionSize - 16, 32, Indirect, 0);
                break;
            case "indirect next":
                queue.Describe(0, Table, 32, Indirect, 0);
                queue.Describe(Table, 0x100, 4, Next, 2);
                break;
            case "index ahead":
                queue.SetAvailableIndex(Size + 1);
                return null;
            case "index back":
                queue.SetAvailableIndex(ushort.MaxValue);
                return null;
            case "offered twice":
                _device.Holds = true;
                queue.Offer(0);
                _driver.Notify(0);
                _ = _bed.Worker.Run();
                Assert.Single(_device.Held);
                _device.Held.Clear();
                _device.Holds = false;
                break;
        }

        return 0;
    }

    private sealed class Recorder : ICodeWriteObserver
    {
        internal List<(ulong Address, int Length)> Writes { get; } = [];

        public void OnCodeWritten(ulong address, int length) => Writes.Add((address, length));
    }
}
