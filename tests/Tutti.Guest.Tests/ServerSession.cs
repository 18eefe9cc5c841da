using System.Diagnostics;
using System.Globalization;
using Xunit.Abstractions;

namespace Tutti.Guest.Tests;

/// <summary>A guest of the image debian-server in the software engine, reached by ssh through a published port.</summary>
internal sealed class ServerSession : IDisposable
{
    public const string Name = "proof";

    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(8);
    private readonly string[] _ssh;

    /// <summary>Starts it and waits until a command by ssh succeeds.</summary>
    /// <param name="folder">Where its disk and the key to it are kept; a second session in the folder goes on with both.</param>
    /// <param name="output">Is told how long it took.</param>
    /// <param name="options">More of `tutti run`.</param>
    /// <param name="within">A command that runs Tutti, and ssh, in surroundings of their own.</param>
    public ServerSession(string folder, ITestOutputHelper output, string[] options, params string[] within)
    {
        string key = Path.Combine(folder, "key");
        if (!File.Exists(key))
        {
            Assert.Equal(0, HostProgram.Run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).Status);
        }

        string port = HostProgram.FreePort().ToString(CultureInfo.InvariantCulture);
        _ssh =
        [
            .. within, "ssh", "-q", "-i", key, "-p", port, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
            "-o", "ConnectTimeout=10", "-o", "BatchMode=yes", "debian@127.0.0.1",
        ];
        var watch = Stopwatch.StartNew();
        Guest = new(
            folder,
            [
                "debian-server", "--engine", "software", "--memory", "1G", "--name", Name, "--hostname", Name,
                "--ssh-key", key + ".pub", "--publish", $"{port}:22", .. options,
            ],
            within);
        try
        {
            Guest.Expect("login:");
            output.WriteLine($"a login after {watch.Elapsed.TotalSeconds:F1} s");
            while (Try("true") is { Status: not 0 } answer)
            {
                Assert.True(watch.Elapsed < Patience, $"ssh: {answer.Text}\n{Guest.Output}");
                Thread.Sleep(500);
            }
        }
        catch
        {
            Guest.Dispose();
            throw;
        }

        output.WriteLine($"ssh after {watch.Elapsed.TotalSeconds:F1} s");
    }

    public GuestSession Guest { get; }

    /// <summary>Runs a command in the guest to its end; gives its exit status and all that it printed.</summary>
    public (int Status, string Text) Try(string command) => HostProgram.Run(_ssh[0], [.. _ssh[1..], command]);

    /// <summary>Runs a command in the guest, which must succeed, and gives what it printed.</summary>
    public string Run(string command)
    {
        (int status, string text) = Try(command);
        Assert.True(status == 0, $"{command}: {text}");
        return text.Trim();
    }

    /// <summary>Begins a command in the guest and waits for nothing.</summary>
    public void Begin(string command) => Process.Start(new ProcessStartInfo(_ssh[0], [.. _ssh[1..], command]) { RedirectStandardError = true })!.Dispose();

    /// <summary>Kills the process, whatever the guest does.</summary>
    public void Dispose() => Guest.Dispose();
}
