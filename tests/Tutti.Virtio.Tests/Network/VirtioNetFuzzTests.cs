using System.Diagnostics;
using Tutti.Devices.Network;
using static Tutti.Virtio.Network.VirtioNetLayout;

namespace Tutti.Virtio.Tests.Network;

/// <summary>A hostile driver and a busy network: nothing throws, and <see cref="FakeNetwork"/> sees that what is sent makes sense.</summary>
[Trait("Category", "Fuzz")]
public sealed class VirtioNetFuzzTests
{
    private const int ShortRuns = 60;

    [Fact]
    public void Random_frames_commands_and_rings_do_no_harm()
    {
        int seed = FuzzSettings.Seed;
        Stopwatch watch = Stopwatch.StartNew();
        for (int run = 0; run < ShortRuns || watch.Elapsed < FuzzSettings.Time; run++)
        {
            try
            {
                Run(new Random(unchecked(seed + run)));
            }
            catch (Exception exception)
            {
                throw new InvalidOperationException($"seed {unchecked(seed + run)}", exception);
            }
        }
    }

    private static void Run(Random random)
    {
        NetBench bench = new(Features(random), 1 << random.Next(2, 9), RingFeatures(random));
        bench.Network.Sent = null;
        bench.Network.OnReady = () =>
        {
            if (random.Next(2) == 0)
            {
                ReceiveSome(bench, random);
            }
        };
        for (int step = 0; step < 200; step++)
        {
            Step(bench, random);
        }

        bench.Device.Dispose();
        Assert.Null(bench.Network.Card);
        Assert.Equal(0, bench.Device.Status);
    }

    private static ulong Features(Random random) => random.Next(3) == 0 ? ulong.MaxValue : (ulong)random.NextInt64() | FeatureCtrlVq;

    private static ulong RingFeatures(Random random) =>
        (random.Next(4) != 0 ? VirtioFeatures.IndirectDesc : 0) | (random.Next(2) != 0 ? VirtioFeatures.EventIdx : 0) | VirtioFeatures.RingReset;

    private static void Step(NetBench bench, Random random)
    {
        int queue = random.Next(3);
        switch (random.Next(30))
        {
            case 0:
                bench.Driver.Reset();
                bench.Driver.Start(Features(random) & bench.Device.DeviceFeatures, 1 << random.Next(9), RingFeatures(random));
                break;
            case 1:
                bench.Device.ResetQueue(queue);
                break;
            case 2:
                random.NextBytes(bench.Driver.Ram.Slice(random.Next(0x20000), random.Next(64)));
                break;
            case 3:
                bench.Driver[queue].Offer((ushort)random.Next(0x200));
                break;
            case 4:
                bench.Device.Announce();
                bench.Device.OnLinkChanged();
                break;
            case < 12:
                ReceiveSome(bench, random);
                break;
            default:
                Post(bench, bench.Driver[queue], queue, random);
                break;
        }

        bench.Driver[queue].Notify();
        if (random.Next(2) == 0)
        {
            bench.Worker.Run();
        }
    }

    private static void ReceiveSome(NetBench bench, Random random)
    {
        byte[] frame = NetBench.Frame(random.Next(4) == 0 ? random.Next(6, 66_000) : random.Next(6, 1600), random.Next(4) == 0 ? 0x333300000001UL : NetBench.Own);
        PacketOffload offload = new(
            random.Next(2) == 0, (ushort)random.Next(), (ushort)random.Next(), random.Next(2) == 0, (SegmentationKind)random.Next(4),
            (ushort)random.Next(), (ushort)random.Next(), random.Next(2) == 0);
        for (int i = 0; i < 5; i++)
        {
            if (!bench.Device.TryReceive(frame, random.Next(2) == 0 ? offload : default))
            {
                break;
            }
        }

        bench.Device.EndReceive();
    }

    private static void Post(NetBench bench, TestRing ring, int queue, Random random)
    {
        TestBuffer[] buffers = new TestBuffer[random.Next(1, Math.Min(ring.Size, 10) + 1)];
        int writableFrom = queue switch { ReceiveQueue => 0, TransmitQueue => buffers.Length, _ => random.Next(buffers.Length + 1) };
        for (int i = 0; i < buffers.Length; i++)
        {
            bool isWild = random.Next(80) == 0;
            ulong address = isWild ? (ulong)random.NextInt64() : TestDriver.Data + (ulong)random.Next(0x40_0000);
            int length = random.Next(4) switch { 0 => random.Next(40), 1 => random.Next(0x11000), _ => random.Next(1600) };
            buffers[i] = new TestBuffer(address, length, (i >= writableFrom) ^ (random.Next(50) == 0));
            if (i == 0 && !isWild)
            {
                FillHead(bench.Driver.Ram.Slice((int)address, 64), queue, random);
            }
        }

        if (random.Next(3) == 0)
        {
            ring.PostIndirect(TestDriver.Data + 0x80_0000 + (ulong)(random.Next(64) * 0x1000), buffers);
        }
        else
        {
            ring.Post(buffers);
        }
    }

    private static void FillHead(Span<byte> head, int queue, Random random)
    {
        random.NextBytes(head);
        if (queue == TransmitQueue)
        {
            byte[] frame = VirtioNetHeaderTests.TcpFrame(random.Next(2) == 0, random.Next(3), 94, out int tcp);
            VirtioNetHeaderTests.Header((byte)random.Next(3), (byte)random.Next(6), random.Next(2000), tcp + random.Next(3), 16).CopyTo(head);
            frame.AsSpan(0, 52).CopyTo(head[12..]);
        }
        else if (queue == ControlQueue)
        {
            head[0] = (byte)random.Next(7);
            head[1] = (byte)random.Next(7);
            head[2] = (byte)random.Next(4);
            head[3..6].Clear();
        }
    }
}
