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
        string words = $"-- measure {IoMeasurements.Milliseconds} 10.0.2.2:{other.Port} /dev/vda {string.Join(' ', names)}";
        GuestSetup setup = new(image, io.Initrd, words) { DiskPath = io.Disk, HasNetwork = true };
        using GuestRun run = Start(place, setup);
        string? failure = run.WaitFor(IoOutput.Init, BootPatience) is null ? $"failed: no init: {run.LastWords}" : null;
        foreach (string name in names)
        {
            (IoResult result, double processor) = failure is null ? Watch(run, name) : (new IoResult(0, 0, 0, failure), 0);
            foreach (Benchmark benchmark in chosen.Where(benchmark => benchmark.IoMeasurement == name))
            {
                Add(benchmark, place, result, processor);
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

    private void Add(Benchmark benchmark, Place place, IoResult result, double processor)
    {
        if (result.Problem is not null)
        {
            comparison.AddProblem(benchmark.Name, place, result.Problem, isBroken: true);
            return;
        }

        bool isProcessor = benchmark.Name != benchmark.IoMeasurement;
        double nanoseconds = isProcessor ? processor * 1e9 / result.Bytes
            : benchmark.CountsBytes ? (double)result.Nanoseconds / result.Bytes
            : (double)result.Nanoseconds / result.Operations;
        comparison.Add(benchmark.Name, place, benchmark.Unit.FromNanoseconds(nanoseconds));
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
