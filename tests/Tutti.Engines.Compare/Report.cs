using System.Globalization;
using System.Text;
using System.Text.Json;

namespace Tutti.Engines.Compare;

/// <summary>Tells the outcome of a comparison.</summary>
internal static class Report
{
    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    public static string Text(Comparison comparison, string first, string second)
    {
        var text = new StringBuilder();
        foreach (CaseResult result in comparison.Unknown)
        {
            Append(text, result, first, second);
        }

        foreach ((KnownDifference known, int count) in comparison.Known.OrderByDescending(pair => pair.Value))
        {
            text.Append(CultureInfo.InvariantCulture, $"known, {count} cases: {known.Name}\n    manual: {known.Manual}\n    deviates: {known.Deviates}\n");
            text.Append(CultureInfo.InvariantCulture, $"    for example: {comparison.Examples[known].Name}\n");
        }

        text.Append(CultureInfo.InvariantCulture, $"\n{"",-20}{"cases",10}{"equal",10}{"known",10}{"unknown",10}{"seconds",10}\n");
        foreach (ComparedGroup group in comparison.Groups)
        {
            text.Append(CultureInfo.InvariantCulture, $"{group.Name,-20}");
            text.Append(group.Skipped != null
                ? $"  skipped: {group.Skipped}\n"
                : string.Create(CultureInfo.InvariantCulture, $"{group.Cases,10}{group.Equal,10}{group.Known,10}{group.Unknown,10}{group.Seconds,10:F1}\n"));
        }

        text.Append(CultureInfo.InvariantCulture, $"\n{first} runs level 0 at {comparison.Evidence.Ring0MegaInstructions:F1} million instructions a second");
        text.Append(comparison.Evidence.RunsRing0 ? ".\n" : ": in an emulator of instructions, not on the processor.\n");
        text.Append(comparison.UnknownCount == 0 ? $"{first} and {second} agree but for what is known.\n"
            : $"{comparison.UnknownCount} cases differ in a way that is not known.\n");
        return text.ToString();
    }

    public static string Json(Comparison comparison, string first, string second) => JsonSerializer.Serialize(
        new
        {
            engines = new[] { first, second },
            ring0MegaInstructionsPerSecond = comparison.Evidence.Ring0MegaInstructions,
            ring0OnProcessor = comparison.Evidence.RunsRing0,
            groups = comparison.Groups.Select(g => new { name = g.Name, skipped = g.Skipped, cases = g.Cases, equal = g.Equal, known = g.Known, unknown = g.Unknown, instructions = g.Instructions, seconds = g.Seconds }),
            known = comparison.Known.Select(k => new { name = k.Key.Name, cases = k.Value, manual = k.Key.Manual, deviates = k.Key.Deviates, example = comparison.Examples[k.Key].Name }),
            unknown = comparison.Unknown.Select(r => new { name = r.Name, mode = r.Mode, code = r.Text, differences = r.Differences.Select(d => new { field = d.Field, first = d.First, second = d.Second }) }),
        },
        Indented);

    public static void Append(StringBuilder text, CaseResult result, string first, string second)
    {
        text.Append(CultureInfo.InvariantCulture, $"{result.Name}:\n");
        if (result.Text.Length > 0)
        {
            text.Append(result.Text).Append('\n');
        }

        foreach (Difference d in result.Differences)
        {
            text.Append(CultureInfo.InvariantCulture, $"  {d.Field}: {first} {d.First}, {second} {d.Second}\n");
        }
    }
}
