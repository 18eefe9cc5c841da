using System.Globalization;
using System.Text.RegularExpressions;

namespace Tutti.Programs;

/// <summary>What one run of a program came to.</summary>
/// <param name="Seconds">From its start to its end, by the clock of where it ran.</param>
/// <param name="Processor">Processor seconds that it used there.</param>
/// <param name="Checksum">Of what it computed; null where there is a problem.</param>
/// <param name="Problem">Why there are no figures.</param>
internal sealed record ProgramRun(double Seconds, double Processor, string? Checksum, string? Problem)
{
    /// <summary>Whether it was not even tried, as something that it needs is not there.</summary>
    internal bool IsSkipped => Problem is not null && Problem.StartsWith("skipped", StringComparison.Ordinal);

    internal static ProgramRun Failed(string why) => new(0, 0, null, $"failed: {why}");
}

/// <summary>Reads the lines of bench/debian-programs/guest/run, which describes them.</summary>
internal static partial class ProgramLines
{
    /// <summary>What stands on a console that takes names.</summary>
    internal const string Ready = "bench: ready";

    /// <summary>What ends it.</summary>
    internal const string Off = "off";

    /// <summary>What stands behind each line of names that is done with.</summary>
    private const string Done = "bench: done";

    /// <summary>How often something is done, in a text that may hold a kernel's lines, too.</summary>
    internal static int CountDone(string output) => Regex.Count(output, $@"^{Done}\r?\n", RegexOptions.Multiline);

    internal static bool HasStarted(string output, string name) => Regex.IsMatch(output, $@"^program {Regex.Escape(name)} starts\r?\n", RegexOptions.Multiline);

    /// <summary>The last result of a program in a text; null where none is whole.</summary>
    internal static ProgramRun? Find(string output, string name)
    {
        Match? match = Result().Matches(output).LastOrDefault(match => match.Groups["name"].Value == name);
        return match is null ? null
            : match.Groups["problem"].Success ? new ProgramRun(0, 0, null, match.Groups["problem"].Value)
            : new ProgramRun(Number(match.Groups["seconds"]), Number(match.Groups["processor"]), match.Groups["sum"].Value, null);
    }

    private static double Number(Group group) => double.Parse(group.Value, CultureInfo.InvariantCulture);

    [GeneratedRegex(@"^program (?<name>\S+) (?:(?<seconds>\d+\.\d+) (?<processor>\d+\.\d+) (?<sum>[0-9a-f]{16})|(?<problem>(?:failed|skipped): [^\r\n]*))\r?\n", RegexOptions.Multiline)]
    private static partial Regex Result();
}
