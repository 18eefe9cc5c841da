using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace Tutti.Guest.Tests;

/// <summary>A real guest at its shell: the command as a user starts it, with the console on pipes.</summary>
internal sealed partial class GuestSession : IDisposable
{
    public const string Prompt = "root@tutti:~# ";

    /// <summary>Far above what any step takes, so that a slow machine fails no test.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(4);

    private readonly Process _process;
    private readonly StringBuilder _output = new();
    private readonly Task _reader;
    private readonly Task<string> _errors;
    private int _seen;

    public GuestSession(params string[] arguments)
        : this(dataFolder: null, arguments)
    {
    }

    /// <param name="dataFolder">Where machines' disks are kept; the user's own place when null.</param>
    /// <param name="arguments">Of `tutti run`.</param>
    /// <param name="within">A command, with its arguments, that runs the one behind it in surroundings of its own, such as `ip netns exec`.</param>
    public GuestSession(string? dataFolder, string[] arguments, params string[] within)
    {
        string[] command = [.. within, "dotnet", "exec", Path.Combine(AppContext.BaseDirectory, "tutti.dll"), "run", .. arguments];
        var start = new ProcessStartInfo(command[0], command[1..])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };

        if (dataFolder != null)
        {
            start.Environment["XDG_DATA_HOME"] = dataFolder;
        }

        _process = Process.Start(start)!;
        _errors = _process.StandardError.ReadToEndAsync();
        _reader = Task.Run(ReadAsync);
    }

    /// <summary>Everything that the guest has printed.</summary>
    public string Output
    {
        get
        {
            lock (_output)
            {
                return _output.ToString();
            }
        }
    }

    /// <summary>Bytes of host memory that translated code takes: the each page once.</summary>
    public long TranslatedBytes()
    {
        long sum = 0;
        bool isCode = false;
        foreach (string line in File.ReadLines($"/proc/{_process.Id}/smaps"))
        {
            string[] words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            isCode = words[0].EndsWith(':') ? isCode : line.Contains("memfd:tutti-code", StringComparison.Ordinal);
            sum += isCode && words[0] == "Pss:" ? long.Parse(words[1], CultureInfo.InvariantCulture) * 1024 : 0;
        }

        return sum;
    }

    /// <summary>Waits for a text behind what was waited for last; fails the test when it does not come.</summary>
    public void Expect(string text) => Expect(text, Patience);

    private void Expect(string text, TimeSpan patience)
    {
        var watch = Stopwatch.StartNew();
        while (watch.Elapsed < patience)
        {
            int at = Output.IndexOf(text, _seen, StringComparison.Ordinal);
            if (at >= 0)
            {
                _seen = at + text.Length;
                return;
            }

            if (_reader.IsCompleted && Output.IndexOf(text, _seen, StringComparison.Ordinal) < 0)
            {
                break;
            }

            Thread.Sleep(20);
        }

        Assert.Fail($"'{text}' did not come. The guest printed:\n{Output}\n{(_process.HasExited ? _errors.Result : "")}");
    }

    /// <summary>Waits for the first prompt and makes the terminal so wide that no echo of a command is wrapped.</summary>
    public void ExpectShell()
    {
        Expect(Prompt);
        Send("stty cols 2000\n");
        Expect(Prompt);
    }

    /// <summary>Types a command and gives what it printed.</summary>
    public string Run(string command) => Run(command, Patience);

    /// <summary>Types a command that takes longer than others do.</summary>
    public string Run(string command, TimeSpan patience)
    {
        Send(command + "; echo status=$?\n");
        Expect("status=$?");
        int from = _seen;
        Expect("\nstatus=", patience);
        string printed = Output[from.._seen];
        Expect(Prompt);
        return printed[..printed.LastIndexOf("\nstatus=", StringComparison.Ordinal)].Replace("\r", "", StringComparison.Ordinal).Trim('\n', ' ');
    }

    public void Send(string text)
    {
        _process.StandardInput.Write(text);
        _process.StandardInput.Flush();
    }

    public void EndInput() => _process.StandardInput.Close();

    /// <summary>Waits for the end of the process and gives its exit status.</summary>
    public int WaitForExit()
    {
        if (!_process.WaitForExit(Patience))
        {
            _process.Kill();
            Assert.Fail($"tutti did not end. The guest printed:\n{Output}");
        }

        _reader.Wait();
        return _process.ExitCode;
    }

    /// <summary>What Tutti itself said.</summary>
    public string Errors => _errors.Result;

    /// <summary>Lines of the kernel log that tell of something wrong.</summary>
    public static IReadOnlyList<string> Complaints(string log) =>
        [.. log.Split('\n').Where(line => Complaint().IsMatch(line))];

    public void Dispose()
    {
        if (!_process.HasExited)
        {
            _process.Kill();
            _process.WaitForExit();
        }

        _process.Dispose();
    }

    [GeneratedRegex(@"WARNING|BUG|Oops|Call Trace|unchecked MSR|general protection|segfault|traps:|soft lockup|rcu.*stall|unexpected|spurious|[Ff]irmware [Bb]ug")]
    private static partial Regex Complaint();

    private async Task ReadAsync()
    {
        var buffer = new char[4096];
        int count;
        while ((count = await _process.StandardOutput.ReadAsync(buffer)) > 0)
        {
            lock (_output)
            {
                _output.Append(buffer, 0, count);
            }
        }
    }
}
