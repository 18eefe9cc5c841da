using System.Diagnostics;
using System.Globalization;
using Tutti.Cpu.Interpreter.Tests.Oracle;
using Tutti.Host;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.Fuzz;

/// <summary>
/// Random bytes as code, from decoder to execution, in every mode: no exception out of the engine, no hang, no access outside
/// guest memory (whose mapping has unreadable addresses on both sides: such an access ends the test process).
/// </summary>
[Trait("Category", "Fuzz")]
public sealed class ExecutionFuzzTests
{
    private const int ShortRuns = 1000;

    /// <summary>How long a guest may go on before it is asked to stop, in nanoseconds.</summary>
    private const long RunTime = 1_000_000;

    private static readonly TimeSpan Hang = TimeSpan.FromSeconds(30);
    private static readonly int Seconds = FromEnvironment("TUTTI_FUZZ_SECONDS");
    private static readonly int Seed = FromEnvironment("TUTTI_FUZZ_SEED");

    private int _run;
    private long _runStarted;
    private bool _done;

    public static TheoryData<FuzzMode> Modes => [.. Enum.GetValues<FuzzMode>()];

    [Theory]
    [MemberData(nameof(Modes))]
    public void Random_code_does_nothing_but_run(FuzzMode mode)
    {
        // Not disposed of where the test fails: a guest that hangs still runs in it.
        HostMapping mapping = new(FuzzGuest.RamSize);
        GuestMemory memory = new(GuestMemoryLayout.Pc(FuzzGuest.RamSize), mapping.Address);
        var platform = new GuestPlatform();
        IPartition partition = TestedEngine.Create().CreatePartition(new PartitionOptions
        {
            Memory = memory,
            Io = platform,
            Clock = platform,
            Cpu = CpuModel.Host,
            CreateLocalApic = (_, _) => platform,
        });
        var processor = (SoftwareProcessor)partition.Processors[0];
        Exception? failure = null;
        Thread worker = new(() =>
        {
            try
            {
                RunAll(mode, memory, processor);
            }
            catch (Exception e)
            {
                failure = e;
            }

            Volatile.Write(ref _done, true);
        });
        Volatile.Write(ref _runStarted, Stopwatch.GetTimestamp());
        worker.Start();
        Watch(mode, processor, platform);
        worker.Join();
        Assert.True(failure == null, $"{Where(mode)}: {failure}");
        Assert.True(!TestedEngine.CountsInstructions || processor.InstructionCount > (ulong)_run, "Hardly an instruction has run.");
        partition.Dispose();
        mapping.Dispose();
    }

    private static int FromEnvironment(string name) =>
        int.TryParse(Environment.GetEnvironmentVariable(name), NumberStyles.None, CultureInfo.InvariantCulture, out int value) ? value : 0;

    private static ulong RunSeed(FuzzMode mode, int run) => ((ulong)Seed << 40) ^ ((ulong)mode << 32) ^ (ulong)run;

    private string Where(FuzzMode mode) => $"mode {mode}, TUTTI_FUZZ_SEED {Seed}, run {_run}";

    private void RunAll(FuzzMode mode, GuestMemory memory, SoftwareProcessor processor)
    {
        long start = Stopwatch.GetTimestamp();
        TimeSpan limit = TimeSpan.FromSeconds((double)Seconds / Enum.GetValues<FuzzMode>().Length);
        for (int run = 0; Seconds > 0 ? Stopwatch.GetElapsedTime(start) < limit : run < ShortRuns; run++)
        {
            _run = run;
            ProcessorRegisters registers = new FuzzGuest(memory, new SeededRandom(RunSeed(mode, run))).Prepare(mode);
            processor.SetRegisters(registers);
            Volatile.Write(ref _runStarted, Stopwatch.GetTimestamp());
            ProcessorExit exit = processor.Run();
            if (exit.Kind == ProcessorExitKind.InternalError)
            {
                throw new InvalidOperationException(exit.Message);
            }
        }
    }

    /// <summary>Stops guests that go on, brings interrupts, and fails where a guest can't be stopped.</summary>
    private void Watch(FuzzMode mode, SoftwareProcessor processor, GuestPlatform platform)
    {
        using HostEvent pause = new();
        SeededRandom random = new((ulong)Seed);
        while (!Volatile.Read(ref _done))
        {
            pause.Wait(RunTime);
            TimeSpan running = Stopwatch.GetElapsedTime(Volatile.Read(ref _runStarted));
            Assert.True(running < Hang, $"{Where(mode)} does not stop");
            if (random.Percent(30))
            {
                platform.PendingVector = random.Below(256);
                processor.SignalInterrupt();
            }
            else if (random.Percent(5))
            {
                processor.SignalNmi();
            }
            else
            {
                processor.RequestExit();
            }
        }
    }
}
