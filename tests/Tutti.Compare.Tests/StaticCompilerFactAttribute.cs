using System.ComponentModel;
using System.Diagnostics;

namespace Tutti.Compare.Tests;

/// <summary>A test that compiles the benchmark programs: skipped, with its reason, where there is nothing to do that with.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class StaticCompilerFactAttribute : FactAttribute
{
    public StaticCompilerFactAttribute() => Skip = Missing();

    private static string? Missing()
    {
        try
        {
            using Process compiler = Process.Start(new ProcessStartInfo("gcc", ["-print-file-name=libc.a"]) { RedirectStandardOutput = true })!;
            string archive = compiler.StandardOutput.ReadToEnd().Trim();
            compiler.WaitForExit();
            // A file that gcc does not find it names without a folder.
            return Path.IsPathRooted(archive) ? null : "the C library's static archive is not installed (Debian: libc6-dev)";
        }
        catch (Win32Exception)
        {
            return "gcc is not installed";
        }
    }
}
