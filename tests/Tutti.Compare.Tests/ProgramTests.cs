using System.Buffers.Binary;
using System.Diagnostics;
using System.IO.Compression;
using System.Security.Cryptography;
using Tutti.Bench;

namespace Tutti.Compare.Tests;

/// <summary>The benchmark programs, compiled and run on this host: nothing is timed.</summary>
public sealed class ProgramTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("tutti-compare-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [StaticCompilerFact]
    public void Every_program_of_the_table_comes_to_the_same_result_twice()
    {
        BenchmarkPrograms programs = Build();
        string[] names = [.. Benchmark.All.Where(benchmark => benchmark.IsProgram).Select(benchmark => benchmark.Name)];

        IReadOnlyDictionary<string, ProgramResult> first = Check(programs, names);
        IReadOnlyDictionary<string, ProgramResult> second = Check(programs, names);

        Assert.Equal(names.Order(), first.Keys.Order());
        foreach (string name in names)
        {
            Assert.True(first[name].Problem is null or "no AVX2", $"{name}: {first[name].Problem}");
            Assert.Equal(first[name].Checksum, second[name].Checksum);
        }
    }

    [StaticCompilerFact]
    public void Two_processes_at_once_come_to_the_result_of_one()
    {
        if (Environment.ProcessorCount < 2)
        {
            // The program says so itself.
            Assert.StartsWith("failed: there is only one processor", Check(Build(), [Benchmark.Pair])[Benchmark.Pair].Problem, StringComparison.Ordinal);
            return;
        }

        IReadOnlyDictionary<string, ProgramResult> results = Check(Build(), [Benchmark.Integer, Benchmark.Pair]);

        Assert.Null(results[Benchmark.Pair].Problem);
        Assert.Equal(results[Benchmark.Integer].Checksum, results[Benchmark.Pair].Checksum);
    }

    [StaticCompilerFact]
    public void The_digest_is_the_sha256_of_the_text()
    {
        BenchmarkPrograms programs = Build();
        byte[] text = Run(programs, "--text");

        ulong digest = BinaryPrimitives.ReadUInt64BigEndian(SHA256.HashData(text));

        Assert.Equal($"{digest:x16}", Check(programs, ["sha256"])["sha256"].Checksum);
    }

    [StaticCompilerFact]
    public void What_is_deflated_another_program_inflates()
    {
        BenchmarkPrograms programs = Build();
        byte[] text = Run(programs, "--text");
        byte[] deflated = Run(programs, "--deflated");

        using DeflateStream inflater = new(new MemoryStream(deflated), CompressionMode.Decompress);
        using MemoryStream inflated = new();
        inflater.CopyTo(inflated);

        Assert.Equal(text, inflated.ToArray());
        Assert.InRange(deflated.Length, text.Length / 10, text.Length / 2);
    }

    [StaticCompilerFact]
    public void A_name_that_is_no_program_fails()
    {
        ProgramResult result = Check(Build(), ["nonsense"])["nonsense"];

        Assert.True(result.IsFailure);
    }

    private BenchmarkPrograms Build() => BenchmarkPrograms.Build(Path.Combine(GuestRun.RepositoryRoot(), "bench/compare-programs"), _folder);

    private static IReadOnlyDictionary<string, ProgramResult> Check(BenchmarkPrograms programs, string[] names) =>
        ProgramOutput.Parse(System.Text.Encoding.ASCII.GetString(Run(programs, ["--check", .. names])));

    private static byte[] Run(BenchmarkPrograms programs, params string[] arguments)
    {
        using Process process = Process.Start(new ProcessStartInfo(programs.Executable, arguments) { RedirectStandardOutput = true })!;
        using MemoryStream output = new();
        process.StandardOutput.BaseStream.CopyTo(output);
        process.WaitForExit();
        Assert.Equal(0, process.ExitCode);
        return output.ToArray();
    }
}
