using System.Diagnostics;
using System.Globalization;
using Tutti.Guests;

namespace Tutti.Compare;

/// <summary>What was compared, where: figures without that say nothing.</summary>
internal static class Facts
{
    internal static IReadOnlyDictionary<string, string> Gather(GuestImage image, string engine, int rounds) => new Dictionary<string, string>
    {
        ["host"] = $"{HostProcessor()}, {Environment.ProcessorCount} cores",
        ["guest"] = $"Debian's cloud kernel {image.Version}, 512 MiB",
        ["tutti"] = $"--engine {engine}",
        ["qemu"] = $"{FirstLine("qemu-system-x86_64")}, -accel tcg -cpu max",
        ["compiler"] = $"{FirstLine("gcc")}, -O2",
        ["rounds"] = $"{rounds}",
    };

    /// <summary>The load average of the last minute.</summary>
    internal static double Load() => double.Parse(File.ReadAllText("/proc/loadavg").Split(' ')[0], CultureInfo.InvariantCulture);

    internal static string HostProcessor() => File.ReadLines("/proc/cpuinfo")
        .FirstOrDefault(line => line.StartsWith("model name", StringComparison.Ordinal))?.Split(':')[1].Trim() ?? "unknown";

    internal static string FirstLine(string program)
    {
        using Process process = Process.Start(new ProcessStartInfo(program, ["--version"]) { RedirectStandardOutput = true })!;
        string line = process.StandardOutput.ReadLine() ?? string.Empty;
        process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return line;
    }
}
