using System.Globalization;
using System.Text.RegularExpressions;

namespace Tutti.Compare;

/// <summary>What one program said: its time and result, or why it has none.</summary>
internal sealed record ProgramResult(double NanosecondsPerOperation, string? Checksum, string? Problem)
{
    /// <summary>True where the program could not be run to its end, which is another thing than being slow or not for this processor.</summary>
    internal bool IsFailure => Problem is not null && Problem.StartsWith("failed", StringComparison.Ordinal);
}

/// <summary>Reads the lines of the executable made of bench/compare-programs; main.c describes them.</summary>
internal static partial class ProgramOutput
{
    /// <summary>A guest's first sign of life.</summary>
    internal const string Init = "compare: init";

    internal const string Begin = "compare: begin";

    /// <summary>The results in a text that may hold other lines, too: those of a kernel.</summary>
    internal static IReadOnlyDictionary<string, ProgramResult> Parse(string output)
    {
        Dictionary<string, ProgramResult> results = [];
        foreach (Match match in Result().Matches(output))
        {
            // Of several the first: a part of a program that fails can make the whole of it look slow.
            results.TryAdd(
                match.Groups["name"].Value,
                match.Groups["ns"].Success
                    ? new ProgramResult(double.Parse(match.Groups["ns"].Value, CultureInfo.InvariantCulture), match.Groups["sum"].Value, null)
                    : new ProgramResult(0, null, match.Groups["problem"].Value));
        }

        return results;
    }

    /// <summary>Seconds from begin to end by the clock of where the programs ran; null where the end is not there.</summary>
    internal static double? Seconds(string output) =>
        Ending().Match(output) is { Success: true } match ? double.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture) / 1e9 : null;

    [GeneratedRegex(@"^(?<name>[a-z0-9-]+) (?:(?<ns>\d+\.\d+) (?<sum>[0-9a-f]{16})|- (?<problem>[^\r\n]+))\r?$", RegexOptions.Multiline)]
    private static partial Regex Result();

    [GeneratedRegex(@"^compare: end (\d+)\r?\n", RegexOptions.Multiline)]
    private static partial Regex Ending();
}
