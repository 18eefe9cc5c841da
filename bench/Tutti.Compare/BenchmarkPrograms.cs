using Tutti.Boot;

namespace Tutti.Compare;

/// <summary>The benchmark programs, one static executable, and the initial RAM disk that has it as its init.</summary>
internal sealed class BenchmarkPrograms
{
    /// <summary>Seconds that a program may take in all: a place that needs more is reported as too slow.</summary>
    internal const int Limit = 20;

    private BenchmarkPrograms(string executable, string initrd)
    {
        Executable = executable;
        Initrd = initrd;
    }

    /// <summary>Path of the executable.</summary>
    internal string Executable { get; }

    /// <summary>Path of the initial RAM disk.</summary>
    internal string Initrd { get; }

    /// <summary>Compiles the programs and writes the initial RAM disk.</summary>
    /// <param name="sources">The folder bench/compare-programs.</param>
    /// <param name="folder">Where both go; made where it is missing.</param>
    /// <exception cref="CompareException">There is no compiler, or it fails.</exception>
    internal static BenchmarkPrograms Build(string sources, string folder)
    {
        Directory.CreateDirectory(folder);
        BenchmarkPrograms programs = new(Path.Combine(folder, "programs"), Path.Combine(folder, "initrd.img"));
        StaticCompiler.Compile(sources, programs.Executable);
        using FileStream initrd = File.Create(programs.Initrd);
        CpioWriter cpio = new(initrd);
        cpio.AddDirectory("dev");
        // Standard input and output of process 1.
        cpio.AddCharacterDevice("dev/console", 5, 1);
        cpio.AddFile("init", File.ReadAllBytes(programs.Executable), 0x1ED /* 0755 */);
        cpio.Finish();
        return programs;
    }

    /// <summary>Arguments of the executable that measure programs.</summary>
    internal static IReadOnlyList<string> Arguments(IEnumerable<string> names) => [$"{Limit}", .. names];

    /// <summary>How long a run may take from begin to end.</summary>
    internal static TimeSpan Patience(int programs) => TimeSpan.FromSeconds((Limit + 2) * programs);
}
