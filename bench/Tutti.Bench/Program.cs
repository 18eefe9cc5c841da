using System.Diagnostics;
using System.Globalization;
using Tutti.Bench;
using Tutti.Cpu.Interpreter;
using Tutti.Guests;

// Measures Tutti and, where it is installed, QEMU with the same kernel and initramfs in the same run.
// Arguments choose parts: instructions, exits, network, boot, idle, memory; none means all.
CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
string[] known = ["instructions", "exits", "network", "boot", "idle", "memory"];
string[] parts = args.Length > 0 ? args : known;
string? unknown = parts.FirstOrDefault(part => !known.Contains(part));
if (unknown is not null)
{
    Console.Error.WriteLine($"bench: unknown part '{unknown}'; choose from {string.Join(", ", known)}");
    return 2;
}

if (parts.Contains("instructions"))
{
    Instructions();
}

if (parts.Contains("exits"))
{
    Exits();
}

if (parts.Contains("network"))
{
    Network();
}

if (parts.Except(["instructions", "exits", "network"]).Any())
{
    GuestImage image = await new ImageCatalog().GetAsync(ImageCatalog.DefaultImage);

    // Builds the program when it is not up to date, so that no measured start does.
    using (Process build = Process.Start(Path.Combine(GuestRun.RepositoryRoot(), "tutti"), "version"))
    {
        await build.WaitForExitAsync();
    }

    if (parts.Contains("boot"))
    {
        Boot(image);
    }

    if (parts.Contains("idle"))
    {
        Idle(image);
    }

    if (parts.Contains("memory"))
    {
        Memory(image);
    }
}

return 0;

static void Instructions()
{
    Console.WriteLine("Guest instructions a second, 64-bit integer code, interpreter (bar: 50 million)");
    ulong all = 0;
    double time = 0;
    foreach ((string name, byte[] bytes) in GuestProgram.All)
    {
        (ulong instructions, double seconds) = InstructionRate.Measure(new SoftwareEngine(), bytes, runs: 5);
        Console.WriteLine($"  {instructions / seconds / 1e6,7:F1} million  {name}");
        all += instructions;
        time += seconds;
    }

    Console.WriteLine($"  {all / time / 1e6,7:F1} million  all together");
}

static void Network()
{
    const int runs = 5;
    const long bytes = 2_000_000_000;
    Console.WriteLine($"TCP through the user network on loopback, without a guest, medians of {runs} (bar: 10 Gbit/s, no allocation)");
    foreach (bool sends in new[] { true, false })
    {
        _ = NetworkRate.Measure(sends, bytes / 4);
        NetworkRateResult[] results = [.. Enumerable.Range(0, runs).Select(_ => NetworkRate.Measure(sends, bytes)).OrderBy(result => result.Seconds)];
        NetworkRateResult median = results[runs / 2];
        double rate = 8 * bytes / median.Seconds / 1e9;
        double perByte = 8 * bytes / median.LoopSeconds / 1e9;
        Console.WriteLine($"  {rate,7:F1} Gbit/s  {(sends ? "guest to host" : "host to guest")}; {perByte:F1} for each second of the network's thread; {results.Max(result => result.Allocated)} bytes allocated");
    }
}

static void Exits()
{
    const int runs = 9;
    Console.WriteLine($"Exits to a device of Tutti's bus and back, kvm engine, against a plain C loop on the same /dev/kvm, medians of {runs} (bar: 1.10)");
    using ExitCost? cost = ExitCost.TryCreate();
    if (cost is null)
    {
        return;
    }

    foreach (bool isMmio in (bool[])[false, true])
    {
        List<double> ours = [];
        List<double> theirs = [];
        // The first round warms both up.
        for (int i = 0; i <= runs; i++)
        {
            double our = ExitCost.Ours(isMmio);
            double their = cost.Theirs(isMmio);
            if (i > 0)
            {
                ours.Add(our);
                theirs.Add(their);
            }
        }

        Console.WriteLine($"  {Median(ours),7:F0} ns  {(isMmio ? "MMIO" : "port")}, Tutti");
        Console.WriteLine($"  {Median(theirs),7:F0} ns  {(isMmio ? "MMIO" : "port")}, C");
        Console.WriteLine($"  {Median(ours) / Median(theirs),7:F3}     ratio");
    }
}

static void Boot(GuestImage image)
{
    const int runs = 5;
    bool hasQemu = File.Exists("/usr/bin/qemu-system-x86_64");
    var tutti = new List<double>();
    var qemu = new List<double>();
    for (int i = 0; i < runs; i++)
    {
        using (GuestRun run = GuestRun.Tutti(Setup(image)))
        {
            tutti.Add(run.WaitFor(GuestRun.Marker, TimeSpan.FromMinutes(2)) ?? double.PositiveInfinity);
        }

        if (hasQemu)
        {
            using GuestRun run = GuestRun.Qemu(Setup(image));
            qemu.Add(run.WaitFor(GuestRun.Marker, TimeSpan.FromMinutes(2)) ?? double.PositiveInfinity);
        }
    }

    double ours = Median(tutti);
    Console.WriteLine($"Boot: process start to /init, stock Debian kernel, 512 MiB, median of {runs} (bar: 25 s)");
    Console.WriteLine($"  {ours,7:F2} s  Tutti, software engine");
    if (hasQemu)
    {
        double theirs = Median(qemu);
        Console.WriteLine($"  {theirs,7:F2} s  QEMU TCG (-cpu max), same kernel, initramfs and command line");
        Console.WriteLine($"  {ours / theirs,7:F2}    Tutti / QEMU (bar: 10)");
    }
    else
    {
        Console.WriteLine("  QEMU is not installed: no ratio (apt-get install qemu-system-x86)");
    }
}

static void Idle(GuestImage image)
{
    using GuestRun run = GuestRun.Tutti(Setup(image));
    if (run.WaitFor("tutti:~# ", TimeSpan.FromMinutes(2)) is null)
    {
        Console.WriteLine("Idle: the guest did not reach its shell");
        return;
    }

    Thread.Sleep(TimeSpan.FromSeconds(5));
    double before = run.ProcessorSeconds();
    var watch = Stopwatch.StartNew();
    Thread.Sleep(TimeSpan.FromSeconds(20));
    double share = (run.ProcessorSeconds() - before) / watch.Elapsed.TotalSeconds;
    Console.WriteLine("Idle: guest at its shell prompt (bar: 1 %)");
    Console.WriteLine($"  {share * 100,7:F2} %  of one core");
}

static void Memory(GuestImage image)
{
    using GuestRun run = GuestRun.Tutti(Setup(image));
    if (run.WaitFor("tutti:~# ", TimeSpan.FromMinutes(2)) is null)
    {
        Console.WriteLine("Memory: the guest did not reach its shell");
        return;
    }

    Console.WriteLine("Memory: resident in the host beyond guest memory, guest at its shell prompt");
    Console.WriteLine($"  {run.OverheadBytes() / 1048576.0,7:F1} MiB");
}

static GuestSetup Setup(GuestImage image) => new(image, image.InitrdPath, GuestRun.MarkerWord);

static double Median(List<double> values)
{
    values.Sort();
    return values[values.Count / 2];
}
