using System.CommandLine;
using System.ComponentModel;
using System.Globalization;
using Tutti.Bench;
using Tutti.Compare;
using Tutti.Guests;
using Tutti.Programs;

// Measures programs of Debian's natively, in Tutti and in QEMU's TCG, in turns in one run; bench/programs builds and starts this.
CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
Option<int> rounds = new("--rounds") { HelpName = "N", Description = "How often each program is measured in each place; the table shows medians.", DefaultValueFactory = _ => 1 };
Option<string?> only = new("--only") { HelpName = "NAME[,NAME]", Description = $"Measure only these programs, or these groups: {string.Join(", ", ProgramList.Groups)}. --list shows the programs." };
Option<bool> list = new("--list") { Description = "Show the programs and end." };
Option<string?> places = new("--places") { HelpName = "PLACE[,PLACE]", Description = "Measure only in these: native, tutti, qemu." };
Option<string> engine = new("--engine") { HelpName = "NAME", Description = "Tutti's engine.", DefaultValueFactory = _ => "software" };
Option<FileInfo?> tutti = new("--tutti") { HelpName = "FILE", Description = "The program that is Tutti, of another build; this clone's own when not given." };
Option<FileInfo?> against = new("--against") { HelpName = "FILE", Description = "Another build of Tutti to measure in the same turns: \"× against\" is how many times faster Tutti is than it." };
Option<int> processors = new("--vcpus") { HelpName = "N", Description = "Give each guest so many vCPUs, and run so many of each program at once, too.", DefaultValueFactory = _ => 1 };
Option<int> limit = new("--limit") { HelpName = "SECONDS", Description = "A program that takes longer in one place has failed there.", DefaultValueFactory = _ => 600 };
Option<bool> processorTime = new("--processor-time") { Description = "Compare the host's processor seconds instead of the clock's: for a host that is busy with other things." };
Option<bool> counters = new("--counters") { Description = "Show at the end, on standard error, what Tutti's engine has counted." };
Option<DirectoryInfo> cache = new("--cache") { HelpName = "FOLDER", Description = "Where Debian's packages, inputs and disk are kept, some 6 GB; $XDG_CACHE_HOME/tutti-bench or ~/.cache/tutti-bench when not given.", DefaultValueFactory = _ => new DirectoryInfo(ProgramImage.DefaultFolder) };
Option<bool> json = new("--json") { Description = "Print JSON." };
RootCommand root = new("Measures programs of Debian's natively, in a Tutti guest and in a QEMU TCG guest with the same kernel and disk, and compares.")
{
    rounds, only, list, places, engine, tutti, against, processors, limit, processorTime, counters, cache, json,
};
root.SetAction(result =>
{
    string folder = Path.Combine(GuestRun.RepositoryRoot(), "bench/debian-programs");
    IReadOnlyList<DebianProgram> all = ProgramList.Read(Path.Combine(folder, "guest/programs"));
    IReadOnlyList<DebianProgram> chosen = ProgramList.Choose(all, result.GetValue(only));
    if (result.GetValue(list))
    {
        List(chosen);
        return 0;
    }

    ProgramOptions options = new()
    {
        Rounds = Between(result.GetValue(rounds), 1, 1000, "--rounds"),
        Engine = result.GetValue(engine)!,
        Tutti = Existing(result.GetValue(tutti), "--tutti"),
        Against = Existing(result.GetValue(against), "--against"),
        Processors = Between(result.GetValue(processors), 1, 64, "--vcpus"),
        Limit = TimeSpan.FromSeconds(Between(result.GetValue(limit), 1, 86400, "--limit")),
        IsProcessorTime = result.GetValue(processorTime),
        HasCounters = result.GetValue(counters),
        Places = ProgramPlaces.Choose(result.GetValue(places), result.GetValue(against) is not null),
    };
    return Measure(new ProgramImage(folder, result.GetValue(cache)!.FullName), options, chosen, result.GetValue(json));
});

ParseResult parsed = root.Parse(args);
if (parsed.Errors.Count > 0)
{
    Console.Error.WriteLine($"programs: {parsed.Errors[0].Message} See bench/programs --help.");
    return 2;
}

try
{
    return parsed.Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false });
}
catch (Exception e) when (e is CompareException or ImageException or IOException or InvalidDataException or UnauthorizedAccessException)
{
    Console.Error.WriteLine($"programs: {e.Message}");
    return 2;
}
catch (Win32Exception e)
{
    Console.Error.WriteLine($"programs: {e.Message}; start it as bench/programs, which installs or names what is missing");
    return 2;
}

static int Measure(ProgramImage image, ProgramOptions options, IReadOnlyList<DebianProgram> chosen, bool json)
{
    if (!Environment.IsPrivilegedProcess)
    {
        throw new CompareException("programs run natively in a root folder of their own, which needs root");
    }

    image.Make();
    Dictionary<string, string> facts = new()
    {
        ["host"] = $"{Facts.HostProcessor()}, {Environment.ProcessorCount} cores, load {Facts.Load()} before the run",
        ["guest"] = $"Debian 12, kernel {image.Guest.Version}, {options.Processors} vCPU, 2 GiB, root on virtio-blk",
        ["native"] = $"the same folder by chroot, on {Math.Min(options.Processors, Environment.ProcessorCount)} processor",
        ["tutti"] = $"{options.Tutti ?? "this clone's"}, --engine {options.Engine}",
        ["qemu"] = $"{Facts.FirstLine("qemu-system-x86_64")}, -accel tcg -cpu max",
        ["seconds"] = options.IsProcessorTime ? "of the host's processors" : "by the clock of where the program runs",
        ["rounds"] = $"{options.Rounds}",
    };
    if (options.Against is string other)
    {
        facts["against"] = other;
    }

    Comparison comparison = new();
    if (Facts.Load() is double load and > 0.5)
    {
        comparison.AddNote($"this host's load average was {load} before the run: the figures are worth less than those of an idle one");
    }

    IReadOnlyList<Benchmark> benchmarks = [.. chosen.Select(program => new Benchmark(program.Name, program.What, new Unit("s", seconds => seconds, false)))];
    new ProgramRounds(image, options, benchmarks, comparison, line => Console.Error.WriteLine($"programs: {line}")).Run();
    if (json)
    {
        Console.WriteLine(ProgramJson.Format(comparison, benchmarks, options.Places, options.Processors, options.AtOnce, facts));
    }
    else
    {
        foreach ((string name, string value) in facts)
        {
            Console.WriteLine($"{name,-9}{value}");
        }

        ProgramTable.Write(comparison, benchmarks, options.Places, options.Processors, options.AtOnce);
        foreach (string note in comparison.Notes)
        {
            Console.WriteLine(note);
        }
    }

    return comparison.IsBroken ? 1 : 0;
}

static void List(IReadOnlyList<DebianProgram> programs)
{
    foreach (IGrouping<string, DebianProgram> group in programs.GroupBy(program => program.Group))
    {
        Console.WriteLine(group.Key);
        foreach (DebianProgram program in group)
        {
            Console.WriteLine($"  {program.Name,-16}{program.What}");
        }
    }
}

static int Between(int value, int least, int most, string option) =>
    value >= least && value <= most ? value : throw new CompareException($"{option} {value} is not between {least} and {most}");

static string? Existing(FileInfo? file, string option) =>
    file is null || file.Exists ? file?.FullName : throw new CompareException($"{option} '{file}' is no file");
