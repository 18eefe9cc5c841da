using System.Diagnostics;
using Tutti.Bench;
using Tutti.Guests;

namespace Tutti.Compare;

/// <summary>Runs the chosen benchmarks in all places, one place after the other, in another order each round.</summary>
internal sealed class Rounds(BenchmarkPrograms programs, GuestImage image, string engine, IReadOnlyList<Benchmark> chosen, Comparison comparison, Action<string> report)
{
    private static readonly TimeSpan BootPatience = TimeSpan.FromMinutes(2);

    /// <summary>What the kernel still does when init runs is done by then.</summary>
    private static readonly TimeSpan Settling = TimeSpan.FromSeconds(1.5);

    /// <summary>How far a guest's clock may be from the host's: a share, and what the way of the lines to us may add.</summary>
    private const double ClockShare = 0.02;
    private const double ClockSlack = 0.1;

    private bool Wants(string name) => chosen.Any(benchmark => benchmark.Name == name);

    /// <param name="rounds">How often each place is measured.</param>
    /// <param name="measureMore">What else is measured, in the same turn.</param>
    internal void Run(int rounds, Action<Place> measureMore)
    {
        Place[] places = [Place.Native, Place.Tutti, Place.Qemu];
        for (int round = 0; round < rounds; round++)
        {
            for (int i = 0; i < places.Length; i++)
            {
                Place place = places[(round + i) % places.Length];
                string what = place switch { Place.Native => "natively", Place.Tutti => "Tutti", _ => "QEMU" };
                report($"round {round + 1} of {rounds}: {what}");
                MeasurePrograms(place);
                if (place != Place.Native && (Wants(Benchmark.Boot) || Wants(Benchmark.Memory)))
                {
                    MeasureBoot(place);
                }

                measureMore(place);
            }
        }
    }

    private void MeasurePrograms(Place place)
    {
        bool pair = Wants(Benchmark.TwoProcessors);
        List<string> names = [.. chosen.Where(benchmark => benchmark.IsProgram).Select(benchmark => benchmark.Name)];
        if (pair && !names.Contains(Benchmark.Integer))
        {
            names.Add(Benchmark.Integer);
        }

        if (names.Count == 0)
        {
            return;
        }

        IReadOnlyDictionary<string, ProgramResult> results = RunPrograms(place, names, 1);
        foreach (Benchmark benchmark in chosen.Where(benchmark => benchmark.IsProgram))
        {
            ProgramResult result = results[benchmark.Name];
            if (Accept(benchmark.Name, place, result))
            {
                comparison.Add(benchmark.Name, place, benchmark.Unit.FromNanoseconds(result.NanosecondsPerOperation));
            }
        }

        if (pair)
        {
            MeasurePair(place, results[Benchmark.Integer]);
        }
    }

    /// <summary>What two processors do together, in units of what one does alone.</summary>
    private void MeasurePair(Place place, ProgramResult alone)
    {
        if (Environment.ProcessorCount < 2)
        {
            comparison.AddProblem(Benchmark.TwoProcessors, place, "host has one core");
            return;
        }

        ProgramResult both = RunPrograms(place, [Benchmark.Pair], 2)[Benchmark.Pair];
        if (Accept(Benchmark.TwoProcessors, place, alone) && Accept(Benchmark.TwoProcessors, place, both))
        {
            comparison.Add(Benchmark.TwoProcessors, place, alone.NanosecondsPerOperation / both.NanosecondsPerOperation);
        }
    }

    private bool Accept(string name, Place place, ProgramResult result)
    {
        if (result.Problem is not null)
        {
            comparison.AddProblem(name, place, result.Problem, result.IsFailure);
            return false;
        }

        comparison.AddChecksum(name, place, result.Checksum!);
        return true;
    }

    /// <summary>One result for each name, whatever happens.</summary>
    private IReadOnlyDictionary<string, ProgramResult> RunPrograms(Place place, IReadOnlyList<string> names, int processors)
    {
        (string output, string end) = place == Place.Native ? RunNatively(names) : RunGuest(place, names, processors);
        IReadOnlyDictionary<string, ProgramResult> found = ProgramOutput.Parse(output);
        return names.ToDictionary(name => name, name => found.GetValueOrDefault(name) ?? new ProgramResult(0, null, $"failed: {end}"));
    }

    private (string Output, string End) RunNatively(IReadOnlyList<string> names)
    {
        ProcessStartInfo start = new(programs.Executable, BenchmarkPrograms.Arguments(names)) { RedirectStandardOutput = true };
        using Process process = Process.Start(start)!;
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (output, $"status {process.ExitCode}");
    }

    private (string Output, string End) RunGuest(Place place, IReadOnlyList<string> names, int processors)
    {
        using GuestRun run = Start(place, names, processors);
        double? booted = run.WaitFor(ProgramOutput.Init, BootPatience);
        if (booted is null)
        {
            return (run.Output, $"no init: {run.LastWords}");
        }

        if (processors == 1 && Wants(Benchmark.Boot))
        {
            comparison.Add(Benchmark.Boot, place, booted.Value);
        }

        TimeSpan limit = BootPatience + BenchmarkPrograms.Patience(names.Count);
        double? begin = run.WaitFor(ProgramOutput.Begin, limit);
        double? end = run.WaitFor(output => ProgramOutput.Seconds(output) is not null, limit);
        CheckClock(place, run.Output, end - begin);
        return (run.Output, $"no answer: {run.LastWords}");
    }

    /// <summary>Figures are measured by the guest's clock: one that goes wrong would make them wrong.</summary>
    private void CheckClock(Place place, string output, double? hostSeconds)
    {
        if (hostSeconds is double host && ProgramOutput.Seconds(output) is double guest && Math.Abs(guest - host) > (host * ClockShare) + ClockSlack)
        {
            comparison.AddNote(FormattableString.Invariant($"{place}: the guest's clock counted {guest:F2} s where the host's counted {host:F2} s; its figures are that wrong"));
        }
    }

    private void MeasureBoot(Place place)
    {
        using GuestRun run = Start(place, [], 1);
        if (run.WaitFor(ProgramOutput.Init, BootPatience) is not double seconds)
        {
            string problem = $"failed: no init: {run.LastWords}";
            comparison.AddProblem(Benchmark.Boot, place, problem, isBroken: true);
            comparison.AddProblem(Benchmark.Memory, place, problem, isBroken: true);
            return;
        }

        if (Wants(Benchmark.Boot))
        {
            comparison.Add(Benchmark.Boot, place, seconds);
        }

        if (Wants(Benchmark.Memory))
        {
            Thread.Sleep(Settling);
            comparison.Add(Benchmark.Memory, place, run.OverheadBytes() / 1048576.0);
        }
    }

    private GuestRun Start(Place place, IReadOnlyList<string> names, int processors)
    {
        // What stands behind two hyphens the kernel hands to init.
        string words = names.Count == 0 ? string.Empty : $"-- {string.Join(' ', BenchmarkPrograms.Arguments(names))}";
        GuestSetup setup = new(image, programs.Initrd, words) { Processors = processors };
        return place == Place.Tutti ? GuestRun.Tutti(setup, engine) : GuestRun.Qemu(setup);
    }
}
