using System.Globalization;
using System.Text.RegularExpressions;

namespace Tutti.Compare;

/// <summary>What one measurement of disk or network came to, or why to nothing.</summary>
internal sealed record IoResult(long Operations, long Bytes, long Nanoseconds, string? Problem);

/// <summary>Reads the lines of the executable made of bench/compare-io; main.c describes them.</summary>
internal static partial class IoOutput
{
    /// <summary>A guest's first sign of life.</summary>
    internal const string Init = "io: init";

    /// <summary>Whether the time that counts has begun, or there will be none.</summary>
    internal static bool HasStarted(string output, string name) => output.Contains($"\n{name} starts", StringComparison.Ordinal) || Find(output, name) is not null;

    /// <summary>The whole line of a measurement in a text that may hold other lines, too: those of a kernel.</summary>
    internal static IoResult? Find(string output, string name)
    {
        foreach (Match match in Result().Matches(output))
        {
            if (match.Groups["name"].Value == name)
            {
                return match.Groups["problem"].Success
                    ? new IoResult(0, 0, 0, match.Groups["problem"].Value)
                    : new IoResult(Number(match, "operations"), Number(match, "bytes"), Number(match, "ns"), null);
            }
        }

        return null;
    }

    private static long Number(Match match, string group) => long.Parse(match.Groups[group].Value, CultureInfo.InvariantCulture);

    [GeneratedRegex(@"^(?<name>[a-z0-9-]+) (?:(?<operations>\d+) (?<bytes>\d+) (?<ns>\d+)|- (?<problem>[^\r\n]+))\r?\n", RegexOptions.Multiline)]
    private static partial Regex Result();
}
