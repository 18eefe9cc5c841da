using System.Diagnostics;
using System.Globalization;
using System.Text;

namespace Tutti.Cli.Tests;

/// <summary>Wants tmux, a terminal emulator that runs without a display and tells what has become of its state.</summary>
internal sealed class TmuxFactAttribute : FactAttribute
{
    public TmuxFactAttribute()
    {
        if (!Array.Exists((Environment.GetEnvironmentVariable("PATH") ?? "").Split(':'), folder => File.Exists(Path.Combine(folder, "tmux"))))
        {
            Skip = "tmux is not installed.";
        }
    }
}

/// <summary>Filtered output before a terminal emulator of somebody else's: it answers nothing, and keeps title, name and clipboard.</summary>
public sealed class TmuxTests : IDisposable
{
    private const string Untouched = "mine|mine|";
    private readonly string _folder = Directory.CreateTempSubdirectory("tutti-tmux").FullName;
    private int _servers;

    public void Dispose()
    {
        Directory.Delete(_folder, recursive: true);
    }

    [TmuxFact]
    public void AnswersAndChangesNothing()
    {
        byte[] output = ControlFilterTests.MakeOutput(new Random(7), 30_000);
        byte[] direct = Encoding.UTF8.GetBytes("\e[c\e[6n\e]2;pwned\a\ekpwned\e\\\e]52;c;Y3VybA==\a");
        (string replies, string state) = Show(direct);
        Assert.NotEqual("", replies);
        Assert.DoesNotContain(Untouched, state, StringComparison.Ordinal);
        (replies, state) = Show(ControlFilterTests.FilterAll([.. direct, .. output]));
        Assert.Equal(("", Untouched), (replies, state));
    }

    /// <summary>A guest that is cut off in the middle of a full-screen program, or whose programs leave things as they like.</summary>
    [TmuxFact]
    public void ModesThatAGuestLeavesAreChangedBack()
    {
        const string Modes = "#{alternate_on} #{cursor_flag} #{insert_flag} #{keypad_cursor_flag} #{keypad_flag} #{mouse_any_flag} #{mouse_sgr_flag} #{origin_flag} #{scroll_region_upper} #{scroll_region_lower} #{wrap_flag}";
        byte[] left = Encoding.ASCII.GetBytes("\e[3;9r\e[31m\e(0\e[4h\e[?1049h\e[?25l\e[?1;6;1003;1006h\e[?7l\e=");
        byte[] text = Encoding.ASCII.GetBytes("\e[H\e[2Jqx");
        TerminalModes modes = new();
        modes.Watch(left);
        string untouched = Show(text, Modes).State;
        Assert.NotEqual(untouched, Show([.. left, .. text], Modes).State);
        Assert.Equal(untouched, Show([.. left, .. modes.Undo(), .. text], Modes).State);
    }

    /// <summary>What the emulator answers, and its title, name and clipboard afterwards. A request of our own says when all was read.</summary>
    private (string Replies, string State) Show(byte[] output, string? modes = null)
    {
        // One that ends would take a session of the next with it.
        _servers++;
        string show = Path.Combine(_folder, "show");
        string replies = Path.Combine(_folder, "replies");
        string done = Path.Combine(_folder, "done");
        File.Delete(done);

        // A string or a sequence without an end would swallow the request: CAN ends it.
        File.WriteAllBytes(show, [.. output, 0x18, .. "\e[5n"u8]);
        string script = $"stty raw -echo; cat {show}; timeout --foreground 3 cat > {replies}; touch {done}; sleep 100";
        Tmux("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "-n", "mine", "sleep 100");
        Tmux("set", "-g", "set-clipboard", "on");
        Tmux("set", "-g", "allow-rename", "on");
        Tmux("select-pane", "-T", "mine");
        Tmux("respawn-pane", "-k", script);
        Assert.True(SpinWait.SpinUntil(() => File.Exists(done), TimeSpan.FromMinutes(3)));
        string state = Tmux("display-message", "-p", modes ?? "#{pane_title}|#{window_name}|#{buffer_sample}").Trim();
        state += modes == null ? "" : Tmux("capture-pane", "-e", "-p").Trim();
        Tmux("kill-server");
        string answer = File.ReadAllText(replies, Encoding.Latin1);
        Assert.EndsWith("\e[0n", answer, StringComparison.Ordinal);
        return (answer[..^4], state);
    }

    private string Tmux(params string[] arguments)
    {
        ProcessStartInfo start = new("tmux", ["-L", string.Create(CultureInfo.InvariantCulture, $"tutti-{Environment.ProcessId}-{_servers}"), .. arguments])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["TMUX_TMPDIR"] = _folder;
        start.Environment["LC_ALL"] = "C.UTF-8";
        start.Environment.Remove("TMUX");
        using Process process = Process.Start(start)!;
        string output = process.StandardOutput.ReadToEnd();
        string error = process.StandardError.ReadToEnd();
        process.WaitForExit();
        Assert.True(process.ExitCode == 0, $"tmux {string.Join(' ', arguments)}: {error}");
        return output;
    }
}
