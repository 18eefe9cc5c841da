using System.Buffers.Binary;
using System.Diagnostics;
using System.Text.Json;
using Tutti.Devices.Pci;

namespace Tutti.Devices.Tests.Pci;

/// <summary>Random accesses to a bus of functions, while they come, go and interrupt: nothing throws, and what is decoded is what the registers say.</summary>
[Trait("Category", "Fuzz")]
public sealed class PciFuzzTests
{
    private const int Steps = 3_000;
    private const int ShortRuns = 20;
    private static readonly int[] Places = [0, 4, 6, 0x0C, 0x10, 0x14, 0x18, 0x1C, 0x30, 0x34, 0x3C, 0x40, 0x42, 0x44, 0x4C, 0xFE, 0xFFC];

    [Fact]
    public void Random_accesses_do_no_harm_and_survive_save_and_restore()
    {
        int seed = Setting("TUTTI_FUZZ_SEED", 1);
        TimeSpan time = TimeSpan.FromSeconds(Setting("TUTTI_FUZZ_SECONDS", 0));
        Stopwatch watch = Stopwatch.StartNew();
        for (int run = 0; run < ShortRuns || watch.Elapsed < time; run++)
        {
            try
            {
                Run(unchecked(seed + run));
            }
            catch (Exception exception)
            {
                throw new InvalidOperationException($"seed {unchecked(seed + run)}", exception);
            }
        }
    }

    private static int Setting(string name, int otherwise) =>
        int.TryParse(Environment.GetEnvironmentVariable(name), out int value) ? value : otherwise;

    private static void Run(int seed)
    {
        Random random = new(seed);
        PciBench bench = new();
        for (int slot = 1; slot < 6; slot++)
        {
            bench.Bus.Add(new TestFunction(), slot);
        }

        _ = bench.SetUp();
        for (int i = 0; i < Steps; i++)
        {
            Step(bench, random);
        }

        PciBench copy = new();
        foreach (PciFunction function in bench.Bus.Functions.Skip(1))
        {
            copy.Bus.Add(new TestFunction(), function.Slot);
        }

        copy.Bus.Restore(bench.Bus.Save());
        Assert.Equal(Text(bench), Text(copy));
        foreach (PciFunction function in bench.Bus.Functions.Skip(1))
        {
            CheckRanges(bench, function.Slot);
            Assert.Equal(bench.Lines[function.Slot].Asserted, copy.Lines[function.Slot].Asserted);
        }

        for (int slot = 1; slot < 32; slot++)
        {
            _ = bench.Bus.Remove(slot);
        }

        Assert.Equal(0, bench.Messages.Alive);
        Assert.All(bench.Lines, line => Assert.False(line.Asserted));
    }

    private static string Text(PciBench bench) => JsonSerializer.Serialize(bench.Bus.Save());

    private static void Step(PciBench bench, Random random)
    {
        int slot = random.Next(1, 7);
        switch (random.Next(12))
        {
            case < 5:
                Write(bench, random, slot);
                break;
            case 5:
                Span<byte> data = stackalloc byte[1 << random.Next(3)];
                bench.Mmio.Read(PciBench.EcamBase + (ulong)random.Next(1 << 20), data);
                bench.Ports.Read((ushort)(0xCF6 + random.Next(12)), data);
                break;
            case 6:
                data = stackalloc byte[1 << random.Next(4)];
                random.NextBytes(data);
                bench.Mmio.Write(NearTable(bench, random, slot), data);
                break;
            case 7:
                data = stackalloc byte[1 << random.Next(4)];
                bench.Mmio.Read(NearTable(bench, random, slot), data);
                break;
            case 8:
                Find(bench, slot)?.Msix.Signal(random.Next(-1, TestFunction.VectorCount + 1));
                break;
            case 9:
                Find(bench, slot)?.SetLine(random.Next(2) == 0);
                break;
            case 10 when random.Next(20) == 0:
                if (bench.Bus.Remove(slot) == null)
                {
                    bench.Bus.Add(new TestFunction(), slot);
                }

                break;
            default:
                // What a working guest does: a vector that can be sent.
                ulong entry = Address(bench, slot) + TestFunction.TableOffset + (ulong)(random.Next(TestFunction.VectorCount) * 16);
                bench.Mmio.Write(entry, [0, 0, 0xE0, 0xFE]);
                bench.Mmio.Write(entry + 12, [(byte)random.Next(2), 0, 0, 0]);
                bench.WriteConfig(slot, 0x40, random.Next(4) == 0 ? 0xC000_0000 : 0x8000_0000);
                bench.WriteConfig(slot, 4, random.Next(4) == 0 ? 3u : 7u, 2);
                break;
        }
    }

    private static void Write(PciBench bench, Random random, int slot)
    {
        int width = 1 << random.Next(3);
        int place = random.Next(3) == 0 ? random.Next(4096) : Places[random.Next(Places.Length)];
        uint value = random.Next(4) switch
        {
            0 => uint.MaxValue,
            1 => 0xD000_0000 + ((uint)random.Next(8) << 14),
            2 => (uint)random.Next(0x1_0000),
            _ => (uint)random.NextInt64(1L << 32),
        };
        Span<byte> data = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(data, value);
        if (random.Next(2) == 0)
        {
            bench.Mmio.Write(PciBench.EcamBase + ((ulong)slot << 15) + (ulong)place, data[..width]);
        }
        else if (random.Next(10) == 0)
        {
            bench.Ports.Write((ushort)(0xCF6 + random.Next(12)), data[..width]);
        }
        else
        {
            bench.WriteConfig(slot, place & 0xFC, value, width);
        }
    }

    private static TestFunction? Find(PciBench bench, int slot) => bench.Bus.Functions.FirstOrDefault(function => function.Slot == slot) as TestFunction;

    private static ulong Address(PciBench bench, int slot) =>
        (bench.ReadConfig(slot, 0x10, 4) & ~0xFu) | ((ulong)bench.ReadConfig(slot, 0x14, 4) << 32);

    private static ulong NearTable(PciBench bench, Random random, int slot) => Address(bench, slot) + (ulong)random.Next(0x4010);

    /// <summary>A range is decoded where its register says, unless something else is there.</summary>
    private static void CheckRanges(PciBench bench, int slot)
    {
        if ((bench.ReadConfig(slot, 4, 2) & 2) != 0 && Address(bench, slot) is not 0 and ulong address)
        {
            Assert.True(bench.Mmio.Reaches(address, 1) || bench.Mmio.Reaches(address + 0x3FFF, 1) || address + 0x3FFF < address);
        }
    }
}
