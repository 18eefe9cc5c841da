namespace Tutti.Cpu;

/// <summary>Something that an engine has counted, so that the next slow thing can be found by looking.</summary>
/// <param name="Group">What it belongs to, in lower case: "blocks", "exceptions". Rows of a group follow one another.</param>
/// <param name="Name">What of the group is counted; unique in it.</param>
/// <param name="Value">How much; 0 or more.</param>
/// <param name="Unit">What of; empty for a number of events.</param>
public readonly record struct EngineCounter(string Group, string Name, long Value, string Unit = "")
{
    /// <summary>Adds up the counters of several vCPUs, in the order in which they first come.</summary>
    public static IReadOnlyList<EngineCounter> Sum(IEnumerable<EngineCounter> counters)
    {
        ArgumentNullException.ThrowIfNull(counters);
        List<string> groups = [];
        List<EngineCounter> sums = [];
        Dictionary<(string Group, string Name), int> places = [];
        foreach (EngineCounter counter in counters)
        {
            if (places.TryGetValue((counter.Group, counter.Name), out int place))
            {
                sums[place] = sums[place] with { Value = sums[place].Value + counter.Value };
                continue;
            }

            if (!groups.Contains(counter.Group))
            {
                groups.Add(counter.Group);
            }

            places[(counter.Group, counter.Name)] = sums.Count;
            sums.Add(counter);
        }

        // A vCPU may have a row of a group that the ones before it lack.
        return [.. sums.OrderBy(counter => groups.IndexOf(counter.Group))];
    }
}
