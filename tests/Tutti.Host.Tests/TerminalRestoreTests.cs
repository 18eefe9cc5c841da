using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.RegularExpressions;

namespace Tutti.Host.Tests;

/// <summary>Every way out of a process brings the terminal's mode back.</summary>
public sealed partial class TerminalRestoreTests
{
    private const int SigHup = 1;
    private const int SigInt = 2;
    private const int SigQuit = 3;
    private const int SigKill = 9;
    private const int SigTerm = 15;
    private const int SigCont = 18;
    private const int SigTstp = 20;

    [Theory]
    [InlineData("return", 8)]
    [InlineData("exit", 7)]
    [InlineData("throw", 134)]
    [InlineData("failfast", 134)]
    public void ProcessThatEndsItself(string way, int status)
    {
        using Pty pty = new();
        Termios before = pty.Mode;
        using Process process = Start(pty, way);
        Assert.True(process.WaitForExit(TimeSpan.FromSeconds(30)));
        Assert.Equal(status, process.ExitCode);
        CheckRestored(pty, before);
    }

    [Theory]
    [InlineData(SigHup, 129)]
    [InlineData(SigInt, 130)]
    [InlineData(SigQuit, 131)]
    [InlineData(SigTerm, 143)]
    [InlineData(SigKill, 137)]
    public void ProcessThatIsSignalled(int signal, int status)
    {
        using Pty pty = new();
        Termios before = pty.Mode;
        using Process process = Start(pty, "wait");
        WaitUntilRaw(pty);
        Assert.Equal(0, kill(process.Id, signal));
        Assert.True(process.WaitForExit(TimeSpan.FromSeconds(30)));
        Assert.Equal(status, process.ExitCode);
        CheckRestored(pty, before);
    }

    [Fact]
    public void SecondSignalEndsAProcessThatHangs()
    {
        using Pty pty = new();
        Termios before = pty.Mode;
        using Process process = Start(pty, "ignore");
        WaitUntilRaw(pty);
        Assert.Equal(0, kill(process.Id, SigTerm));
        Assert.False(process.WaitForExit(TimeSpan.FromMilliseconds(300)));
        Assert.Equal(0, kill(process.Id, SigTerm));
        Assert.True(process.WaitForExit(TimeSpan.FromSeconds(30)));
        Assert.Equal(143, process.ExitCode);
        CheckRestored(pty, before);
    }

    [Fact]
    public void StoppedProcessLeavesTheTerminalAsItWas()
    {
        using Pty pty = new();
        Termios before = pty.Mode;
        using Process process = Start(pty, "wait");
        for (int i = 0; i < 2; i++)
        {
            WaitUntilRaw(pty);
            Assert.Equal(0, kill(process.Id, SigTstp));
            Assert.True(SpinWait.SpinUntil(() => State(process) == 'T', TimeSpan.FromSeconds(10)), "not stopped");
            CheckRestored(pty, before);
            Assert.Equal(0, kill(process.Id, SigCont));
        }

        WaitUntilRaw(pty);
        process.Kill();
        process.WaitForExit();
    }

    /// <summary>nohup, and shells without job control for what they leave in the background, have signals ignored.</summary>
    [Fact]
    public void SignalsThatAreIgnoredFromTheStartStaySo()
    {
        using Pty pty = new();
        using Process process = Start(pty, "wait", "trap '' HUP INT QUIT; ");
        WaitUntilRaw(pty);
        Assert.All([SigHup, SigInt, SigQuit], signal => Assert.Equal(0, kill(process.Id, signal)));
        Assert.False(process.WaitForExit(TimeSpan.FromSeconds(1)));
        Assert.Equal(0, kill(process.Id, SigTerm));
        Assert.True(process.WaitForExit(TimeSpan.FromSeconds(30)));
        Assert.Equal(143, process.ExitCode);
    }

    /// <summary>A change of the terminal's mode from the background would stop the process again, before it could end.</summary>
    [Fact]
    public void StoppedJobEndsInTheBackgroundAndLeavesTheTerminalToTheShell()
    {
        using Pty pty = new();
        const string Job = "sh -c 'echo pid=$$,; exec dotnet exec \"$1\" wait 2>/dev/null' sh \"$1\"";
        ProcessStartInfo start = new("/bin/sh")
        {
            ArgumentList =
            {
                "-c", $"exec setsid --ctty --wait bash -mc '{Job.Replace("'", "'\\''", StringComparison.Ordinal)}; echo back; kill -TERM %1; read; wait %1; echo status=$?,' bash \"$1\" <\"$0\" >\"$0\" 2>&1",
                pty.Path, typeof(DyingProcess).Assembly.Location,
            },
        };
        using Process shell = Process.Start(start)!;
        using HostStream screen = new(pty.Master);
        using Timer limit = new(_ => screen.Cancel(), null, TimeSpan.FromSeconds(60), Timeout.InfiniteTimeSpan);
        int job = int.Parse(Regex.Match(Expect(screen, "raw"), "pid=([0-9]+),").Groups[1].Value, CultureInfo.InvariantCulture);
        WaitUntilRaw(pty);
        Assert.Equal(0, kill(job, SigTstp));
        Expect(screen, "back");

        // Until the kernel has let the job continue, bash takes it for stopped, and `wait` would not wait: only once bash has
        // collected it is the shell sent on.
        Assert.True(SpinWait.SpinUntil(() => kill(job, 0) != 0, TimeSpan.FromSeconds(30)), "the job is not ended");
        screen.Write("\n"u8);
        Expect(screen, "status=143,");
        Assert.True(shell.WaitForExit(TimeSpan.FromSeconds(30)));
    }

    private static string Expect(HostStream screen, string text)
    {
        StringBuilder shown = new();
        byte[] buffer = new byte[4096];
        while (!shown.ToString().Contains(text, StringComparison.Ordinal))
        {
            int count = screen.Read(buffer);
            Assert.True(count > 0, $"no '{text}' in '{shown}'");
            shown.Append(Encoding.Latin1.GetString(buffer, 0, count));
        }

        return shown.ToString();
    }

    private static Process Start(Pty pty, string way, string before = "")
    {
        ProcessStartInfo start = new("/bin/sh")
        {
            ArgumentList =
            {
                "-c", before + "exec dotnet exec \"$1\" \"$2\" <\"$0\" >\"$0\" 2>/dev/null",
                pty.Path, typeof(DyingProcess).Assembly.Location, way,
            },
        };
        start.Environment["DOTNET_DbgEnableMiniDump"] = "0";
        Process process = Process.Start(start)!;
        using HostStream screen = new(pty.Master);
        byte[] said = new byte[3];
        int count = 0;
        while (count < 3)
        {
            int more = screen.Read(said.AsSpan(count));
            Assert.True(more > 0);
            count += more;
        }

        Assert.Equal("raw"u8.ToArray(), said);
        return process;
    }

    private static void WaitUntilRaw(Pty pty) => Assert.True(
        SpinWait.SpinUntil(() => (pty.Mode.LocalFlags & Termios.ICANON) == 0, TimeSpan.FromSeconds(10)), "not raw");

    // After SIGKILL or a crash the guard needs a moment.
    private static void CheckRestored(Pty pty, Termios before) => Assert.True(
        SpinWait.SpinUntil(() => TerminalGuard.Describe(pty.Mode) == TerminalGuard.Describe(before), TimeSpan.FromSeconds(10)),
        $"{TerminalGuard.Describe(pty.Mode)} is not {TerminalGuard.Describe(before)}");

    private static char State(Process process)
    {
        string stat = File.ReadAllText($"/proc/{process.Id}/stat");
        return stat[stat.LastIndexOf(')') + 2];
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int kill(int pid, int sig);
}
