using System.Diagnostics;
using System.Globalization;
using System.Text;
using Tutti.Cpu.Interpreter;
using Tutti.Cpu.Interpreter.Tests;
using Tutti.Cpu.Interpreter.Tests.Oracle;
using Xunit.Abstractions;

namespace Tutti.Cpu.Translator.Tests.Kernel;

/// <summary>
/// Random kernels, with handlers, page tables, user mode and changes of all of it, leave the same machine behind in the interpreter and in the
/// translator, which interrupts come to at any time.
/// </summary>
[Trait("Category", "Fuzz")]
public sealed class KernelProgramTests : IDisposable
{
    private const int ShortRuns = 150;

    private static readonly int Seconds = FromEnvironment("TUTTI_FUZZ_SECONDS");
    private static readonly int Seed = FromEnvironment("TUTTI_FUZZ_SEED");
    private static readonly TimeSpan ShrinkTime = TimeSpan.FromSeconds(60);

    private readonly KernelMachine _reference = new(new SoftwareEngine());
    private readonly KernelMachine _tested = new(TestedEngine.Create());
    private readonly ITestOutputHelper _output;
    private int _events;
    private int _exits;
    private int _late;
    private int _undefined;
    private TimeSpan _longest;
    private ulong _longestSeed;

    public KernelProgramTests(ITestOutputHelper output) => _output = output;

    public void Dispose()
    {
        _reference.Dispose();
        _tested.Dispose();
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void Kernels_end_as_in_the_interpreter(int shard)
    {
        using var done = new CancellationTokenSource();
        Thread disturber = BeginDisturbing(done.Token);
        var watch = Stopwatch.StartNew();
        string? failure = null;
        int run = 0;
        try
        {
            for (; failure == null && (Seconds > 0 ? watch.Elapsed.TotalSeconds < Seconds / 4.0 : run < ShortRuns); run++)
            {
                ulong seed = ((ulong)Seed << 40) + ((ulong)shard << 32) + (ulong)run;
                KernelProgram program = KernelProgram.Random(seed);
                if (Difference(program) is { } difference)
                {
                    failure = $"At first {difference}\n{Describe(program, run)}";
                }
            }
        }
        finally
        {
            done.Cancel();
            disturber.Join();
        }

        _output.WriteLine($"{run} programs, {_exits} came to their end, {_late} were stopped, {_undefined} used an undefined flag, {_events} events; one took {_longest.TotalMilliseconds:F0} ms, image {_longestSeed:x}");
        Assert.True(failure == null, failure);
        Assert.True(_events > run && _exits > run / 2, "Hardly a program has done anything.");
        Assert.True(_undefined <= 2 + (run / 1000), "AF differs too often to be undefined.");
    }

    private static int FromEnvironment(string name) =>
        int.TryParse(Environment.GetEnvironmentVariable(name), NumberStyles.None, CultureInfo.InvariantCulture, out int value) ? value : 0;

    private Thread BeginDisturbing(CancellationToken done)
    {
        Thread thread = new(() =>
        {
            var random = new SeededRandom((ulong)Seed);
            while (!done.IsCancellationRequested)
            {
                for (int distractions = random.Below(16); distractions > 0; distractions--)
                {
                    Thread.SpinWait(random.Below(250));
                    _tested.Distract();
                }

                Thread.SpinWait(random.Below(2000));
                _tested.Disturb(random);
                _reference.Disturb(random);
            }
        });
        thread.Start();
        return thread;
    }

    /// <summary>What differs, if anything does.</summary>
    private string? Difference(KernelProgram program)
    {
        var image = new KernelImage(program.ImageSeed);
        new KernelProgramBuilder(image, program).Build();
        KernelEnding expected = _reference.Run(image);
        string? difference = null;
        for (int run = 0; run < 2 && difference == null; run++)
        {
            var watch = Stopwatch.StartNew();
            KernelEnding ending = _tested.Run(image);
            if (watch.Elapsed > _longest)
            {
                (_longest, _longestSeed) = (watch.Elapsed, program.ImageSeed);
            }

            List<string> found = expected != ending ? [string.Create(CultureInfo.InvariantCulture, $"{expected}, translator {ending} at {_tested.Registers.Rip:x}, RSP {_tested.Registers.Gpr[4]:x}, RFLAGS {_tested.Registers.Rflags:x}")] : [];
            if (expected != KernelEnding.TooLate)
            {
                found.AddRange(KernelComparison.Compare(_reference, _tested));
            }

            if (found.Count != 0 && KernelComparison.DiffersByUndefinedFlag(_reference.Ram, _tested.Ram))
            {
                _undefined++;
                found.Clear();
            }

            difference = found.Count == 0 ? null : $"run {run}:\n    " + string.Join("\n    ", found);
        }

        _exits += expected == KernelEnding.Exit ? 1 : 0;
        _late += expected == KernelEnding.TooLate ? 1 : 0;
        _events += KernelComparison.Count(_reference.Ram);
        return difference;
    }

    /// <summary>The program without what does not matter, and what differs then.</summary>
    private string Describe(KernelProgram program, int run)
    {
        var watch = Stopwatch.StartNew();
        KernelProgram smallest = program;
        bool shrinks = true;
        while (shrinks && watch.Elapsed < ShrinkTime)
        {
            shrinks = false;
            foreach (KernelProgram smaller in smallest.Smaller())
            {
                if (watch.Elapsed < ShrinkTime && Difference(smaller) != null)
                {
                    smallest = smaller;
                    shrinks = true;
                    break;
                }
            }
        }

        string? difference = null;
        for (int attempt = 0; attempt < 20 && difference == null; attempt++)
        {
            difference = Difference(smallest);
        }

        var image = new KernelImage(smallest.ImageSeed);
        var text = new StringBuilder();
        text.AppendLine(CultureInfo.InvariantCulture, $"TUTTI_FUZZ_SEED {Seed}, run {run}: {difference ?? "gone when run again"}");
        text.AppendLine(new KernelProgramBuilder(image, smallest).Build());
        text.AppendLine("events in the interpreter:").Append(KernelComparison.Events(_reference));
        return text.ToString();
    }
}
