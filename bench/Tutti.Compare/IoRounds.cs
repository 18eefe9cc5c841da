using Tutti.Bench;
using Tutti.Guests;

namespace Tutti.Compare;

/// <summary>Measures disk, network and the way to a login in one place, once each time it is called.</summary>
internal sealed class IoRounds(
    IoMeasurements? measurements, GuestImage image, GuestImage? server, string engine, IReadOnlyList<Benchmark> chosen, Comparison comparison)
{
    /// <summary>The image whose login is waited for.</summary>
    internal const string LoginImage = "debian-server";

    private static readonly TimeSpan BootPatience = TimeSpan.FromMinutes(2);
    private static readonly TimeSpan MeasurePatience = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan LoginPatience = TimeSpan.FromMinutes(5);

    private bool WantsLogin => chosen.Any(benchmark => benchmark.Name == Benchmark.Login);

    /// <summary>Nothing is measured natively: the host has no device between programs and its own.</summary>
    internal void Measure(Place place)
    {
        if (place == Place.Native)
        {
            return;
        }

        if (measurements is not null)
        {
            using IoServer other = measurements.StartServer();
            MeasureGuest(measurements, place, other);
        }

        if (WantsLogin)
        {
            MeasureLogin(place);
        }
    }

    private void MeasureGuest(IoMeasurements io, Place place, IoServer other)
    {
        List<string> names = [.. chosen.Select(benchmark => benchmark.IoMeasurement).OfType<string>().Distinct()];
        Dictionary<Benchmark, double> best = [];
        MeasureGuest(io, place, other, names, "io_uring", best);

        // Which of its two ways is the faster one for QEMU depends on what is done: the better figure counts.
        List<string> again = [.. names.Where(name => name.StartsWith("disk-", StringComparison.Ordinal))];
        if (place == Place.Qemu && again.Count > 0)
        {
            MeasureGuest(io, place, other, again, "threads", best);
        }

        foreach ((Benchmark benchmark, double figure) in best)
        {
            comparison.Add(benchmark.Name, place, figure);
        }
    }

    private void MeasureGuest(IoMeasurements io, Place place, IoServer other, List<string> names, string qemuAio, Dictionary<Benchmark, double> best)
    {
        string words = $"-- measure {IoMeasurements.Milliseconds} 10.0.2.2:{other.Port} /dev/vda {string.Join(' ', names)}";
        GuestSetup setup = new(image, io.Initrd, words) { DiskPath = io.Disk, DiskFormat = io.DiskFormat, HasNetwork = true, QemuAio = qemuAio };
        using GuestRun run = Start(place, setup);
        string? failure = run.WaitFor(IoOutput.Init, BootPatience) is null ? $"failed: no init: {run.LastWords}" : null;
        foreach (string name in names)
        {
            (IoResult result, double processor) = failure is null ? Watch(run, name) : (new IoResult(0, 0, 0, failure), 0);
            foreach (Benchmark benchmark in chosen.Where(benchmark => benchmark.IoMeasurement == name))
            {
                if (result.Problem is not null)
                {
                    comparison.AddProblem(benchmark.Name, place, result.Problem, isBroken: true);
                    continue;
                }

                double figure = Figure(benchmark, result, processor);
                best[benchmark] = !best.TryGetValue(benchmark, out double before) ? figure
                    : benchmark.Unit.MoreIsBetter ? Math.Max(before, figure) : Math.Min(before, figure);
            }
        }
    }

    private static (IoResult Result, double Processor) Watch(GuestRun run, string name)
    {
        TimeSpan limit = run.Elapsed + MeasurePatience;
        run.WaitFor(output => IoOutput.HasStarted(output, name), limit);
        double before = run.HasEnded ? 0 : run.ProcessorSeconds();
        bool isThere = run.WaitFor(output => IoOutput.Find(output, name) is not null, limit) is not null;
        double after = run.HasEnded ? before : run.ProcessorSeconds();
        return (isThere ? IoOutput.Find(run.Output, name)! : new IoResult(0, 0, 0, $"failed: no answer: {run.LastWords}"), after - before);
    }

    private static double Figure(Benchmark benchmark, IoResult result, double processor)
    {
        bool isProcessor = benchmark.Name != benchmark.IoMeasurement;
        return benchmark.Unit.FromNanoseconds(
            isProcessor ? processor * 1e9 / result.Bytes
            : benchmark.CountsBytes ? (double)result.Nanoseconds / result.Bytes
            : (double)result.Nanoseconds / result.Operations);
    }

    /// <summary>From the image as it was built, each time: what is written goes to an image over it that is thrown away.</summary>
    private void MeasureLogin(Place place)
    {
        if (server?.DiskPath is null)
        {
            comparison.AddProblem(Benchmark.Login, place, $"no image: build it with ./tutti image pull {LoginImage}");
            return;
        }

        GuestSetup setup = new(server, server.InitrdPath, string.Empty)
        {
            DiskPath = server.DiskPath,
            IsDiskThrownAway = true,
            HasNetwork = true,
            MemoryMegabytes = 1024,
        };
        using GuestRun run = Start(place, setup);
        if (run.WaitFor("login: ", LoginPatience) is double seconds)
        {
            comparison.Add(Benchmark.Login, place, seconds);
        }
        else
        {
            comparison.AddProblem(Benchmark.Login, place, $"failed: no login: {run.LastWords}", isBroken: true);
        }
    }

    private GuestRun Start(Place place, GuestSetup setup) => place == Place.Tutti ? GuestRun.Tutti(setup, engine) : GuestRun.Qemu(setup);
}
