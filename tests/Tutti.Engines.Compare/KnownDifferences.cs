namespace Tutti.Engines.Compare;

/// <summary>A difference that has been looked into.</summary>
/// <param name="Name">What it is called in reports.</param>
/// <param name="Manual">Who is right: the document, its section, and what it says.</param>
/// <param name="Deviates">Which engine, or what below it, does otherwise.</param>
/// <param name="Explains">Whether it explains a difference of a case.</param>
internal sealed record KnownDifference(string Name, string Manual, string Deviates, Func<CaseResult, Difference, HostEvidence, bool> Explains);

/// <summary>The table of known differences.</summary>
internal static partial class KnownDifferences
{
    /// <summary>
    /// The entries that together explain all differences of a case; null where one is left over. The first engine is the one with the
    /// evidence.
    /// </summary>
    public static IReadOnlyList<KnownDifference>? Explain(CaseResult result, HostEvidence evidence)
    {
        HashSet<KnownDifference> used = [];
        foreach (Difference difference in result.Differences)
        {
            KnownDifference? known = All.FirstOrDefault(known => known.Explains(result, difference, evidence));
            if (known == null)
            {
                return null;
            }

            used.Add(known);
        }

        return [.. used];
    }
}
