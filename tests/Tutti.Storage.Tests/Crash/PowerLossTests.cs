using System.Buffers.Binary;
using System.Globalization;
using Tutti.Devices.Block;
using Tutti.Memory;
using Tutti.Storage.Files;
using Tutti.Storage.Qcow2;
using Xunit.Abstractions;

namespace Tutti.Storage.Tests.Crash;

/// <summary>
/// The host's power goes at a random moment: of what was written to the file since its last fdatasync only some is there, each sector by itself. The image
/// that is left is sound but for lost clusters, holds what the guest has flushed, and takes writes. TUTTI_POWER_CUTS is the number of cuts,
/// TUTTI_POWER_SEED the first seed.
/// </summary>
public sealed class PowerLossTests(ITestOutputHelper output) : IDisposable
{
    private const int Size = 4 << 20;
    private const int Room = Size * 2;
    private const int CutsPerHistory = 20;
    private const int Steps = 160;

    /// <summary>So few bytes of tables that they are written back all the time.</summary>
    private const long CacheBytes = 4096;
    private readonly TempFolder _folder = new(inMemory: true);

    private static readonly (string Options, int StampedSectors, Base Base)[] s_shapes =
    [
        ("cluster_size=512", 0, Base.None), ("cluster_size=4096,lazy_refcounts=on", 0, Base.None), ("cluster_size=512,refcount_bits=64", Size / 1024, Base.Backing),
        ("cluster_size=1024,refcount_bits=4", Size / 1024, Base.Snapshot), ("cluster_size=65536", 0, Base.None), ("compat=0.10,cluster_size=2048", 0, Base.None),
        ("cluster_size=65536", (Size / 512) - 3, Base.Backing), ("cluster_size=512", Size / 512, Base.Snapshot), ("cluster_size=1024,refcount_bits=1", 0, Base.None),
        ("cluster_size=512", Size / 1024, Base.Compressed), ("cluster_size=65536", Size / 512, Base.Compressed),
    ];

    private enum Base
    {
        None,
        Backing,
        Snapshot,
        Compressed,
    }

    private static int Cuts => int.Parse(Environment.GetEnvironmentVariable("TUTTI_POWER_CUTS") ?? "240", CultureInfo.InvariantCulture);

    private static int Seed => int.Parse(Environment.GetEnvironmentVariable("TUTTI_POWER_SEED") ?? "1", CultureInfo.InvariantCulture);

    public void Dispose() => _folder.Dispose();

    [QemuFact]
    public void A_loss_of_power_leaves_an_image_with_lost_clusters_at_most_and_all_that_was_flushed()
    {
        (int cuts, int leaks) = (0, 0);
        for (int history = 0; cuts < Cuts; history++)
        {
            int seed = Seed + history;
            (string options, int stamped, Base kind) = s_shapes[seed % s_shapes.Length];
            try
            {
                string path = Make(options, stamped, kind);
                byte[] before = File.ReadAllBytes(path);
                FileRecord record = new();
                Live(path, new Random(seed), record, canGrow: kind != Base.Snapshot);
                for (int i = 0; i < CutsPerHistory && cuts < Cuts; i++, cuts++)
                {
                    Random random = new(HashCode.Combine(seed, i));
                    CrashModel model = new(Room / SectorStamp.Size, sector => sector < stamped ? SectorStamp.First : SectorStamp.Zeroes);
                    int moment = record.Choose(random);
                    long size = record.Replay(before, moment, random, model, out byte[] left);
                    string cut = _folder.File("cut.qcow2", left);
                    leaks += Judge(cut, model, Math.Max(size, Size), random, asksQemu: i % 6 == 0) ? 1 : 0;
                }
            }
            catch (Exception e)
            {
                throw new InvalidOperationException($"TUTTI_POWER_SEED={seed}, {options}, {kind}: {e.Message}", e);
            }
        }

        output.WriteLine($"{cuts} cuts, lost clusters after {leaks}");
    }

    [QemuFact]
    public void A_loss_of_power_while_counts_are_made_anew_harms_nothing()
    {
        const int CutsPerImage = 8;
        for (int number = 0; number < Cuts / 48; number++)
        {
            int seed = Seed + number;
            Random random = new(seed);
            string options = s_shapes[seed % s_shapes.Length].Options;
            try
            {
                string path = Make(options, Size / 1024, number % 2 == 0 || options.EndsWith("bits=1", StringComparison.Ordinal) ? Base.Compressed : Base.Snapshot);
                byte[] before = Spoil(File.ReadAllBytes(path), random);
                File.WriteAllBytes(path, before);
                FileRecord record = new();
                using (BlockFile file = BlockFile.Open(path, isReadOnly: false))
                {
                    file.Watch = record;
                    Assert.Equal(0, ImageFormat.Qcow2.Check(file, repair: true)!.Corruptions);
                }

                for (int cut = 0; cut < CutsPerImage; cut++)
                {
                    CrashModel model = new(Size / SectorStamp.Size, sector => sector < Size / 1024 ? SectorStamp.First : SectorStamp.Zeroes);
                    record.Replay(before, record.Choose(random), random, model, out byte[] left);
                    string copy = _folder.File("cut.qcow2", left);
                    Assert.Equal(0, ImageFiles.Check(copy, repair: true, ImageFormat.Qcow2).Check!.Corruptions);
                    Judge(copy, model, Size, random, asksQemu: cut == 0);
                }
            }
            catch (Exception e)
            {
                throw new InvalidOperationException($"TUTTI_POWER_SEED={seed}, {options}: {e.Message}", e);
            }
        }
    }

    /// <summary>Wrong counts, blocks that are gone, and the dirty bit where the version has it.</summary>
    private static byte[] Spoil(byte[] image, Random random)
    {
        int clusterSize = 1 << image[23];
        int table = (int)BinaryPrimitives.ReadInt64BigEndian(image.AsSpan(48));
        image[79] |= (byte)(image[7] >= 3 ? 1 : 0);
        for (int at = table; at < table + clusterSize; at += 8)
        {
            int block = (int)BinaryPrimitives.ReadInt64BigEndian(image.AsSpan(at));
            switch (block == 0 ? 3 : random.Next(4))
            {
                case 0:
                    random.NextBytes(image.AsSpan(block, clusterSize));
                    break;
                case 1:
                    image.AsSpan(block, clusterSize).Clear();
                    break;
                case 2:
                    image.AsSpan(at, 8).Clear();
                    break;
            }
        }

        return image;
    }

    private string Make(string options, int stampedSectors, Base kind)
    {
        string path = _folder.File("disk.qcow2");
        File.Delete(path);
        byte[] bytes = new byte[kind == Base.Backing ? stampedSectors * SectorStamp.Size : Size];
        SectorStamp.Fill(bytes.AsSpan(0, stampedSectors * SectorStamp.Size), 0, SectorStamp.First);
        string raw = _folder.File("base.raw", bytes);
        string size = Size.ToString(CultureInfo.InvariantCulture);
        switch (kind)
        {
            case Base.None:
                Do("create", "-q", "-f", "qcow2", "-o", options, path, size);
                break;
            case Base.Backing:
                Do("create", "-q", "-f", "qcow2", "-o", options, "-b", raw, "-F", "raw", path, size);
                break;
            case Base.Snapshot:
                Do("convert", "-O", "qcow2", "-o", options, raw, path);
                Do("snapshot", "-c", "one", path);
                break;
            case Base.Compressed:
                Do("convert", "-c", "-O", "qcow2", "-o", options, raw, path);
                break;
        }

        return path;
    }

    /// <summary>A guest's life on the image, one request after the other, so that the record has one order.</summary>
    private static void Live(string path, Random random, FileRecord record, bool canGrow)
    {
        BlockFile file = BlockFile.Open(path, isReadOnly: false);
        file.Watch = record;
        using Qcow2Image image = Qcow2Image.Open(file, cacheBytes: CacheBytes);
        image.BeginWriting();
        using NativeBytes bytes = new(256 * SectorStamp.Size);
        for (int id = 1; id <= Steps; id++)
        {
            if (canGrow && random.Next(50) == 0 && image.Size < Room)
            {
                image.Resize(Math.Min(Room, image.Size + (random.Next(1, 4000) * SectorStamp.Size)));
                record.Grown(image.Size);
            }

            Step(image, id, random, record, bytes);
        }

        image.Flush();
        image.Flush();
    }

    private static void Step(Qcow2Image image, int id, Random random, FileRecord record, NativeBytes bytes)
    {
        BlockOperation operation = random.Next(10) switch { < 5 => BlockOperation.Write, < 7 => BlockOperation.Discard, 7 => BlockOperation.WriteZeroes, _ => BlockOperation.Flush };
        int sectors = random.Next(3) == 0 ? random.Next(1, 257) : random.Next(1, 17);
        long part = random.Next(2) == 0 ? image.Size / 16 : image.Size;
        long first = random.NextInt64(0, (part / SectorStamp.Size) - sectors + 1);
        CrashRequest request = new(id, operation, first * SectorStamp.Size, operation == BlockOperation.Flush ? 0 : sectors * SectorStamp.Size);
        record.Begin(request);
        IoOperation scratch = new() { Owner = NoCompletion.Instance };
        switch (operation)
        {
            case BlockOperation.Write:
                Span<byte> data = bytes.Span[..(int)request.Length];
                SectorStamp.Fill(data, first, id);
                image.Write([bytes.Part(0, data.Length)], request.Offset, request.Length, scratch);
                break;
            case BlockOperation.Discard:
                image.Discard(request.Offset, request.Length);
                break;
            case BlockOperation.WriteZeroes:
                image.WriteZeroes(request.Offset, request.Length, mayUnmap: random.Next(2) == 0, scratch);
                break;
            default:
                image.Flush();
                break;
        }

        record.End(request);
    }

    /// <returns>Whether clusters were lost.</returns>
    private static bool Judge(string path, CrashModel model, long minSize, Random random, bool asksQemu)
    {
        bool hasLeaks = Check(path);
        if (asksQemu)
        {
            (int status, string text, string error) = QemuImage.Run("qemu-img", "check", path);
            // Counts of clusters that the file's end has not reached are lost clusters here, and not looked at there.
            Assert.True(status == 0 || (status == 3 && hasLeaks), $"qemu-img check: {status} {text}{error}");
        }

        using (Qcow2Image image = Qcow2Image.Open(BlockFile.Open(path, isReadOnly: false)))
        {
            image.BeginWriting();
            Assert.True(image.Size >= minSize, "the image is smaller than it was");
            IoOperation scratch = new() { Owner = NoCompletion.Instance };
            using NativeBytes bytes = new(1 << 18);
            for (long at = 0; at < image.Size; at += bytes.Length)
            {
                int length = (int)Math.Min(bytes.Length, image.Size - at);
                image.Read([bytes.Part(0, length)], 0, at, length, scratch);
                string? wrong = model.Adopt(at / SectorStamp.Size, bytes.Span[..length]);
                Assert.True(wrong == null, wrong);
            }

            // Life goes on.
            FileRecord record = new();
            for (int id = 10_000; id < 10_012; id++)
            {
                Step(image, id, random, record, bytes);
            }

            image.Flush();
            image.Flush();
        }

        Check(path);
        return hasLeaks;
    }

    private static bool Check(string path)
    {
        ImageCheck check = ImageFiles.Check(path, repair: false, ImageFormat.Qcow2).Check!;
        Assert.True(check.Corruptions == 0, string.Join('\n', check.Messages));
        return check.Leaks > 0;
    }

    private static void Do(params string[] args)
    {
        (int status, string text, string error) = QemuImage.Run("qemu-img", args);
        Assert.True(status == 0, $"qemu-img {string.Join(' ', args)}: {text}{error}");
    }
}
