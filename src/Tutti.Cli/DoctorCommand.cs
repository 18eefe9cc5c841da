namespace Tutti.Cli;

/// <summary><c>tutti doctor</c>: what this host can run guests with, and how to mend what it can't.</summary>
internal static class DoctorCommand
{
    internal const string Help =
        """
        The exit status is 0 when some engine can run guests here, else 1.
        """;

    internal static int Run(TextWriter output, bool json) => Run(DoctorReport.Collect(), output, json);

    internal static int Run(DoctorReport report, TextWriter output, bool json)
    {
        output.WriteLine(json ? DoctorJson.Format(report) : DoctorText.Format(report));
        return report.CanRun ? ExitStatus.Success : ExitStatus.InternalError;
    }
}
