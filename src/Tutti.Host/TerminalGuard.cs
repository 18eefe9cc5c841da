using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.Text;

namespace Tutti.Host;

/// <summary>
/// A small shell process that outlives this one and restores a terminal's mode when this one dies with no chance to do
/// so (SIGKILL, a crash of the runtime). It notices by the end of a pipe that only this process holds, and touches
/// nothing when somebody, such as the user's shell, has changed the mode already.
/// </summary>
internal sealed class TerminalGuard : IDisposable
{
    private const string Script =
        """
        trap '' HUP INT QUIT TERM TSTP TTIN TTOU
        read -r done && exit
        exec <"$1" && [ "$(stty -g)" = "$2" ] && stty "$3"
        """;

    private readonly Process _shell;

    private TerminalGuard(Process shell) => _shell = shell;

    /// <summary>Starts a guard; null where the host has no shell for it.</summary>
    /// <param name="fd">The terminal.</param>
    /// <param name="raw">The mode that is set while this process lives.</param>
    /// <param name="before">The mode to restore.</param>
    internal static TerminalGuard? TryStart(int fd, in Termios raw, in Termios before)
    {
        string? terminal = new FileInfo(string.Create(CultureInfo.InvariantCulture, $"/proc/self/fd/{fd}")).LinkTarget;
        if (terminal == null)
        {
            return null;
        }

        // With all three streams redirected, the runtime leaves the terminal's mode alone when it starts a child.
        ProcessStartInfo start = new("/bin/sh")
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = "/",
            ArgumentList = { "-c", Script, "sh", terminal, Describe(raw), Describe(before) },
        };
        try
        {
            return new TerminalGuard(Process.Start(start)!);
        }
        catch (Exception e) when (e is Win32Exception or IOException)
        {
            return null;
        }
    }

    /// <summary>Tells the guard that all is well.</summary>
    public void Dispose()
    {
        try
        {
            _shell.StandardInput.Write("done\n");
            _shell.StandardInput.Close();
        }
        catch (IOException)
        {
            // Somebody has killed it.
        }

        _shell.Dispose();
    }

    /// <summary>A mode as <c>stty -g</c> prints it and stty takes it.</summary>
    internal static string Describe(in Termios mode)
    {
        StringBuilder text = new();
        text.Append(CultureInfo.InvariantCulture, $"{mode.InputFlags:x}:{mode.OutputFlags:x}:{mode.ControlFlags:x}:{mode.LocalFlags:x}");
        foreach (byte character in (ReadOnlySpan<byte>)mode.Characters)
        {
            text.Append(CultureInfo.InvariantCulture, $":{character:x}");
        }

        return text.ToString();
    }
}
