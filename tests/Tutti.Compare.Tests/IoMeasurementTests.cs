using System.Diagnostics;
using Tutti.Bench;

namespace Tutti.Compare.Tests;

/// <summary>The measurements of disk and network, compiled and run on this host against a file and the loopback address.</summary>
public sealed class IoMeasurementTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("tutti-compare-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [StaticCompilerFact]
    public void Every_measurement_of_the_network_counts_what_it_did()
    {
        string[] names = ["net-request", "net-connect", "net-send", "net-receive"];
        string executable = Path.Combine(_folder, "io");
        StaticCompiler.Compile(Path.Combine(GuestRun.RepositoryRoot(), "bench/compare-io"), executable);
        using IoServer server = new(executable);

        string output = Run(executable, ["measure", "20", $"127.0.0.1:{server.Port}", "none", .. names]);

        foreach (string name in names)
        {
            Assert.True(IoOutput.HasStarted("\n" + output, name));
            IoResult result = IoOutput.Find(output, name)!;
            Assert.Null(result.Problem);
            Assert.True(result.Operations > 0 && result.Bytes > result.Operations && result.Nanoseconds >= 20_000_000, $"{name}: {result}");
        }
    }

    [StaticCompilerFact]
    public void A_disk_that_is_not_there_is_said()
    {
        string executable = Path.Combine(_folder, "io");
        StaticCompiler.Compile(Path.Combine(GuestRun.RepositoryRoot(), "bench/compare-io"), executable);

        string output = Run(executable, ["measure", "20", "127.0.0.1:1", "/nowhere", "disk-read"]);

        Assert.StartsWith("failed: the disk cannot be opened", IoOutput.Find(output, "disk-read")!.Problem, StringComparison.Ordinal);
    }

    [Fact]
    public void A_line_that_is_cut_is_no_result()
    {
        Assert.Null(IoOutput.Find("io: init\r\ndisk-read 12 34 5", "disk-read"));
        Assert.Equal(new IoResult(12, 34, 56, null), IoOutput.Find("io: init\r\ndisk-read starts\r\ndisk-read 12 34 56\r\n", "disk-read"));
        Assert.False(IoOutput.HasStarted("io: init\r\n", "disk-read"));
        Assert.True(IoOutput.HasStarted("io: init\r\ndisk-read starts\r\n", "disk-read"));
    }

    private static string Run(string executable, string[] arguments)
    {
        using Process process = Process.Start(new ProcessStartInfo(executable, arguments) { RedirectStandardOutput = true })!;
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return output;
    }
}
