using System.Text;
using Tutti.Host;

namespace Tutti.Cli;

/// <summary>
/// What Tutti itself has to say: on standard error, each line with the program's name, so that standard output stays the
/// guest's. Written past <see cref="Console"/>, which would change the terminal's mode behind our back.
/// </summary>
internal static class Notices
{
    internal static void Write(string line) => WriteText($"tutti: {OneLine(line)}\n");

    /// <summary>Writes several lines as they are, but for their ends where the terminal is the guest's.</summary>
    internal static void WriteText(string text)
    {
        text = HostTerminal.ShowsOutputAsItIs(HostStream.StandardError) ? text.ReplaceLineEndings("\r\n") : text;
        _ = HostStream.WriteAll(HostStream.StandardError, Encoding.UTF8.GetBytes(text));
    }

    /// <summary>Messages can hold names of files and guests' bytes: none may break the line or talk to the terminal.</summary>
    private static string OneLine(string text)
    {
        StringBuilder line = new(text.Length);
        foreach (char c in text)
        {
            line.Append(char.IsControl(c) ? ' ' : c);
        }

        return line.ToString().Trim();
    }
}
