using System.Diagnostics;
using Tutti.Cpu;
using Tutti.Engines.Compare.Guests;
using Tutti.Engines.Compare.Streams;

namespace Tutti.Engines.Compare;

/// <summary>A row of the summary: one kind of case.</summary>
internal sealed class ComparedGroup(string name)
{
    public string Name { get; } = name;

    /// <summary>Why it was not run; null where it was.</summary>
    public string? Skipped { get; set; }

    public long Cases { get; set; }

    public long Equal { get; set; }

    public long Known { get; set; }

    public long Unknown => Cases - Equal - Known;

    /// <summary>Instructions in the streams.</summary>
    public long Instructions { get; set; }

    /// <summary>Runs that came to their end without an exception.</summary>
    public long Completed { get; set; }

    public double Seconds { get; set; }
}

/// <summary>Compares two engines as the options say and keeps count.</summary>
internal sealed class Comparison(IEngine first, IEngine second, CompareOptions options, Action<string> progress)
{
    /// <summary>Unknown differences that are kept; the others are only counted.</summary>
    private const int MaxKept = 40;

    private readonly long _start = Stopwatch.GetTimestamp();

    public HostEvidence Evidence { get; } = HostEvidence.Measure(first);

    public List<ComparedGroup> Groups { get; } = [];

    /// <summary>How many cases each entry of the table explains, alone or with others.</summary>
    public Dictionary<KnownDifference, int> Known { get; } = [];

    /// <summary>An example for each.</summary>
    public Dictionary<KnownDifference, CaseResult> Examples { get; } = [];

    /// <summary>The first unknown differences.</summary>
    public List<CaseResult> Unknown { get; } = [];

    public long UnknownCount => Groups.Sum(group => group.Unknown);

    private TimeSpan Elapsed => Stopwatch.GetElapsedTime(_start);

    public void Run()
    {
        if (options.RunsGuests)
        {
            RunGuests();
        }

        for (int i = 0; i < options.Modes.Count; i++)
        {
            // What is left of the time is shared by what is left of the modes.
            TimeSpan? until = options.Limit is { } limit ? Elapsed + ((limit - Elapsed) / (options.Modes.Count - i)) : null;
            RunStreams(options.Modes[i], until);
        }
    }

    private void RunGuests()
    {
        var group = new ComparedGroup("named guests");
        Groups.Add(group);
        NamedGuest[] guests = [.. NamedGuest.All.Where(guest => options.Groups?.Contains(guest.Name[..guest.Name.IndexOf(':')]) ?? true)];
        progress($"{guests.Length} named guests");
        TimeSpan began = Elapsed;
        // While one VM is there the processor's virtualization stays on. Going off and on with every guest is what QEMU's
        // emulation of AMD-V does not survive for long (tests/nested/README.md).
        using var held = new GuestMachine(first, GuestBuilder.RamSize);
        var comparer = new GuestComparer(first, second);
        foreach (NamedGuest guest in guests)
        {
            if (options.Limit is { } limit && Elapsed > limit)
            {
                progress($"out of time after {group.Cases} of {guests.Length} named guests");
                break;
            }

            if (HostEvidence.IsTranslated && HostEvidence.NotForTranslator.TryGetValue(guest.Name, out string? reason))
            {
                progress($"skipped: {guest.Name}: {reason}");
                continue;
            }

            if (options.PrintsNames)
            {
                progress(guest.Name);
            }

            Count(group, comparer.Compare(guest));
        }

        group.Seconds = (Elapsed - began).TotalSeconds;
    }

    private void RunStreams(StreamMode mode, TimeSpan? until)
    {
        var group = new ComparedGroup($"{mode.ToString().ToLowerInvariant()} streams");
        Groups.Add(group);
        if (!Evidence.RunsRing0 && mode != StreamMode.Ring3 && !options.IsModeNamed)
        {
            group.Skipped = $"{first.Name} emulates level 0 here ({Evidence.Ring0MegaInstructions:F1} million instructions a second), with gaps that the named guests show; --mode {mode.ToString().ToLowerInvariant()} runs them all the same";
            progress($"{group.Name}: skipped: {group.Skipped}");
            return;
        }

        progress($"{group.Name}, seed {options.Seed}");
        if (StreamForms.Reason is { } reason)
        {
            progress(reason);
        }

        TimeSpan began = Elapsed;
        using var comparer = new StreamComparer(first, second, mode, options.Seed);
        for (int i = 0; i < options.Streams && (until == null || Elapsed < until); i++)
        {
            if (options.PrintsNames)
            {
                progress($"{group.Name} {i}");
            }

            List<CaseResult> results = [.. comparer.Compare(i)];
            results.ForEach(result => Count(group, result));
            long equal = StreamComparer.RunsPerStream - results.Count;
            group.Cases += equal;
            group.Equal += equal;
        }

        group.Instructions = comparer.Instructions;
        group.Completed = comparer.Completed;
        group.Seconds = (Elapsed - began).TotalSeconds;
    }

    private void Count(ComparedGroup group, CaseResult result)
    {
        group.Cases++;
        if (result.Differences.Count == 0)
        {
            group.Equal++;
            return;
        }

        if (KnownDifferences.Explain(result, Evidence) is { } entries)
        {
            group.Known++;
            foreach (KnownDifference entry in entries)
            {
                Known[entry] = Known.GetValueOrDefault(entry) + 1;
                Examples.TryAdd(entry, result);
            }
        }
        else if (Unknown.Count < MaxKept)
        {
            Unknown.Add(result);
        }
    }
}
