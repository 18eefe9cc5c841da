using System.Diagnostics;
using Tutti.Devices.InterruptControllers;

namespace Tutti.Devices.Tests;

/// <summary>Random accesses and time steps, seeded: nothing throws, timers cost the host a bounded number of callbacks, and a restored board answers as the saved one.</summary>
[Trait("Category", "Fuzz")]
public sealed class DeviceFuzzTests
{
    private const int Steps = 4_000;
    private const int ShortRuns = 10;

    private static readonly Dictionary<string, (int First, int Count)[]> PortRanges = new()
    {
        ["pic"] = [(0x20, 2), (0xA0, 2), (0x4D0, 2)],
        ["pit"] = [(0x40, 4), (0x61, 1)],
        ["rtc"] = [(0x70, 2)],
        ["serial"] = [(0x3F8, 8)],
        ["i8042"] = [(0x60, 1), (0x64, 1), (0x92, 1)],
        ["acpi"] = [(0x600, 0x24), (0xCF9, 1)],
        ["apic"] = [],
        ["all"] = [(0, 0x10000), (0x20, 2), (0xA0, 2), (0x40, 4), (0x61, 1), (0x70, 2), (0x3F8, 8), (0x60, 5), (0x600, 0x24)],
    };

    public static TheoryData<string> Devices() => [.. PortRanges.Keys];

    [Theory]
    [MemberData(nameof(Devices))]
    public void Random_accesses_do_no_harm_and_survive_save_and_restore(string device)
    {
        // Short by default; TUTTI_FUZZ_SECONDS makes it long, TUTTI_FUZZ_SEED says where it starts.
        int seed = Setting("TUTTI_FUZZ_SEED", 1);
        TimeSpan time = TimeSpan.FromSeconds((double)Setting("TUTTI_FUZZ_SECONDS", 0) / PortRanges.Count);
        Stopwatch watch = Stopwatch.StartNew();
        for (int run = 0; run < ShortRuns || watch.Elapsed < time; run++)
        {
            try
            {
                Run(device, unchecked(seed + run));
            }
            catch (Exception exception)
            {
                throw new InvalidOperationException($"{device}: seed {unchecked(seed + run)}", exception);
            }
        }
    }

    private static int Setting(string name, int otherwise) =>
        int.TryParse(Environment.GetEnvironmentVariable(name), out int value) ? value : otherwise;

    private static void Run(string device, int seed)
    {
        Board board = new();
        Random random = new(seed);
        for (int i = 0; i < Steps / 2; i++)
        {
            Step(board, device, random);
        }

        Board copy = board.Copy();
        Assert.Equal(board.StateText, copy.StateText);
        int next = random.Next();
        Random first = new(next);
        Random second = new(next);
        for (int i = 0; i < Steps / 2; i++)
        {
            ulong expected = Step(board, device, first);
            ulong actual = Step(copy, device, second);
            Assert.True(expected == actual, $"Step {i} answers 0x{expected:X}, restored 0x{actual:X}.");
        }

        Assert.Equal(board.StateText, copy.StateText);
    }

    private static ulong Step(Board board, string device, Random random)
    {
        int kind = random.Next(10);
        if (kind == 0)
        {
            return PassTime(board, random);
        }

        if (kind == 1)
        {
            return FromOutside(board, random);
        }

        (int First, int Count)[] ranges = PortRanges[device];
        bool apic = ranges.Length == 0 || (device == "all" && random.Next(3) == 0);
        return apic ? AccessApic(board, random) : AccessPort(board, ranges, random);
    }

    private static ulong PassTime(Board board, Random random)
    {
        int before = board.Clock.Callbacks;
        long time = random.Next(8) == 0 ? random.NextInt64(20_000_000) : random.Next(100_000);
        if (random.Next(50) == 0)
        {
            board.Clock.Jump(random.NextInt64(7_200_000_000_000));
            Assert.InRange(board.Clock.Callbacks - before, 0, 100);
            return 0;
        }

        board.Clock.Advance(time);

        // Three timers can be periodic at the limit; the others expire once or at most 8,192 times a second.
        Assert.InRange(board.Clock.Callbacks - before, 0, (4 * (time / TimerLimits.MinimumPeriodNanoseconds)) + 20);
        return (ulong)(board.Clock.Callbacks - before);
    }

    private static ulong FromOutside(Board board, Random random)
    {
        switch (random.Next(4))
        {
            case 0:
                Span<byte> input = stackalloc byte[random.Next(40)];
                random.NextBytes(input);
                return (ulong)board.Serial.Receive(input);
            case 1:
                board.Pm.PressPowerButton();
                return 0;
            case 2:
                board.Pm.RaiseGpe(random.Next(16));
                return 0;
            default:
                return (ulong)board.Apics[random.Next(2)].AcknowledgeInterrupt();
        }
    }

    private static ulong AccessPort(Board board, (int First, int Count)[] ranges, Random random)
    {
        (int first, int count) = ranges[random.Next(ranges.Length)];
        ushort port = (ushort)(first + random.Next(count));
        Span<byte> data = stackalloc byte[random.Next(4) switch { 0 => 2, 1 => 4, _ => 1 }];
        if (random.Next(2) == 0)
        {
            random.NextBytes(data);
            board.Ports.Write(port, data);
            return 0;
        }

        board.Ports.Read(port, data);
        return Value(data);
    }

    private static ulong AccessApic(Board board, Random random)
    {
        Span<byte> data = stackalloc byte[1 << random.Next(4)];
        random.NextBytes(data);
        if (random.Next(2) == 0)
        {
            // Small values reach the counts and vectors that matter.
            data[1..].Clear();
        }

        LocalApic apic = board.Apics[random.Next(2)];
        uint offset = (uint)random.Next(0x40) << 4;
        switch (random.Next(24))
        {
            case >= 12:
                return UseApic(apic, board, random);
            case < 3:
                board.Mmio.Write(IoApicRegisters.DefaultBase + (ulong)(random.Next(5) * 0x10), data);
                return 0;
            case 3:
                board.Mmio.Read(IoApicRegisters.DefaultBase + (ulong)random.Next(0x48), data);
                return Value(data);
            case < 7:
                Span<byte> word = stackalloc byte[4];
                data[..Math.Min(4, data.Length)].CopyTo(word);
                word[2] = (byte)random.Next(8);
                apic.WriteMmio(offset, word);
                return 0;
            case 7:
                apic.ReadMmio((uint)random.Next(0x1000), data);
                return Value(data);
            case 8:
                return apic.TryWriteMsr(RandomMsr(random), Value(data)) ? 1UL : 0;
            case 9:
                return apic.TryReadMsr(RandomMsr(random), out ulong value) ? value : ulong.MaxValue;
            case 10:
                apic.TaskPriority = (byte)random.Next(16);
                return apic.TaskPriority;
            default:
                return random.Next(10) == 0 && apic.TryWriteApicBase(0xFEE0_0000 | ((ulong)random.Next(8) << 8 << random.Next(2))) ? apic.ApicBase : 0;
        }
    }

    // What a working guest does: pure noise would leave the APIC switched off most of the time.
    private static ulong UseApic(LocalApic apic, Board board, Random random)
    {
        byte vector = (byte)random.Next(16, 256);
        switch (random.Next(9))
        {
            case 0:
                apic.WriteMmio(0xF0, [0xFF, 0x01, 0, 0]);
                return 0;
            case 1:
                apic.WriteMmio(0x320, [vector, 0, (byte)(random.Next(3) << 1), 0]);
                return 0;
            case 2:
                ulong deadline = (ulong)(board.Clock.Nanoseconds + apic.TscOffset + random.Next(200_000));
                return apic.TryWriteMsr(0x6E0, deadline) ? 1UL : 0;
            case 3:
                apic.WriteMmio(0x300, [vector, 0x40, (byte)(random.Next(1, 4) << 2), 0]);
                return 0;
            case 4:
                apic.WriteMmio(0x350, [vector, (byte)(random.Next(2) == 0 ? 0x87 : 0x80), 0, 0]);
                return 0;
            case 5:
                int pin = random.Next(2) == 0 ? 9 : random.Next(24);
                board.Mmio.Write(IoApicRegisters.DefaultBase, [(byte)(0x10 + (2 * pin)), 0, 0, 0]);
                board.Mmio.Write(IoApicRegisters.DefaultBase + 0x10, [vector, 0x80, 0, 0]);
                return 0;
            case 6:
                board.Ports.Write(0x602, [0x00, 0x01]);
                board.Pm.PressPowerButton();
                return 0;
            case 7:
                board.Ports.Write(0x600, [0x00, 0x01]);
                apic.TscOffset = random.Next(1_000_000);
                return 0;
            default:
                apic.WriteMmio(0xB0, new byte[4]);
                apic.TryWriteMsr(0x80B, 0);
                return (ulong)apic.AcknowledgeInterrupt();
        }
    }

    private static uint RandomMsr(Random random) => random.Next(4) == 0 ? 0x6E0 : 0x800 + (uint)random.Next(0x40);

    private static ulong Value(ReadOnlySpan<byte> data)
    {
        ulong value = 0;
        for (int i = 0; i < data.Length; i++)
        {
            value |= (ulong)data[i] << (8 * i);
        }

        return value;
    }
}
