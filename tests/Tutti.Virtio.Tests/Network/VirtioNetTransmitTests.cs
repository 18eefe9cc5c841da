using Tutti.Devices.Network;
using static Tutti.Virtio.Network.VirtioNetLayout;

namespace Tutti.Virtio.Tests.Network;

public sealed class VirtioNetTransmitTests
{
    private static readonly byte[] Plain = new byte[HeaderSize];

    [Fact]
    public void A_frame_reaches_the_network_and_its_buffer_comes_back()
    {
        NetBench bench = new();
        byte[] frame = NetBench.Frame(1514);
        bench.SendFrame(Plain, frame);
        (byte[] sent, PacketOffload offload) = Assert.Single(bench.Network.Sent!);
        Assert.Equal(frame, sent);
        Assert.Equal(default, offload);
        Assert.True(bench.Transmit.TryTake(out int head, out int written));
        Assert.Equal((0, 0), (head, written));
        Assert.Equal((1, 1), (bench.Network.SendEnds, bench.Driver.Signals[TransmitQueue]));
        Assert.Equal((1L, 1514L), (bench.Device.Counters.Sent, bench.Device.Counters.SentBytes));
    }

    [Fact]
    public void A_frame_may_lie_in_any_segments()
    {
        NetBench bench = new(queueSize: 256);
        byte[] bytes = [.. Plain, .. NetBench.Frame(900)];
        bytes.CopyTo(bench.Driver.Ram[(int)TestDriver.Data..]);
        TestBuffer[] buffers = [.. Enumerable.Range(0, bytes.Length / 8).Select(i => new TestBuffer(TestDriver.Data + ((ulong)i * 8), 8, false))];
        bench.Transmit.PostIndirect(TestDriver.Data + 0x10_0000, buffers);
        bench.Transmit.Notify();
        bench.Worker.Run();
        Assert.Equal(bytes[12..], Assert.Single(bench.Network.Sent!).Frame);
    }

    [Fact]
    public void Several_frames_are_one_batch_with_one_interrupt()
    {
        NetBench bench = new();
        for (int i = 0; i < 10; i++)
        {
            bench.PostFrame(Plain, NetBench.Frame(100));
        }

        bench.Transmit.Notify();
        bench.Worker.Run();
        Assert.Equal((10, 1, 1), (bench.Network.SentCount, bench.Network.SendEnds, bench.Driver.Signals[TransmitQueue]));
        Assert.Equal(10, bench.Transmit.TakeAll());
    }

    [Fact]
    public void A_guest_that_wants_no_interrupts_for_buffers_gets_none()
    {
        NetBench bench = new(ringFeatures: VirtioFeatures.EventIdx);
        bench.Transmit.UsedEvent = 20;
        for (int i = 0; i < 10; i++)
        {
            bench.SendFrame(Plain, NetBench.Frame(100));
        }

        Assert.Equal(0, bench.Driver.Signals[TransmitQueue]);
        Assert.Equal(10, bench.Transmit.TakeAll());
        Assert.Equal(10, bench.Transmit.AvailEvent);
    }

    [Fact]
    public void Unfinished_work_goes_along_as_negotiated()
    {
        byte[] frame = VirtioNetHeaderTests.TcpFrame(false, 0, 60_000, out int tcp);
        byte[] header = VirtioNetHeaderTests.Header(1, 1, 1448, tcp, 16);
        NetBench bench = new();
        bench.SendFrame(header, frame);
        (byte[] sent, PacketOffload offload) = Assert.Single(bench.Network.Sent!);
        Assert.Equal(frame, sent);
        Assert.Equal(new PacketOffload(true, (ushort)tcp, 16, false, SegmentationKind.Tcp4, 1448, (ushort)(tcp + 32)), offload);

        // TSO without CSUM is no TSO.
        bench = new NetBench(~FeatureCsum);
        bench.SendFrame(header, frame);
        Assert.Empty(bench.Network.Sent!);
        Assert.Equal(1, bench.Device.Counters.SendDropped);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(11)]
    [InlineData(12)]
    [InlineData(25)]
    [InlineData(1535)]
    [InlineData(70_000)]
    public void What_is_no_frame_is_dropped_and_counted_and_its_buffer_comes_back(int length)
    {
        NetBench bench = new();
        bench.SendFrame([], new byte[length]);
        Assert.Empty(bench.Network.Sent!);
        Assert.Equal(1, bench.Device.Counters.SendDropped);
        Assert.Equal(1, bench.Transmit.TakeAll());
        bench.SendFrame(Plain, NetBench.Frame(1514));
        Assert.Single(bench.Network.Sent!);
    }

    [Fact]
    public void A_network_without_offloads_offers_none()
    {
        NetBench bench = new(takes: PacketOffloads.None);
        Assert.Equal(0UL, bench.Device.DeviceFeatures & (FeatureCsum | FeatureHostTso4 | FeatureHostTso6 | FeatureHostEcn));
        bench = new NetBench(takes: PacketOffloads.Checksum | PacketOffloads.Tcp6);
        Assert.Equal(FeatureCsum | FeatureHostTso6, bench.Device.DeviceFeatures & (FeatureCsum | FeatureHostTso4 | FeatureHostTso6 | FeatureHostEcn));
    }

    [Fact]
    public void A_guest_that_never_stops_sending_does_not_keep_the_worker_from_its_other_work()
    {
        NetBench bench = new(queueSize: 64);
        int sentAtBell = 0;
        int posted = 0;
        using Tutti.Devices.IDoorbell bell = bench.Worker.AddDoorbell(() => sentAtBell = sentAtBell == 0 ? bench.Network.SentCount : sentAtBell);
        bench.Network.Sent = null;
        bench.Network.OnSend = () =>
        {
            bench.Transmit.TakeAll();
            if (posted++ < 2000)
            {
                bench.PostFrame(Plain, NetBench.Frame(60));
            }
        };
        bench.PostFrame(Plain, NetBench.Frame(60));
        bench.Transmit.Notify();
        bell.Ring();
        bench.Worker.Run();
        Assert.Equal(2001, bench.Network.SentCount);
        Assert.InRange(sentAtBell, 1, 600);
    }

    [Theory]
    [InlineData(0UL)]
    [InlineData(VirtioFeatures.EventIdx)]
    public void Frames_allocate_nothing(ulong ringFeatures)
    {
        NetBench bench = new(ringFeatures: ringFeatures);
        bench.Network.Sent = null;
        byte[] frame = NetBench.Frame(1514);
        int rounds = 0;
        Assert.Equal(0, Allocations.Measure(() =>
        {
            bench.PostFrame(Plain, frame);
            bench.SendFrame(Plain, frame);
            bench.Transmit.TakeAll();
            rounds++;
        }));
        Assert.Equal(2 * rounds, bench.Network.SentCount);
    }
}
