using System.CommandLine;
using System.ComponentModel;
using System.Globalization;
using Tutti.Bench;
using Tutti.Compare;
using Tutti.Guests;

// Measures Tutti, QEMU's TCG and the host with the same programs in the same run; bench/compare builds and starts this.
CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
Option<int> rounds = new("--rounds") { HelpName = "N", Description = "How often each place is measured; the table shows medians.", DefaultValueFactory = _ => 5 };
Option<string?> only = new("--only")
{
    HelpName = "NAME[,NAME]",
    Description = $"Measure only these: {string.Join(", ", Benchmark.Groups)}, or of these parts {string.Join(", ", Benchmark.All.Select(benchmark => benchmark.Name))}.",
};
Option<string> engine = new("--engine") { HelpName = "NAME", Description = "Tutti's engine.", DefaultValueFactory = _ => "software" };
Option<string> diskFormat = new("--disk-format") { HelpName = "FORMAT", Description = "The format of the disk that is measured.", DefaultValueFactory = _ => "raw" };
diskFormat.AcceptOnlyFromAmong([.. IoMeasurements.DiskFormats]);
Option<bool> json = new("--json") { Description = "Print JSON." };
RootCommand root = new("Runs the same kernel and programs under Tutti, under QEMU's TCG and natively, and compares.") { rounds, only, engine, diskFormat, json };
root.SetAction(async (result, cancellation) => await RunAsync(
    result.GetValue(rounds), result.GetValue(only), result.GetValue(engine)!, result.GetValue(diskFormat)!, result.GetValue(json), cancellation));

ParseResult parsed = root.Parse(args);
if (parsed.Errors.Count > 0)
{
    Console.Error.WriteLine($"compare: {parsed.Errors[0].Message} See bench/compare --help.");
    return 2;
}

try
{
    return await parsed.InvokeAsync(new InvocationConfiguration { EnableDefaultExceptionHandler = false });
}
catch (Exception e) when (e is CompareException or ImageException or IOException or UnauthorizedAccessException)
{
    Console.Error.WriteLine($"compare: {e.Message}");
    return 2;
}
catch (Win32Exception e)
{
    Console.Error.WriteLine($"compare: {e.Message}; start it as bench/compare, which installs or names what is missing");
    return 2;
}

static async Task<int> RunAsync(int rounds, string? only, string engine, string diskFormat, bool json, CancellationToken cancellation)
{
    if (rounds is < 1 or > 1000)
    {
        throw new CompareException($"--rounds {rounds} is not between 1 and 1000");
    }

    IReadOnlyList<Benchmark> chosen = Choose(only);
    string repository = GuestRun.RepositoryRoot();
    BenchmarkPrograms programs = BenchmarkPrograms.Build(
        Path.Combine(repository, "bench/compare-programs"), Path.Combine(repository, "artifacts/compare"));
    ImageCatalog images = new();
    GuestImage image = await images.GetAsync(ImageCatalog.DefaultImage, null, cancellation);
    IReadOnlyDictionary<string, string> facts = Facts.Gather(image, engine, rounds);
    if (diskFormat != "raw")
    {
        facts = new Dictionary<string, string>(facts) { ["disk"] = diskFormat };
    }

    Comparison comparison = new();
    if (Facts.Load() is double load and > 0.5)
    {
        comparison.AddNote($"this host's load average was {load} before the run: the figures are worth less than those of an idle one");
    }

    IoMeasurements? io = chosen.Any(benchmark => benchmark.IoMeasurement is not null)
        ? IoMeasurements.Build(Path.Combine(repository, "bench/compare-io"), Path.Combine(repository, "artifacts/compare"), image, diskFormat)
        : null;
    IoRounds ioRounds = new(io, image, LoginImage(images), engine, chosen, comparison);
    new Rounds(programs, image, engine, chosen, comparison, line => Console.Error.WriteLine($"compare: {line}")).Run(rounds, ioRounds.Measure);
    if (json)
    {
        Console.WriteLine(ComparisonJson.Format(comparison, chosen, facts));
    }
    else
    {
        foreach ((string name, string value) in facts)
        {
            Console.WriteLine($"{name,-9}{value}");
        }

        ComparisonTable.Write(comparison, chosen);
        foreach (string note in comparison.Notes)
        {
            Console.WriteLine(note);
        }
    }

    return comparison.IsBroken ? 1 : 0;
}

// Building one takes minutes: that is the user's choice.
static GuestImage? LoginImage(ImageCatalog images) => images.List().FirstOrDefault(listing => listing.Name == IoRounds.LoginImage)?.Cached;

static IReadOnlyList<Benchmark> Choose(string? only)
{
    if (only is null)
    {
        return Benchmark.All;
    }

    string[] names = only.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
    string? unknown = names.FirstOrDefault(name => Benchmark.All.All(benchmark => benchmark.Name != name && benchmark.Group != name));
    if (unknown is not null || names.Length == 0)
    {
        throw new CompareException($"--only '{unknown ?? only}' names no benchmark; there are {string.Join(", ", Benchmark.Groups)}, {string.Join(", ", Benchmark.All.Select(benchmark => benchmark.Name))}");
    }

    return [.. Benchmark.All.Where(benchmark => names.Contains(benchmark.Name) || names.Contains(benchmark.Group))];
}
