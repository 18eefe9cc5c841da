namespace Tutti.Guest.Tests;

/// <summary>The stress of shared memory, built from our C sources by the machine's compiler and put into the image's initial RAM disk.</summary>
internal static class StressProgram
{
    private static readonly string s_folder = Path.Combine(AppContext.BaseDirectory, "Stress");
    private static readonly Lazy<string?> s_missing = new(() => HostCompiler.FindMissing("gcc", "gcc and libc6-dev"));
    private static readonly Lazy<byte[]> s_program = new(Build);

    /// <summary>What the machine lacks to build it, in one line; null when nothing.</summary>
    public static string? Missing => s_missing.Value;

    /// <summary>Writes the image's RAM disk with the program in it as /bin/stress.</summary>
    /// <param name="initrd">The image's own RAM disk.</param>
    /// <param name="output">File to write.</param>
    public static void WriteInitrd(string initrd, string output) => HostCompiler.AddToInitrd(initrd, output, "bin/stress", s_program.Value);

    private static byte[] Build()
    {
        // Without a red zone, as inline assembly pushes.
        string program = Path.Combine(s_folder, "stress");
        string errors = HostCompiler.Compile("gcc", ["-O2", "-Wall", "-Wextra", "-mno-red-zone", "-static", "-pthread", "-o", program, .. Directory.GetFiles(s_folder, "*.c").Order()]);
        Assert.True(errors.Length == 0, errors);
        return File.ReadAllBytes(program);
    }
}

/// <summary>A test that builds the stress and boots the image `debian`: skipped, with its reason, where one of them cannot be had.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class StressTheoryAttribute : TheoryAttribute
{
    public StressTheoryAttribute() => Skip = new DebianFactAttribute().Skip ?? StressProgram.Missing;
}
