using System.Diagnostics;
using System.Text.Json;
using Tutti.Devices.Pci;
using Tutti.Virtio.Console;
using Tutti.Virtio.Entropy;
using Tutti.Virtio.Pci;
using static Tutti.Virtio.Pci.VirtioPciLayout;

namespace Tutti.Virtio.Tests.Pci;

/// <summary>Random drivers, seeded: nothing throws, no work goes on for ever, nothing outside RAM is written, and a restored device answers as the saved one.</summary>
[Trait("Category", "Fuzz")]
public sealed class VirtioFuzzTests
{
    private const int Steps = 600;
    private const int ShortRuns = 25;
    private const int MaxWork = 400;
    private const ulong Rings = 0x1_0000;
    private const int RingSpan = 0x1000;
    private static readonly string[] Kinds = ["echo", "rng", "console"];

    public static TheoryData<string> Devices() => [.. Kinds];

    [Theory]
    [MemberData(nameof(Devices))]
    public void Random_rings_do_no_harm(string kind) => Repeat(kind, FuzzRings);

    [Theory]
    [MemberData(nameof(Devices))]
    public void Random_accesses_do_no_harm_and_survive_save_and_restore(string kind) => Repeat(kind, FuzzRegisters);

    private static void Repeat(string kind, Action<string, Random> run)
    {
        int seed = Setting("TUTTI_FUZZ_SEED", 1);
        TimeSpan time = TimeSpan.FromSeconds((double)Setting("TUTTI_FUZZ_SECONDS", 0) / (2 * Kinds.Length));
        Stopwatch watch = Stopwatch.StartNew();
        for (int i = 0; i < ShortRuns || watch.Elapsed < time; i++)
        {
            try
            {
                run(kind, new Random(unchecked(seed + i)));
            }
            catch (Exception exception)
            {
                throw new InvalidOperationException($"{kind}: seed {unchecked(seed + i)}", exception);
            }
        }
    }

    private static int Setting(string name, int otherwise) =>
        int.TryParse(Environment.GetEnvironmentVariable(name), out int value) ? value : otherwise;

    private static VirtioDevice Make(string kind, PciBed bed, TestGuestClock clock) => kind switch
    {
        "echo" => new EchoDevice(bed.Worker),
        "rng" => new VirtioRng(new Zeroes(), bed.Worker, clock),
        _ => new VirtioConsole(new Sink(), bed.Worker, clock),
    };

    private static void FuzzRings(string kind, Random random)
    {
        using PciBed bed = new();
        TestGuestClock clock = new();
        VirtioDevice device = Make(kind, bed, clock);
        PciDriver driver = new(bed, bed.Plug(device).Slot);
        GuestQueue[] queues = Start(driver, device, random);
        for (int step = 0; step < Steps; step++)
        {
            int index = random.Next(queues.Length);
            Disturb(bed, queues[index], random);
            driver.Notify(index);
            if (device is VirtioConsole console && random.Next(4) == 0)
            {
                Assert.InRange(console.Receive(new byte[random.Next(300)]), 0, 300);
                console.Resize((ushort)random.Next(3), 1);
            }

            Assert.InRange(bed.Worker.Run(MaxWork), 0, MaxWork - 1);
            clock.Advance(random.Next(10_000_000));
            if ((driver.Status & VirtioStatus.DeviceNeedsReset) != 0)
            {
                queues = Start(driver, device, random);
            }
        }

        Assert.True(bed.AreGuardsWhole());
    }

    private static GuestQueue[] Start(PciDriver driver, VirtioDevice device, Random random)
    {
        ulong features = random.Next(2) == 0 ? ulong.MaxValue : ulong.MaxValue & ~VirtioFeatures.EventIdx;
        driver.Begin(features & ~EchoDevice.FeatureNeedsA);
        GuestQueue[] queues = [.. Enumerable.Range(0, device.QueueCount).Select(
            i => driver.AddQueue(i, 1 << random.Next(1, 7), Rings + (ulong)(i * RingSpan), features))];
        driver.Finish();
        return queues;
    }

    private static void Disturb(PciBed bed, GuestQueue queue, Random random)
    {
        for (int i = random.Next(6); i >= 0; i--)
        {
            // Mostly near the truth: nonsense alone is found out at once.
            ulong address = random.Next(12) switch
            {
                0 => (ulong)random.NextInt64(),
                1 => PciBed.RegionSize - (ulong)random.Next(64),
                2 => Rings + (ulong)random.Next(2 * RingSpan),
                3 => PciBed.HighStart + PciBed.RegionSize - (ulong)random.Next(64),
                _ => PciBed.HighStart + (ulong)random.Next(0x4000),
            };
            uint length = random.Next(12) switch { 0 => (uint)random.Next(), 1 => uint.MaxValue, 2 => 0, _ => (uint)random.Next(1, 50) * 16 };
            ushort flags = random.Next(12) == 0 ? (ushort)random.Next(0x10000) : (ushort)random.Next(random.Next(3) == 0 ? 8 : 4);
            ulong table = random.Next(3) == 0 ? PciBed.HighStart + (ulong)(16 * random.Next(64)) : queue.Descriptors + (ulong)(16 * random.Next(64));
            queue.Describe(table, address, length, flags, (ushort)random.Next(random.Next(8) == 0 ? 0x10000 : 16));
        }

        switch (random.Next(16))
        {
            case 0:
                queue.SetAvailableIndex((ushort)random.Next(0x10000));
                break;
            case 1:
                bed.Ram(Rings + (ulong)random.Next(2 * RingSpan), 1)[0] = (byte)random.Next(256);
                break;
            case 2:
                queue.SetUsedEvent((ushort)random.Next(0x10000));
                break;
        }

        for (int i = random.Next(4); i > 0; i--)
        {
            queue.Offer((ushort)random.Next(random.Next(20) == 0 ? 0x10000 : 8));
        }
    }

    private static void FuzzRegisters(string kind, Random random)
    {
        using PciBed bed = new();
        TestGuestClock clock = new();
        VirtioPciFunction function = bed.Plug(Make(kind, bed, clock));
        PciDriver driver = new(bed, function.Slot);
        for (int step = 0; step < Steps; step++)
        {
            _ = Access(bed, driver, random);
            Assert.InRange(bed.Worker.Run(MaxWork), 0, MaxWork - 1);
        }

        // What is restored, is what was saved, and takes the same accesses.
        PciFunctionState configuration = function.SaveConfiguration();
        VirtioPciState state = function.Save();
        _ = bed.Bus.Remove(function.Slot);
        Assert.Empty(bed.Doorbells);
        VirtioPciFunction copy = bed.Plug(Make(kind, bed, clock));
        copy.RestoreConfiguration(configuration);
        copy.Restore(state);
        Assert.Equal(Text(state), Text(copy.Save()));
        for (int step = 0; step < Steps; step++)
        {
            _ = Access(bed, driver, random);
            Assert.InRange(bed.Worker.Run(MaxWork), 0, MaxWork - 1);
        }

        Assert.True(bed.AreGuardsWhole());
    }

    private static string Text(VirtioPciState state) =>
        JsonSerializer.Serialize(state) + JsonSerializer.Serialize<object?>(state.Device.Own);

    private static ulong Access(PciBed bed, PciDriver driver, Random random)
    {
        int width = 1 << random.Next(4);
        bool isWrite = random.Next(3) != 0;
        switch (random.Next(10))
        {
            case 0:
                int offset = random.Next(2) == 0 ? random.Next(0x100) : driver.Structures[TypePciCfg].Capability + random.Next(20);
                width = Math.Min(width, 4);
                if (isWrite && offset is not (> 0 and < 0x28))
                {
                    // The ranges stay where they are, so that the accesses find them.
                    driver.WriteConfig(offset, Value(random), width);
                }

                return driver.ReadConfig(offset, width);
            case 1:
                ulong vectors = PciBed.MsixBar + (ulong)random.Next(0x1000);
                if (isWrite)
                {
                    driver.Write(vectors, Value(random), width);
                }

                return driver.Read(vectors, width);
            case 2:
                return Begin(driver, random);
            case 3:
                driver.Write(PciBed.RegisterBar + NotifyOffset + (ulong)random.Next(16), Value(random), width);
                return 0;
            case 4:
                bed.Ram(Rings + (ulong)random.Next(0x3000), 1)[0] = (byte)random.Next(256);
                return 0;
            default:
                return AccessCommon(driver, random, width, isWrite);
        }
    }

    // A driver that does most things as it should.
    private static ulong Begin(PciDriver driver, Random random)
    {
        byte[] statuses = [0, 1, 3, 0xB, 0xF, (byte)random.Next(256)];
        foreach (byte status in statuses)
        {
            if (status == 0xB)
            {
                driver.WriteFeatures(driver.ReadFeatures() & ~EchoDevice.FeatureNeedsA);
            }

            driver.WriteCommon(DeviceStatus, status, 1);
            if (random.Next(12) == 0)
            {
                break;
            }
        }

        return driver.Status;
    }

    private static ulong AccessCommon(PciDriver driver, Random random, int width, bool isWrite)
    {
        (int Offset, int Width)[] registers =
        [
            (DeviceFeatureSelect, 4), (DriverFeatureSelect, 4), (DriverFeature, 4), (ConfigMsixVector, 2), (DeviceStatus, 1), (QueueSelect, 2),
            (QueueSize, 2), (QueueMsixVector, 2), (QueueEnable, 2), (QueueDesc, 8), (QueueDriver, 8), (QueueDevice, 8), (QueueReset, 2),
        ];
        int offset;
        if (random.Next(8) == 0)
        {
            offset = random.Next((int)RegisterBarSize);
        }
        else
        {
            (offset, width) = registers[random.Next(registers.Length)];
        }

        if (isWrite)
        {
            driver.Write(PciBed.RegisterBar + (ulong)offset, Value(random), width);
        }

        return driver.Read(PciBed.RegisterBar + (ulong)offset, width);
    }

    private static ulong Value(Random random) => random.Next(5) switch
    {
        0 => (ulong)random.NextInt64(),
        1 => Rings + (ulong)(random.Next(0x300) * 16),
        2 => 1UL << random.Next(10),
        _ => (ulong)random.Next(4),
    };

    private sealed class Zeroes : IEntropySource
    {
        public void Fill(Span<byte> buffer) => buffer.Clear();
    }

    private sealed class Sink : IVirtioConsoleBackend
    {
        public int Transmit(ReadOnlySpan<byte> data) => data.Length;

        public void ReceiveReady()
        {
        }
    }
}
