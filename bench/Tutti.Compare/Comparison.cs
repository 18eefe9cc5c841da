namespace Tutti.Compare;

/// <summary>All figures of a run, as they come in.</summary>
internal sealed class Comparison
{
    private readonly Dictionary<(string Name, Place Place), List<double>> _figures = [];
    private readonly Dictionary<(string Name, Place Place), string> _problems = [];
    private readonly Dictionary<(string Name, Place Place), string> _checksums = [];
    private readonly List<string> _notes = [];

    /// <summary>What a reader of the figures should know; each once.</summary>
    internal IReadOnlyList<string> Notes => _notes;

    /// <summary>Whether a program came to another result in one place than natively, or failed: then something is broken, not slow.</summary>
    internal bool IsBroken { get; private set; }

    /// <param name="value">In the benchmark's unit.</param>
    internal void Add(string name, Place place, double value)
    {
        if (!_figures.TryGetValue((name, place), out List<double>? figures))
        {
            _figures[(name, place)] = figures = [];
        }

        figures.Add(value);
    }

    /// <summary>Why there is no figure, in a word or two and, behind a colon, in full; a place that has failed once has none, however well it does in other rounds.</summary>
    internal void AddProblem(string name, Place place, string problem, bool isBroken = false)
    {
        _problems.TryAdd((name, place), problem);
        IsBroken |= isBroken;
        if (problem.Contains(':', StringComparison.Ordinal))
        {
            AddNote($"{name}, {place}: {problem}");
        }
    }

    /// <summary>Takes what a program computed: the same in all rounds and places, or a place computes wrongly.</summary>
    internal void AddChecksum(string name, Place place, string checksum)
    {
        if (!_checksums.TryAdd((name, place), checksum) && _checksums[(name, place)] != checksum)
        {
            AddProblem(name, place, "results differ", isBroken: true);
        }

        foreach (Place other in (Place[])[Place.Tutti, Place.Qemu, Place.Against])
        {
            if (_checksums.TryGetValue((name, Place.Native), out string? right) && _checksums.TryGetValue((name, other), out string? found) && right != found)
            {
                AddProblem(name, other, "wrong result", isBroken: true);
            }
        }
    }

    internal void AddNote(string note)
    {
        if (!_notes.Contains(note))
        {
            _notes.Add(note);
        }
    }

    internal IReadOnlyList<double> Figures(Benchmark benchmark, Place place) =>
        _figures.TryGetValue((benchmark.Name, place), out List<double>? figures) ? figures : [];

    internal string? Problem(Benchmark benchmark, Place place) => _problems.GetValueOrDefault((benchmark.Name, place));

    internal string? Checksum(Benchmark benchmark, Place place) => _checksums.GetValueOrDefault((benchmark.Name, place));

    /// <summary>The median of the rounds, in the benchmark's unit; null where there is none or something went wrong.</summary>
    internal double? Median(Benchmark benchmark, Place place) =>
        Problem(benchmark, place) is null && Figures(benchmark, place) is { Count: > 0 } figures ? Median(figures) : null;

    /// <summary>How many times better Tutti is than another place; null where either has no figure.</summary>
    internal double? Times(Benchmark benchmark, Place other)
    {
        double? ours = Median(benchmark, Place.Tutti);
        double? theirs = Median(benchmark, other);
        return benchmark.Unit.MoreIsBetter ? ours / theirs : theirs / ours;
    }

    /// <summary>Whether a threshold is reached; null where that can't be said.</summary>
    internal bool? Holds(Benchmark benchmark, Threshold threshold)
    {
        double? reached = threshold.Against switch
        {
            Yardstick.Qemu => Times(benchmark, Place.Qemu),
            Yardstick.Native => Times(benchmark, Place.Native),
            _ => Median(benchmark, Place.Tutti),
        };
        return reached is double value ? value >= threshold.Least : null;
    }

    internal static double Median(IReadOnlyList<double> values)
    {
        double[] sorted = [.. values.Order()];
        int middle = sorted.Length / 2;
        return sorted.Length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
    }
}
