using System.Diagnostics;
using Tutti.Boot;
using Tutti.Guests;

namespace Tutti.Guest.Tests;

/// <summary>The stress of shared memory, built from our C sources by the machine's compiler and put into the image's initial RAM disk.</summary>
internal static class StressProgram
{
    private static readonly string s_folder = Path.Combine(AppContext.BaseDirectory, "Stress");
    private static readonly Lazy<string?> s_missing = new(FindMissing);
    private static readonly Lazy<byte[]> s_program = new(Build);

    /// <summary>What the machine lacks to build it, in one line; null when nothing.</summary>
    public static string? Missing => s_missing.Value;

    /// <summary>Writes the image's RAM disk with the program in it as /bin/stress.</summary>
    /// <param name="initrd">The image's own RAM disk.</param>
    /// <param name="output">File to write.</param>
    public static void WriteInitrd(string initrd, string output)
    {
        // The kernel unpacks archives that follow each other, one into the other.
        using FileStream file = File.Create(output);
        file.Write(File.ReadAllBytes(initrd));
        file.Write(new byte[-file.Length & 3]);
        CpioWriter cpio = new(file);
        cpio.AddFile("bin/stress", s_program.Value, 0x1ED);
        cpio.Finish();
    }

    private static string? FindMissing()
    {
        if (!(Environment.GetEnvironmentVariable("PATH") ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries).Any(folder => File.Exists(Path.Combine(folder, "gcc"))))
        {
            return "gcc is not installed (Debian packages gcc and libc6-dev)";
        }

        string source = Path.Combine(s_folder, "smallest.i");
        File.WriteAllText(source, "int main(void) { return 0; }\n");
        string errors = Compile(["-static", "-pthread", "-o", Path.Combine(s_folder, "smallest"), source]);
        return errors.Length == 0 ? null : $"gcc cannot build a static program here (Debian package libc6-dev): {errors.Split('\n')[0]}";
    }

    private static byte[] Build()
    {
        // Without a red zone, as inline assembly pushes.
        string program = Path.Combine(s_folder, "stress");
        string errors = Compile(["-O2", "-Wall", "-Wextra", "-mno-red-zone", "-static", "-pthread", "-o", program, .. Directory.GetFiles(s_folder, "*.c").Order()]);
        Assert.True(errors.Length == 0, errors);
        return File.ReadAllBytes(program);
    }

    /// <summary>Gives what the compiler says, which is nothing when all is well.</summary>
    private static string Compile(string[] words)
    {
        using Process gcc = Process.Start(new ProcessStartInfo("gcc", words) { RedirectStandardError = true })!;
        string errors = gcc.StandardError.ReadToEnd();
        gcc.WaitForExit();
        return gcc.ExitCode != 0 && errors.Length == 0 ? $"gcc ended with status {gcc.ExitCode}" : errors;
    }
}

/// <summary>A test that builds the stress and boots the image `debian`: skipped, with its reason, where one of them cannot be had.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class StressTheoryAttribute : TheoryAttribute
{
    public StressTheoryAttribute() => Skip = new DebianFactAttribute().Skip ?? StressProgram.Missing;
}
