using System.Diagnostics;
using Tutti.Boot;

namespace Tutti.Guest.Tests;

/// <summary>The machine's own compilers, which make static programs for guests.</summary>
internal static class HostCompiler
{
    /// <summary>What the machine lacks to build a static program, in one line; null when nothing.</summary>
    /// <param name="compiler">gcc or g++.</param>
    /// <param name="packages">Debian's packages that hold what is wanted.</param>
    public static string? FindMissing(string compiler, string packages)
    {
        if (!(Environment.GetEnvironmentVariable("PATH") ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries).Any(folder => File.Exists(Path.Combine(folder, compiler))))
        {
            return $"{compiler} is not installed (Debian packages {packages})";
        }

        string folder = Directory.CreateTempSubdirectory("tutti-compiler-").FullName;
        try
        {
            string source = Path.Combine(folder, compiler == "gcc" ? "smallest.c" : "smallest.cpp");
            File.WriteAllText(source, "int main(void) { return 0; }\n");
            string errors = Compile(compiler, ["-static", "-pthread", "-o", Path.Combine(folder, "smallest"), source]);
            return errors.Length == 0 ? null : $"{compiler} cannot build a static program here (Debian packages {packages}): {errors.Split('\n')[0]}";
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>Gives what the compiler says, which is nothing when all is well.</summary>
    public static string Compile(string compiler, string[] words)
    {
        using Process process = Process.Start(new ProcessStartInfo(compiler, words) { RedirectStandardError = true })!;
        string errors = process.StandardError.ReadToEnd();
        process.WaitForExit();
        return process.ExitCode != 0 && errors.Length == 0 ? $"{compiler} ended with status {process.ExitCode}" : errors;
    }

    /// <summary>Writes an image's RAM disk with one more program in it.</summary>
    /// <param name="initrd">The image's own RAM disk.</param>
    /// <param name="output">File to write.</param>
    /// <param name="path">Of the program in the guest, without a slash before it.</param>
    public static void AddToInitrd(string initrd, string output, string path, byte[] program)
    {
        // The kernel unpacks archives that follow each other, one into the other.
        using FileStream file = File.Create(output);
        file.Write(File.ReadAllBytes(initrd));
        file.Write(new byte[-file.Length & 3]);
        CpioWriter cpio = new(file);
        cpio.AddFile(path, program, 0x1ED);
        cpio.Finish();
    }
}
