using System.Diagnostics;
using static Tutti.Virtio.Block.VirtioBlockLayout;

namespace Tutti.Virtio.Tests.Block;

/// <summary>A hostile driver: nothing throws, and <see cref="MemoryBlockBackend"/> sees that no request leaves the disk.</summary>
[Trait("Category", "Fuzz")]
public sealed class VirtioBlockFuzzTests
{
    private const int ShortRuns = 60;
    private static readonly uint[] Types = [TypeIn, TypeOut, TypeFlush, TypeGetId, TypeDiscard, TypeWriteZeroes, 2, uint.MaxValue];

    [Fact]
    public void Random_requests_and_rings_do_no_harm()
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
        MemoryBlockBackend disk = new(BlockBench.DiskSize) { IsReadOnly = random.Next(8) == 0, CanDiscard = random.Next(4) != 0, Log = null };
        BlockBench bench = new(disk, queueSize: 1 << random.Next(2, 9), queues: random.Next(1, 4), ringFeatures: RingFeatures(random));
        for (int step = 0; step < 150; step++)
        {
            Step(bench, random);
        }

        disk.CompleteAll();
        bench.Worker.Run();
        bench.Driver.Reset();
        disk.CompleteAll();
        Assert.Equal(0, bench.Device.Status);
        Assert.Equal(0, bench.Device.RequestsUnderWay);
        bench.Device.Dispose();
    }

    private static ulong RingFeatures(Random random) =>
        (random.Next(4) != 0 ? VirtioFeatures.IndirectDesc : 0) | (random.Next(2) != 0 ? VirtioFeatures.EventIdx : 0);

    private static void Step(BlockBench bench, Random random)
    {
        TestRing ring = bench.Driver[random.Next(bench.Device.QueueCount)];
        switch (random.Next(40))
        {
            case 0:
                bench.Driver.Reset();
                bench.Disk.CompleteAll();
                bench.Driver.Start(BlockBench.AllFeatures & bench.Device.DeviceFeatures, 1 << random.Next(9), RingFeatures(random));
                break;
            case 1:
                bench.Device.ResetQueue(random.Next(bench.Device.QueueCount));
                break;
            case 2:
                random.NextBytes(bench.Driver.Ram.Slice(random.Next(0x20000), random.Next(64)));
                break;
            case 3:
                ring.Offer((ushort)random.Next(0x200));
                break;
            case 4:
                bench.Device.WriteDeviceConfig(random.Next(ConfigSize), [(byte)random.Next()]);
                break;
            case 5:
                bench.Disk.IsDeferring = random.Next(2) == 0;
                break;
            case 6:
                bench.Disk.CompleteAll(random.Next(5));
                break;
            default:
                PostRequest(bench, ring, random);
                break;
        }

        ring.Notify();
        if (random.Next(2) == 0)
        {
            bench.Worker.Run();
        }
    }

    private static void PostRequest(BlockBench bench, TestRing ring, Random random)
    {
        ulong header = BlockBench.Header + (ulong)random.Next(0x100);
        ulong sector = random.Next(3) switch
        {
            0 => (ulong)random.Next(2100),
            1 => ulong.MaxValue >> random.Next(64),
            _ => (ulong)random.NextInt64(),
        };
        bench.WriteHeader(Types[random.Next(Types.Length)], sector, header);
        if (random.Next(2) == 0)
        {
            FillRanges(bench, random);
        }

        TestBuffer[] buffers = new TestBuffer[random.Next(1, Math.Min(ring.Size, 12) + 1)];
        int writableFrom = random.Next(buffers.Length + 1);
        for (int i = 0; i < buffers.Length; i++)
        {
            bool isWild = random.Next(60) == 0;
            ulong address = i == 0 ? header : isWild ? (ulong)random.NextInt64() : BlockBench.Bytes + (ulong)random.Next(0x10000);
            int length = i == 0 ? random.Next(10) == 0 ? random.Next(20) : RequestHeaderSize
                : random.Next(4) switch { 0 => random.Next(1, 40), 1 => random.Next(0, 3), 2 => random.Next(0x40) * 512, _ => random.Next(8) * 16 };
            buffers[i] = new TestBuffer(address, isWild ? random.Next() : length, i >= writableFrom && i != 0);
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

    private static void FillRanges(BlockBench bench, Random random)
    {
        Span<byte> bytes = bench.Ram(BlockBench.Bytes, 0x10000);
        for (int i = 0; i < 16; i++)
        {
            Span<byte> range = bytes.Slice(random.Next(0xFF0), RangeSize);
            range.Clear();
            range[0] = (byte)random.Next();
            range[1] = (byte)random.Next(9);
            range[RangeNumSectors] = (byte)random.Next();
            range[RangeFlags] = (byte)random.Next(3);
        }
    }
}
