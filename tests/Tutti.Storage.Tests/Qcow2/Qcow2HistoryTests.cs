using Tutti.Devices.Block;

namespace Tutti.Storage.Tests.Qcow2;

/// <summary>Random histories on a disk, against an array, with qemu-img as the judge of the file.</summary>
public sealed class Qcow2HistoryTests : IDisposable
{
    private readonly TempFolder _folder = new();

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

    private static void Do(params string[] args)
    {
        (int status, string output, string error) = QemuImage.Run("qemu-img", args);
        Assert.True(status == 0, $"qemu-img {string.Join(' ', args)}: {output}{error}");
    }

    private void Live(string path, byte[] model, int seed)
    {
        Random random = new(seed);
        for (int round = 0; round < 3; round++)
        {
            using (Disk disk = Disk.Open(new DiskOptions { Path = path, Format = ImageFormat.Qcow2 }))
            {
                Step(disk.Backend, model, random);
            }

            Do("check", path);
            string raw = _folder.File("model.raw", model);
            Do("compare", "-f", "raw", "-F", "qcow2", raw, path);
        }
    }

    private static void Step(IBlockBackend disk, byte[] model, Random random)
    {
        TestRequests requests = new(disk);
        using NativeBytes bytes = new(1 << 18);
        for (int i = 0; i < 100; i++)
        {
            int length = random.Next(1, random.Next(2) == 0 ? 9 : 513) * 512;
            int offset = random.Next(0, ((model.Length - length) / 512) + 1) * 512;
            Span<byte> part = model.AsSpan(offset, length);
            BlockStatus status;
            switch (random.Next(8))
            {
                case 0:
                    status = requests.Run(BlockOperation.WriteZeroes, offset, length, [], mayUnmap: random.Next(2) == 0);
                    part.Clear();
                    break;
                case 1:
                    status = requests.Run(BlockOperation.Discard, offset, length, []);
                    // What a discarded part reads as is not said: the model takes it as it is.
                    Assert.Equal(BlockStatus.Ok, requests.Read(offset, bytes.Part(0, length)));
                    bytes.Span[..length].CopyTo(part);
                    break;
                case 2:
                    status = requests.Flush();
                    break;
                case 3 or 4:
                    status = requests.Read(offset, bytes.Part(0, length));
                    Assert.True(bytes.Span[..length].SequenceEqual(part), $"step {i}: bytes at {offset} are not what was written");
                    break;
                default:
                    random.NextBytes(bytes.Span[..length]);
                    status = requests.Write(offset, bytes.Part(0, length));
                    bytes.Span[..length].CopyTo(part);
                    break;
            }

            Assert.Equal(BlockStatus.Ok, status);
        }
    }
}
