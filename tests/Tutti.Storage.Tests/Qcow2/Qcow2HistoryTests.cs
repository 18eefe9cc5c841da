using Tutti.Devices.Block;

namespace Tutti.Storage.Tests.Qcow2;

/// <summary>Random histories on a disk, against an array, with qemu-img as the judge of the file.</summary>
public sealed class Qcow2HistoryTests : IDisposable
{
    private readonly TempFolder _folder = new(inMemory: true);

    public void Dispose() => _folder.Dispose();

    private static readonly string[] s_options =
    [
        "cluster_size=65536", "cluster_size=512", "cluster_size=4096,refcount_bits=1", "cluster_size=2M", "cluster_size=512,refcount_bits=64",
        "compat=0.10", "cluster_size=1024,refcount_bits=4", "cluster_size=4096,refcount_bits=32,lazy_refcounts=on", "cluster_size=512,refcount_bits=2",
    ];

    [QemuFact]
    public void An_image_made_here_lives_through_a_random_history()
    {
        string path = _folder.File("own.qcow2");
        ImageFiles.Create(path, ImageFormat.Qcow2, 8 << 20);
        Assert.Equal(0, QemuImage.Run("qemu-img", "check", path).Status);
        Live(path, new byte[8 << 20], seed: 1);
    }

    [QemuFact]
    public void Images_of_all_shapes_live_through_a_random_history()
    {
        int seed = 10;
        foreach (string options in s_options)
        {
            string path = _folder.File($"{seed}.qcow2");
            Do("create", "-f", "qcow2", "-o", options, path, "6M");
            Live(path, new byte[6 << 20], seed++);
        }
    }

    [QemuFact]
    public void An_image_on_a_shorter_backing_file_lives_through_a_random_history()
    {
        byte[] model = new byte[6 << 20];
        new Random(3).NextBytes(model.AsSpan(0, 3 << 20));
        _folder.File("base.raw", model[..(3 << 20)]);
        string path = _folder.File("top.qcow2");
        ImageFiles.Create(path, ImageFormat.Qcow2, 6 << 20, "base.raw", ImageFormat.Raw);
        Live(path, model, seed: 4);
        string old = _folder.File("old.qcow2");
        Do("create", "-f", "qcow2", "-o", "compat=0.10", "-b", "top.qcow2", "-F", "qcow2", old);
        Live(old, model, seed: 5);
    }

    [QemuFact]
    public void Compressed_clusters_are_read_and_overwritten()
    {
        foreach (string type in (string[])["zlib", "zstd"])
        {
            byte[] model = new byte[4 << 20];
            for (int i = 0; i < model.Length; i++)
            {
                model[i] = (byte)((i >> 9) * (i & 7));
            }

            string raw = _folder.File($"{type}.raw", model);
            string path = _folder.File($"{type}.qcow2");
            Do("convert", "-c", "-O", "qcow2", "-o", $"compression_type={type}", raw, path);
            Live(path, model, seed: 6);
        }
    }

    [QemuFact]
    public void A_snapshot_keeps_its_bytes_while_the_image_is_written()
    {
        byte[] model = new byte[4 << 20];
        new Random(7).NextBytes(model);
        byte[] before = [.. model];
        string path = _folder.File("snap.qcow2");
        Do("convert", "-O", "qcow2", _folder.File("snap.raw", model), path);
        Do("snapshot", "-c", "one", path);
        Live(path, model, seed: 8);
        Do("convert", "-l", "one", "-O", "raw", path, _folder.File("back.raw"));
        Assert.True(File.ReadAllBytes(_folder.File("back.raw")).AsSpan().SequenceEqual(before));
        Do("snapshot", "-d", "one", path);
        Live(path, model, seed: 9);
    }

    [QemuFact]
    public void A_process_that_ends_anywhere_leaves_lost_clusters_at_most_and_all_that_was_flushed()
    {
        string path = _folder.File("crash.qcow2");
        Do("create", "-f", "qcow2", "-o", "cluster_size=512", path, "6M");
        byte[] model = new byte[6 << 20];
        Random random = new(77);
        using Disk disk = Disk.Open(new DiskOptions { Path = path, Format = ImageFormat.Qcow2 });
        for (int i = 0; i < 12; i++)
        {
            RandomRequests.Run(disk.Backend, model, 0, model.Length, random, steps: 100);
            TestRequests requests = new(disk.Backend);
            Assert.Equal(BlockStatus.Ok, requests.Flush());
            // What the kernel has of the file now is what it would have after kill -9. Later writes are not to harm what was flushed: they go elsewhere.
            using NativeBytes bytes = new(1 << 18, (byte)i);
            int offset = 1 << 20;
            for (int more = 0; more < 3; more++)
            {
                Assert.Equal(BlockStatus.Ok, requests.Write(offset, bytes.Segment));
                Assert.Equal(BlockStatus.Ok, requests.Run(BlockOperation.Discard, offset, 1 << 18, []));
            }

            string copy = _folder.File($"copy{i}.qcow2");
            File.Copy(path, copy);
            (int status, string output, _) = QemuImage.Run("qemu-img", "check", copy);
            Assert.True(status is 0 or 3, output);
            Assert.True(status == 0 || ImageFiles.Check(copy, repair: false, ImageFormat.Qcow2).Check!.Leaks > 0);
            Assert.Equal(0, ImageFiles.Check(copy, repair: false, ImageFormat.Qcow2).Check!.Corruptions);
            using Disk found = Disk.Open(new DiskOptions { Path = copy, Format = ImageFormat.Qcow2, IsReadOnly = true });
            TestRequests reads = new(found.Backend);
            for (int at = 2 << 20; at < model.Length; at += 1 << 18)
            {
                Assert.Equal(BlockStatus.Ok, reads.Read(at, bytes.Segment));
                Assert.True(bytes.Span.SequenceEqual(model.AsSpan(at, 1 << 18)), $"flushed bytes at {at} are lost");
            }

            model.AsSpan(offset, 1 << 18).Clear();
        }
    }

    [QemuFact]
    public void A_resized_image_shows_zeroes_where_it_grew()
    {
        byte[] model = new byte[4 << 20];
        new Random(5).NextBytes(model);
        _folder.File("base.raw", model);
        string path = _folder.File("top.qcow2");
        Do("create", "-f", "qcow2", "-o", "cluster_size=512", "-b", "base.raw", "-F", "raw", path);
        ImageFiles.Resize(path, _ => 1_000_448);
        Do("check", path);
        ImageFiles.Resize(path, _ => 40 << 20);
        Do("check", path);
        byte[] now = new byte[40 << 20];
        model.AsSpan(0, 1_000_448).CopyTo(now);
        Live(path, now, seed: 12);
    }

    [QemuFact]
    public void Images_that_are_resized_again_and_again_live_through_random_histories()
    {
        for (int shape = 0; shape < s_options.Length; shape += 2)
        {
            Random random = new(40 + shape);
            string path = _folder.File($"resized{shape}.qcow2");
            byte[] model = new byte[3 << 20];
            random.NextBytes(model.AsSpan(0, 2 << 20));
            bool hasBacking = shape == 4;
            string raw = _folder.File("first.raw", model);
            Do(hasBacking ? ["create", "-q", "-f", "qcow2", "-o", s_options[shape], "-b", raw, "-F", "raw", path] : ["convert", "-O", "qcow2", "-o", s_options[shape], raw, path]);
            for (int round = 0; round < 4; round++)
            {
                int size = random.Next(1 << 11, 1 << 14) * 512;
                Assert.Equal(size, ImageFiles.Resize(path, _ => size, ImageFormat.Qcow2));
                Array.Resize(ref model, size);
                Live(path, model, seed: 100 + (10 * shape) + round, rounds: 1);
            }
        }
    }

    private static void Do(params string[] args)
    {
        (int status, string output, string error) = QemuImage.Run("qemu-img", args);
        Assert.True(status == 0, $"qemu-img {string.Join(' ', args)}: {output}{error}");
    }

    private void Live(string path, byte[] model, int seed, int rounds = 3)
    {
        Random random = new(seed);
        for (int round = 0; round < rounds; round++)
        {
            using (Disk disk = Disk.Open(new DiskOptions { Path = path, Format = ImageFormat.Qcow2 }))
            {
                RandomRequests.Run(disk.Backend, model, 0, model.Length, random, steps: 100);
            }

            Do("check", path);
            ImageCheck check = ImageFiles.Check(path, repair: false, ImageFormat.Qcow2).Check!;
            Assert.Equal((0, 0), (check.Leaks, check.Corruptions));
            string raw = _folder.File("model.raw", model);
            Do("compare", "-f", "raw", "-F", "qcow2", raw, path);
        }
    }
}
