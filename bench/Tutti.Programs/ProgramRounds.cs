using Tutti.Bench;
using Tutti.Compare;
using Tutti.Guests;

namespace Tutti.Programs;

/// <summary>What is measured, and how.</summary>
internal sealed record ProgramOptions
{
    public required int Rounds { get; init; }

    public required string Engine { get; init; }

    /// <summary>The program that is Tutti; null for the clone's own.</summary>
    public string? Tutti { get; init; }

    /// <summary>A second one to hold it against; null for none.</summary>
    public string? Against { get; init; }

    /// <summary>Virtual processors, and how many of each program run at once.</summary>
    public required int Processors { get; init; }

    /// <summary>How many of <see cref="Processors"/> work at the same time; of their processor seconds all count, one after the other.</summary>
    public int AtOnce => IsProcessorTime ? 1 : Environment.ProcessorCount;

    public required TimeSpan Limit { get; init; }

    /// <summary>Whether processor time counts, not the clock's.</summary>
    public bool IsProcessorTime { get; init; }

    public bool HasCounters { get; init; }

    public required IReadOnlyList<Place> Places { get; init; }
}

/// <summary>
/// Runs the programs in all places. Each program is run in one place right after the other, so that whatever else the host does meanwhile
/// falls on all: all guests are up all the time, and those that are not asked rest.
/// </summary>
internal sealed class ProgramRounds(ProgramImage image, ProgramOptions options, IReadOnlyList<Benchmark> chosen, Comparison comparison, Action<string> report)
{
    /// <summary>Behind a program's name: as many of it as there are processors, at once.</summary>
    internal const string Together = "-together";

    private const int MemoryMegabytes = 2048;

    internal void Run()
    {
        GuestImage guest = image.Guest;
        Dictionary<Place, ProgramSession> sessions = options.Places.ToDictionary(
            place => place, place => new ProgramSession(() => Start(place, guest), options.Limit, place != Place.Native));
        try
        {
            for (int round = 0; round < options.Rounds; round++)
            {
                for (int i = 0; i < chosen.Count; i++)
                {
                    for (int turn = 0; turn < options.Places.Count; turn++)
                    {
                        // Another order each time: none is always the one behind another's warm caches.
                        Place place = options.Places[(round + i + turn) % options.Places.Count];
                        Measure(sessions[place], place, chosen[i]);
                    }

                    report($"round {round + 1} of {options.Rounds}, {i + 1} of {chosen.Count}: {chosen[i].Name} {string.Join(", ", options.Places.Select(place => Last(chosen[i], place)))}");
                }
            }

            foreach (Place place in options.Places)
            {
                End(sessions[place], place);
            }
        }
        finally
        {
            foreach (ProgramSession session in sessions.Values)
            {
                session.Dispose();
            }
        }
    }

    private void Measure(ProgramSession session, Place place, Benchmark program)
    {
        if (comparison.Problem(program, place) is not null)
        {
            // It would only take its time limit again.
            return;
        }

        string name = program.Name;
        ProgramRun run = session.Measure(name, name);
        if (!Accept(name, place, run) || options.Processors == 1)
        {
            return;
        }

        Accept(name + Together, place, session.Measure($"together {options.Processors} {name}", name));
    }

    /// <summary>How it went just now, for somebody who watches.</summary>
    private string Last(Benchmark program, Place place) =>
        comparison.Problem(program, place)?.Split(':')[0] is string problem ? $"{place} {problem}" : FormattableString.Invariant($"{place} {comparison.Figures(program, place)[^1]:F2} s");

    private bool Accept(string name, Place place, ProgramRun run)
    {
        if (run.Problem is string problem)
        {
            comparison.AddProblem(name, place, problem, isBroken: !run.IsSkipped);
            return false;
        }

        comparison.Add(name, place, options.IsProcessorTime ? run.Processor : run.Seconds);
        comparison.AddChecksum(name, place, run.Checksum!);
        return true;
    }

    private void End(ProgramSession session, Place place)
    {
        if (!session.End() && place != Place.Native)
        {
            comparison.AddNote($"{place}: the guest did not switch itself off");
        }

        if (options.HasCounters && (place is Place.Tutti or Place.Against) && session.LastErrors.Length > 0)
        {
            report($"{place}, counters\n{session.LastErrors.TrimEnd()}");
        }
    }

    private GuestRun Start(Place place, GuestImage guest)
    {
        if (place == Place.Native)
        {
            // As many processors as a guest has, the last ones: the first is the one that most interrupts come to.
            int count = Math.Min(options.Processors, Environment.ProcessorCount);
            string processors = $"{Environment.ProcessorCount - count}-{Environment.ProcessorCount - 1}";
            return GuestRun.Native("/usr/bin/env", [$"BENCH_PROCESSORS={processors}", "BENCH_READ_ONLY=1", image.Enter, image.Root, "/bench/serve"]);
        }

        GuestSetup setup = new(guest, guest.InitrdPath, string.Empty)
        {
            MemoryMegabytes = MemoryMegabytes,
            Processors = options.Processors,
            DiskPath = guest.DiskPath,
            IsDiskThrownAway = true,
            TuttiPath = place == Place.Against ? options.Against : options.Tutti,
            HasCounters = options.HasCounters,
        };
        return place == Place.Qemu ? GuestRun.Qemu(setup) : GuestRun.Tutti(setup, options.Engine);
    }
}
