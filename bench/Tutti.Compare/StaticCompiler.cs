using System.ComponentModel;
using System.Diagnostics;

namespace Tutti.Compare;

/// <summary>Makes one static executable of a folder's C sources.</summary>
internal static class StaticCompiler
{
    /// <exception cref="CompareException">There is no compiler, or it fails.</exception>
    internal static void Compile(string sources, string executable)
    {
        string[] files = [.. Directory.EnumerateFiles(sources, "*.c").Order(StringComparer.Ordinal)];
        ProcessStartInfo start = new("gcc", ["-std=gnu11", "-O2", "-static", "-o", executable, .. files])
        {
            RedirectStandardError = true,
        };
        try
        {
            using Process compiler = Process.Start(start)!;
            string errors = compiler.StandardError.ReadToEnd();
            compiler.WaitForExit();
            if (compiler.ExitCode != 0)
            {
                throw new CompareException($"gcc could not compile {sources}: {errors.Split('\n').FirstOrDefault(line => line.Contains("error", StringComparison.Ordinal)) ?? errors.Trim()}");
            }
        }
        catch (Win32Exception)
        {
            throw new CompareException("there is no gcc for the benchmark programs (Debian and Ubuntu: apt-get install gcc libc6-dev)");
        }
    }
}
