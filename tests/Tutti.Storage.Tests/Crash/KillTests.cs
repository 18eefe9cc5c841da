using System.Diagnostics;
using System.Globalization;
using Tutti.Devices.Block;
using Xunit.Abstractions;

namespace Tutti.Storage.Tests.Crash;

/// <summary>
/// A process that writes to an image is killed at a random moment (SIGKILL), again and again. Afterwards qemu-img finds lost clusters at most, and
/// every sector holds what was flushed or written later. TUTTI_KILLS is the number of kills, TUTTI_KILL_SEED the first seed.
/// </summary>
public sealed class KillTests(ITestOutputHelper output) : IDisposable
{
    private const int Size = 8 << 20;
    private const int Sectors = Size / SectorStamp.Size;

    private readonly TempFolder _folder = new();

    /// <summary>Where a flush costs little, so that many requests are done before the kill.</summary>
    private readonly TempFolder _memory = new(inMemory: true);

    private static readonly (string Options, int BackingSectors)[] s_shapes =
    [
        ("cluster_size=65536", 0), ("cluster_size=4096,lazy_refcounts=on", 0), ("cluster_size=512", 0), ("cluster_size=65536,lazy_refcounts=on", Sectors),
        ("cluster_size=1024,refcount_bits=1", 0), ("cluster_size=512,refcount_bits=64", Sectors / 2), ("compat=0.10,cluster_size=2048", 0), ("cluster_size=2M", Sectors - 5),
    ];

    private static int Kills => int.Parse(Environment.GetEnvironmentVariable("TUTTI_KILLS") ?? "16", CultureInfo.InvariantCulture);

    private static int Seed => int.Parse(Environment.GetEnvironmentVariable("TUTTI_KILL_SEED") ?? "1", CultureInfo.InvariantCulture);

    public void Dispose()
    {
        _folder.Dispose();
        _memory.Dispose();
    }

    [QemuFact]
    public void A_killed_process_leaves_an_image_with_lost_clusters_at_most_and_all_that_was_flushed()
    {
        Image[] images = [.. s_shapes.Select(Make)];
        (int leaks, int flushes, int requests) = (0, 0, 0);
        for (int kill = 0; kill < Kills; kill++)
        {
            int seed = Seed + kill;
            Image image = images[kill % images.Length];
            try
            {
                Random random = new(seed);
                RunAndKill(image, seed, random.Next(1, 120), random.Next(130));
                leaks += Judge(image, mends: random.Next(3) == 0) ? 1 : 0;
            }
            catch (Exception e)
            {
                throw new InvalidOperationException($"kill {kill} (TUTTI_KILL_SEED={seed}), {image.Options}: {e.Message}", e);
            }
        }

        foreach (Image image in images)
        {
            (flushes, requests) = (flushes + image.Model.Flushes, requests + image.Model.Requests);
        }

        Assert.True(flushes > Kills && requests > 10 * Kills, $"{requests} requests and {flushes} flushes are too few to show anything");
        output.WriteLine($"{Kills} kills, {requests} requests, {flushes} flushes, lost clusters after {leaks} kills");
    }

    private Image Make((string Options, int BackingSectors) shape, int index)
    {
        TempFolder folder = index % 4 == 0 ? _folder : _memory;
        string path = folder.File($"{index}.qcow2");
        if (shape.BackingSectors == 0)
        {
            Do("create", "-q", "-f", "qcow2", "-o", shape.Options, path, Size.ToString(CultureInfo.InvariantCulture));
        }
        else
        {
            byte[] bytes = new byte[shape.BackingSectors * SectorStamp.Size];
            SectorStamp.Fill(bytes, 0, SectorStamp.First);
            string backing = folder.File($"{index}.raw", bytes);
            Do("create", "-q", "-f", "qcow2", "-o", shape.Options, "-b", backing, "-F", "raw", path, Size.ToString(CultureInfo.InvariantCulture));
        }

        return new Image(path, shape.Options, new CrashModel(Sectors, sector => sector < shape.BackingSectors ? SectorStamp.First : SectorStamp.Zeroes));
    }

    /// <param name="image">What it writes to.</param>
    /// <param name="seed">Of what it does.</param>
    /// <param name="least">How many requests must have begun or ended: on a busy host time alone says little.</param>
    /// <param name="milliseconds">How much longer it has.</param>
    private static void RunAndKill(Image image, int seed, int least, int milliseconds)
    {
        string dotnet = Environment.ProcessPath!.EndsWith("/dotnet", StringComparison.Ordinal) ? Environment.ProcessPath : "dotnet";
        using Process child = QemuImage.Start(dotnet, CrashChild.Words(image.Path, seed, image.NextId));
        Task<string> error = child.StandardError.ReadToEndAsync();
        List<CrashReport> reports = [];
        using ManualResetEventSlim isUnderWay = new();
        Thread reader = new(() =>
        {
            byte[] record = new byte[CrashReport.Length];
            Stream stream = child.StandardOutput.BaseStream;
            while (stream.ReadAtLeast(record, record.Length, throwOnEndOfStream: false) == record.Length)
            {
                reports.Add(CrashReport.Get(record));
                if (reports.Count == least)
                {
                    isUnderWay.Set();
                }
            }

            isUnderWay.Set();
        });
        reader.Start();
        try
        {
            Assert.True(isUnderWay.Wait(TimeSpan.FromMinutes(2)), "the child does too little");
            Thread.Sleep(milliseconds);
            Assert.False(child.HasExited, "the child has ended by itself");
        }
        finally
        {
            child.Kill();
            reader.Join();
            child.WaitForExit();
        }

        Assert.Equal(string.Empty, error.Result);
        foreach (CrashReport report in reports)
        {
            if (report.IsEnd)
            {
                image.Model.Complete(report.Request.Id);
            }
            else
            {
                image.Model.Submit(report.Request);
                image.NextId = Math.Max(image.NextId, report.Request.Id + 1);
            }
        }

        // One may have been submitted and not told: its record comes first. Reads have numbers too, which are not told.
        image.NextId += 1_000;
    }

    /// <returns>Whether clusters were lost.</returns>
    private static bool Judge(Image image, bool mends)
    {
        (int status, string text, string error) = QemuImage.Run("qemu-img", "check", image.Path);
        Assert.True(status is 0 or 3, $"qemu-img check: {status} {text}{error}");
        ImageCheck check = ImageFiles.Check(image.Path, repair: false, ImageFormat.Qcow2).Check!;
        Assert.True(check.Corruptions == 0, string.Join('\n', check.Messages));
        // Counts of clusters that the file's end has not reached are lost clusters here, and not looked at there.
        Assert.True(status == 0 || check.Leaks > 0, text);
        if (mends)
        {
            Assert.Equal(0, ImageFiles.Check(image.Path, repair: true, ImageFormat.Qcow2).Check!.Leaks);
            Do("check", "-q", image.Path);
        }

        using Disk disk = Disk.Open(new DiskOptions { Path = image.Path, Format = ImageFormat.Qcow2, IsReadOnly = true });
        using NativeBytes bytes = new(1 << 18);
        TestRequests requests = new(disk.Backend);
        for (int at = 0; at < Size; at += bytes.Length)
        {
            Assert.Equal(BlockStatus.Ok, requests.Read(at, bytes.Segment));
            string? wrong = image.Model.Adopt(at / SectorStamp.Size, bytes.Span);
            Assert.True(wrong == null, wrong);
        }

        image.Model.Settle();
        return check.Leaks > 0;
    }

    private static void Do(params string[] args)
    {
        (int status, string text, string error) = QemuImage.Run("qemu-img", args);
        Assert.True(status == 0, $"qemu-img {string.Join(' ', args)}: {text}{error}");
    }

    private sealed class Image(string path, string options, CrashModel model)
    {
        public string Path => path;

        public string Options => options;

        public CrashModel Model => model;

        public long NextId { get; set; } = 1;
    }
}
