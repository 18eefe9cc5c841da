using Tutti.Devices.Network;
using static Tutti.Virtio.Network.VirtioNetLayout;

namespace Tutti.Virtio.Tests.Network;

public sealed class VirtioNetReceiveTests
{
    private const ulong Unmerged = ~FeatureMrgRxbuf;

    [Fact]
    public void A_frame_lies_behind_its_header_and_is_shown_at_the_end_of_the_batch()
    {
        NetBench bench = new();
        bench.PostReceive(0, 2048);
        bench.PostReceive(1, 2048);
        byte[] frame = NetBench.Frame(1000);
        Assert.True(bench.Device.TryReceive(frame, default));
        Assert.True(bench.Device.TryReceive(frame.AsSpan(0, 60), new PacketOffload(IsChecksumValid: true)));
        Assert.False(bench.Receive.TryTake(out _, out _));
        Assert.Equal(0, bench.Driver.Signals[ReceiveQueue]);
        bench.Device.EndReceive();
        Assert.Equal(1, bench.Driver.Signals[ReceiveQueue]);
        Assert.True(bench.Receive.TryTake(out int head, out int written));
        Assert.Equal((0, 1012), (head, written));
        byte[] expected = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, .. frame];
        Assert.Equal(expected, bench.Received(0, 1012).ToArray());
        Assert.True(bench.Receive.TryTake(out _, out written));
        Assert.Equal(72, written);
        Assert.Equal(2, bench.Received(1, 1)[0]);
        Assert.Equal((2L, 1060L), (bench.Device.Counters.Received, bench.Device.Counters.ReceivedBytes));
        bench.Device.EndReceive();
        Assert.Equal(1, bench.Driver.Signals[ReceiveQueue]);
    }

    [Fact]
    public void A_long_frame_is_spread_over_buffers_that_say_how_many_they_are()
    {
        NetBench bench = new(queueSize: 64);
        for (int i = 0; i < 48; i++)
        {
            bench.PostReceive(i, 1536);
        }

        byte[] frame = VirtioNetHeaderTests.TcpFrame(true, 0, 65_000, out int tcp);
        NetBench.Frame(14).AsSpan(0, 6).CopyTo(frame);
        PacketOffload offload = new(true, (ushort)tcp, 16, false, SegmentationKind.Tcp6, 1440, (ushort)(tcp + 32), true);
        Assert.True(bench.Device.TryReceive(frame, offload));
        bench.Device.EndReceive();
        List<byte> got = [];
        int buffers = 0;
        while (bench.Receive.TryTake(out int head, out int written))
        {
            got.AddRange(bench.Received(head, written));
            buffers++;
        }

        Assert.Equal(43, buffers);
        Assert.Equal(43, NetBench.BufferCount(bench.Received(0, 12)));
        Assert.Equal(frame, got.Skip(12));
        Assert.Equal([1, 0x84], got.Take(2));
    }

    [Fact]
    public void Without_room_the_frame_waits_until_buffers_come()
    {
        NetBench bench = new(ringFeatures: 0);
        bench.PostReceive(0, 200);
        Assert.True(bench.Receive.IsNotifyOff);
        byte[] frame = NetBench.Frame(1000);
        Assert.True(bench.Device.TryReceive(frame.AsSpan(0, 60), default));

        // The buffer that is full is shown, or the guest would never post another.
        Assert.False(bench.Device.TryReceive(frame, default));
        Assert.Equal(1, bench.Driver.Signals[ReceiveQueue]);
        Assert.Equal(1, bench.Receive.TakeAll());
        Assert.False(bench.Receive.IsNotifyOff);

        // Too little of it: none is taken, and the next one is told of.
        bench.PostReceive(1, 500);
        bench.Network.OnReady = () =>
        {
            if (bench.Device.TryReceive(frame, default))
            {
                bench.Device.EndReceive();
            }
        };
        bench.Receive.Notify();
        bench.Worker.Run();
        Assert.Equal((1, 0, false), (bench.Network.ReadyCalls, bench.Receive.TakeAll(), bench.Receive.IsNotifyOff));
        bench.PostReceive(2, 600);
        bench.Receive.Notify();
        bench.Worker.Run();
        Assert.Equal((2, 2, true), (bench.Network.ReadyCalls, bench.Receive.TakeAll(), bench.Receive.IsNotifyOff));
        byte[] got = [.. bench.Received(1, 500)[12..], .. bench.Received(2, 512)];
        Assert.Equal(frame, got);
        Assert.Equal(2, NetBench.BufferCount(bench.Received(1, 12)));

        bench.Receive.Notify();
        bench.Worker.Run();
        Assert.Equal(2, bench.Network.ReadyCalls);
    }

    [Fact]
    public void With_event_idx_the_guest_is_asked_for_news_beyond_buffers_that_are_too_few()
    {
        NetBench bench = new(ringFeatures: VirtioFeatures.EventIdx);
        bench.PostReceive(0, 500);
        bench.PostReceive(1, 500);
        Assert.False(bench.Device.TryReceive(NetBench.Frame(1000), default));
        Assert.Equal(2, bench.Receive.AvailEvent);
        bench.PostReceive(2, 500);
        Assert.True(bench.Device.TryReceive(NetBench.Frame(1000), default));
        bench.Device.EndReceive();
        Assert.Equal(3, bench.Receive.TakeAll());
    }

    [Fact]
    public void Without_merging_a_frame_that_does_not_fit_is_dropped_and_the_buffer_kept()
    {
        NetBench bench = new(Unmerged);
        bench.PostReceive(0, 1012);
        Assert.True(bench.Device.TryReceive(NetBench.Frame(1001), default));
        Assert.Equal(1, bench.Device.Counters.ReceiveDropped);
        Assert.True(bench.Device.TryReceive(NetBench.Frame(1000), default));
        bench.Device.EndReceive();
        Assert.Equal(1, bench.Receive.TakeAll());
        Assert.Equal(1, NetBench.BufferCount(bench.Received(0, 12)));
        Assert.False(bench.Device.TryReceive(NetBench.Frame(1000), default));
    }

    [Fact]
    public void A_frame_that_all_the_buffers_of_the_queue_cannot_hold_is_dropped()
    {
        NetBench bench = new(queueSize: 4);
        for (int i = 0; i < 4; i++)
        {
            bench.PostReceive(i, 100);
        }

        Assert.True(bench.Device.TryReceive(NetBench.Frame(400), default));
        Assert.Equal(1, bench.Device.Counters.ReceiveDropped);
        Assert.True(bench.Device.TryReceive(NetBench.Frame(388), default));
        bench.Device.EndReceive();
        Assert.Equal(4, bench.Receive.TakeAll());
    }

    [Fact]
    public void Buffers_that_cannot_hold_a_header_go_back_unused()
    {
        NetBench bench = new();
        bench.PostReceive(0, 11);
        bench.Receive.Post(new TestBuffer(TestDriver.Data, 100, false));
        bench.PostReceive(2, 2000);
        Assert.True(bench.Device.TryReceive(NetBench.Frame(100), default));
        bench.Device.EndReceive();
        Assert.True(bench.Receive.TryTake(out _, out int first));
        Assert.True(bench.Receive.TryTake(out _, out int second));
        Assert.True(bench.Receive.TryTake(out int head, out int third));
        Assert.Equal((0, 0, 2, 112), (first, second, head, third));
    }

    [Fact]
    public void A_card_that_is_down_swallows_frames_and_lets_a_waiting_network_go_on()
    {
        NetBench bench = new();
        Assert.False(bench.Device.TryReceive(NetBench.Frame(60), default));
        bench.Driver.Reset();
        Assert.Equal(0, bench.Device.Status);
        bench.Worker.Run();
        Assert.Equal(1, bench.Network.ReadyCalls);
        Assert.True(bench.Device.TryReceive(NetBench.Frame(60), default));
        bench.Device.EndReceive();
        Assert.Equal(PacketOffloads.None, bench.Device.Accepts);
    }

    [Fact]
    public void A_queue_that_is_reset_alone_lets_a_waiting_network_go_on()
    {
        NetBench bench = new(ringFeatures: VirtioFeatures.RingReset);
        Assert.False(bench.Device.TryReceive(NetBench.Frame(60), default));
        bench.Device.ResetQueue(ReceiveQueue);
        bench.Worker.Run();
        Assert.Equal(1, bench.Network.ReadyCalls);
        Assert.True(bench.Device.TryReceive(NetBench.Frame(60), default));
    }

    [Fact]
    public void Frames_for_others_and_unfinished_work_that_the_driver_does_not_take_are_not_given_to_it()
    {
        NetBench bench = new(~FeatureGuestTso6);
        bench.PostReceive(0, 2000);
        Assert.Equal(PacketOffloads.Checksum | PacketOffloads.Tcp4 | PacketOffloads.Ecn, bench.Device.Accepts);
        Assert.True(bench.Device.TryReceive(NetBench.Frame(60, 0x525400000001), default));
        Assert.Equal(1, bench.Device.Counters.ReceiveFiltered);
        Assert.True(bench.Device.TryReceive(NetBench.Frame(1000), new PacketOffload(true, Segmentation: SegmentationKind.Tcp6)));
        Assert.True(bench.Device.TryReceive(NetBench.Frame(1000), new PacketOffload(true, Segmentation: SegmentationKind.Udp)));
        Assert.True(bench.Device.TryReceive(NetBench.Frame(13), default));
        Assert.True(bench.Device.TryReceive(new byte[70_000], default));
        Assert.Equal(4, bench.Device.Counters.ReceiveDropped);
        bench.Device.EndReceive();
        Assert.Equal(0, bench.Receive.TakeAll());
    }

    [Fact]
    public void A_driver_that_cannot_say_what_it_wants_gets_all()
    {
        NetBench bench = new(~FeatureCtrlVq);
        bench.PostReceive(0, 2000);
        Assert.True(bench.Device.TryReceive(NetBench.Frame(60, 0x525400000001), default));
        Assert.Equal(1, bench.Device.Counters.Received);
    }

    [Theory]
    [InlineData(0UL, 1)]
    [InlineData(VirtioFeatures.EventIdx, 1)]
    [InlineData(VirtioFeatures.EventIdx, 4)]
    public void Frames_allocate_nothing(ulong ringFeatures, int buffers)
    {
        NetBench bench = new(ringFeatures: ringFeatures);
        byte[] frame = NetBench.Frame(buffers * 1500);
        int rounds = 0;
        Assert.Equal(0, Allocations.Measure(() =>
        {
            for (int j = 0; j < buffers; j++)
            {
                bench.PostReceive(j, 1536);
            }

            bench.Device.TryReceive(frame, default);
            bench.Device.TryReceive(frame, default);
            bench.Device.EndReceive();
            bench.Receive.Notify();
            bench.Worker.Run();
            bench.Receive.TakeAll();
            rounds++;
        }));
        Assert.Equal(rounds, bench.Device.Counters.Received);
    }
}
