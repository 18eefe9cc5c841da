using System.Globalization;
using Tutti.Host;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Cpu.Kvm.Tests;

/// <summary>
/// Random code and random states in every mode: the process lives on, every run ends, and what can't go on says why. Guest
/// memory has unreadable addresses on both sides, and nothing but the engine's calls reaches the kernel.
/// </summary>
[Trait("Category", "Fuzz")]
public sealed class FuzzTests
{
    private const int ShortRuns = 150;
    private const int RamSize = 1 << 20;
    private const int CodeSize = 0x1000;
    private static readonly TimeSpan RunTime = TimeSpan.FromMilliseconds(2);
    private static readonly int Seconds = FromEnvironment("TUTTI_FUZZ_SECONDS");
    private static readonly int Seed = FromEnvironment("TUTTI_FUZZ_SEED");

    public static TheoryData<GuestMode> Modes => [.. Enum.GetValues<GuestMode>()];

    [KvmTheory]
    [MemberData(nameof(Modes))]
    public void Random_code_ends_in_one_of_three_ways(GuestMode mode) => Fuzz(mode, isState: false);

    [KvmTheory]
    [MemberData(nameof(Modes))]
    public void Random_states_are_refused_or_end_in_one_of_three_ways(GuestMode mode) => Fuzz(mode, isState: true);

    private static int FromEnvironment(string name) =>
        int.TryParse(Environment.GetEnvironmentVariable(name), NumberStyles.None, CultureInfo.InvariantCulture, out int value) ? value : 0;

    /// <summary>A thread runs guest after guest, and this one asks each to stop.</summary>
    private static void Fuzz(GuestMode mode, bool isState)
    {
        int run = 0;
        int ran = 0;
        using HostMapping mapping = new(RamSize);
        GuestMemory memory = new(GuestMemoryLayout.Pc(RamSize), mapping.Address);
        IVirtualProcessor? current = null;
        Exception? failure = null;
        long end = Environment.TickCount64 + (Seconds * 1000L / Modes.Count / 2);
        Thread worker = new(() =>
        {
            try
            {
                for (; Seconds > 0 ? Environment.TickCount64 < end : run < ShortRuns; run++)
                {
                    Random random = new(HashCode(mode, run));
                    using KvmPartition partition = KvmEngine.CreateKvmPartition(new PartitionOptions
                    {
                        Memory = memory,
                        Io = new RandomIo(random.Next()),
                        Clock = new StandingClock(),
                        Cpu = CpuModel.Host,
                    });
                    if (!Prepare(partition.Processors[0], memory, mode, random, isState))
                    {
                        continue;
                    }

                    Volatile.Write(ref current, partition.Processors[0]);
                    Check(partition.Processors[0].Run());
                    partition.Processors[0].GetRegisters(new ProcessorRegisters());
                    ran++;
                }
            }
            catch (Exception e)
            {
                failure = e;
            }
        });
        worker.Start();
        long begin = Environment.TickCount64;
        int seen = -1;
        while (!worker.Join(RunTime))
        {
            if (seen != Volatile.Read(ref run))
            {
                (seen, begin) = (Volatile.Read(ref run), Environment.TickCount64);
            }

            Assert.True(Environment.TickCount64 - begin < SmallGuest.Patience.TotalMilliseconds, $"mode {mode}, TUTTI_FUZZ_SEED {Seed}, run {run} does not stop");
            Volatile.Read(ref current)?.RequestExit();
        }

        Assert.True(failure == null, $"mode {mode}, TUTTI_FUZZ_SEED {Seed}, run {run}: {failure}");
        Assert.True(isState || ran == run, "guests were refused");
        Assert.InRange(ran, 1, run);
    }

    private static int HashCode(GuestMode mode, int run) => unchecked((Seed * 1_000_003) ^ ((int)mode << 24) ^ run);

    private static void Check(ProcessorExit exit)
    {
        Assert.True(Enum.IsDefined(exit.Kind));
        Assert.Equal(exit.Kind == ProcessorExitKind.InternalError, exit.Message != null);
        if (exit.Message != null)
        {
            Assert.NotEmpty(exit.Message);
            Assert.DoesNotContain(exit.Message, character => char.IsControl(character));
        }
    }

    /// <returns>Whether the kernel takes the state.</returns>
    private static bool Prepare(IVirtualProcessor processor, GuestMemory memory, GuestMode mode, Random random, bool isState)
    {
        byte[] code = new byte[CodeSize];
        random.NextBytes(code);
        Assert.True(memory.TryGetSpan(0, RamSize, out Span<byte> ram));
        ram.Clear();
        GuestTables.Write(memory);
        Assert.True(memory.TryWrite(SmallGuest.CodeAddress, code));
        ProcessorRegisters registers = new();
        processor.GetRegisters(registers);
        GuestTables.Enter(registers, mode, SmallGuest.CodeAddress);
        for (int i = 0; i < 16; i++)
        {
            registers.Gpr[i] = i == 4 ? GuestTables.Stack : Value(random);
        }

        // Half of the exceptions find a handler of random code.
        for (int vector = 0; vector < 32 && random.Next(2) == 0 && mode != GuestMode.Protected16; vector++)
        {
            GuestTables.SetHandler(memory, mode, vector, SmallGuest.CodeAddress + (ulong)random.Next(CodeSize));
        }

        if (isState)
        {
            Damage(registers, random);
        }

        try
        {
            processor.SetRegisters(registers);
            return true;
        }
        catch (Exception e) when (isState && e is HostException or ArgumentException)
        {
            Assert.NotEmpty(e.Message);
            return false;
        }
    }

    /// <summary>Changes one to three parts of a state to any value.</summary>
    private static void Damage(ProcessorRegisters registers, Random random)
    {
        for (int i = random.Next(1, 4); i > 0; i--)
        {
            ulong bit = 1ul << random.Next(64);
            switch (random.Next(16))
            {
                case 0:
                    registers.Cr0 ^= 1ul << random.Next(32);
                    break;
                case 1:
                    registers.Cr3 = Value(random);
                    break;
                case 2:
                    registers.Cr4 ^= 1ul << random.Next(32);
                    break;
                case 3:
                    registers.Efer ^= 1ul << random.Next(16);
                    break;
                case 4:
                    registers.Rflags ^= bit;
                    break;
                case 5:
                    registers.Segments[random.Next(6)] = Segment(random);
                    break;
                case 6:
                    registers.Tr = Segment(random);
                    break;
                case 7:
                    registers.Ldtr = Segment(random);
                    break;
                case 8:
                    registers.Rip = Value(random);
                    break;
                case 9:
                    (registers.GdtBase, registers.GdtLimit) = (Value(random), (ushort)random.Next());
                    break;
                case 10:
                    (registers.IdtBase, registers.IdtLimit) = (Value(random), (ushort)random.Next());
                    break;
                case 11:
                    registers.Dr[random.Next(8)] = (uint)Value(random);
                    break;
                case 12:
                    random.NextBytes(registers.FxState);
                    break;
                case 13:
                    registers.Xcr0 ^= 1ul << random.Next(10);
                    break;
                case 14:
                    registers.Activity = (ProcessorActivity)random.Next(3);
                    (registers.InterruptShadow, registers.NmiBlocked, registers.NmiPending) = (random.Next(2) == 0, random.Next(2) == 0, random.Next(2) == 0);
                    break;
                default:
                    registers.Msrs[registers.Msrs.Keys.ElementAt(random.Next(registers.Msrs.Count))] = Value(random);
                    break;
            }
        }
    }

    private static SegmentRegister Segment(Random random) =>
        new((ushort)random.Next(), Value(random), (uint)Value(random), (ushort)(random.Next() & 0xF0FF));

    /// <summary>Near the guest's memory, small, a device's address, or anything.</summary>
    private static ulong Value(Random random) => random.Next(4) switch
    {
        0 => (ulong)random.Next(RamSize),
        1 => (ulong)random.Next(16),
        2 => 0xD000_0000 + (ulong)random.Next(RamSize),
        _ => (ulong)random.NextInt64(long.MinValue, long.MaxValue),
    };

    private sealed class RandomIo(int seed) : ICpuIo
    {
        private readonly Random _random = new(seed);

        public void ReadPort(ushort port, Span<byte> data) => Answer(data);

        public void WritePort(ushort port, ReadOnlySpan<byte> data) => Assert.True(data.Length is 1 or 2 or 4);

        public void ReadMmio(ulong address, Span<byte> data) => Answer(data);

        public void WriteMmio(ulong address, ReadOnlySpan<byte> data) => Assert.True(data.Length is 1 or 2 or 4 or 8);

        private void Answer(Span<byte> data)
        {
            Assert.True(data.Length is 1 or 2 or 4 or 8);
            _random.NextBytes(data);
        }
    }
}
