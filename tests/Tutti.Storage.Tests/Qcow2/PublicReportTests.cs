using Tutti.Devices.Block;

namespace Tutti.Storage.Tests.Qcow2;

/// <summary>What others' qcow2 images came to harm by, as public reports of other hypervisors tell; each is lived through here, with qemu-img as the judge.</summary>
public sealed class PublicReportTests : IDisposable
{
    private readonly TempFolder _folder = new(inMemory: true);

    public void Dispose() => _folder.Dispose();

    /// <summary>
    /// Several queues that write, discard, zero and flush at once: tables shared without a lock, and a hole that was punched where a cluster had been freed and
    /// taken again meanwhile (cloud-hypervisor #7660 and #8624).
    /// </summary>
    [QemuTheory]
    [InlineData("cluster_size=65536")]
    [InlineData("cluster_size=512")]
    [InlineData("cluster_size=4096,lazy_refcounts=on")]
    public void Several_queues_at_once(string options)
    {
        const int Part = 2 << 20;
        const int Workers = 4;
        string path = _folder.File("disk.qcow2");
        Do("create", "-q", "-f", "qcow2", "-o", options, path, "8M");
        byte[] model = new byte[Part * Workers];
        for (int round = 0; round < 3; round++)
        {
            using (Disk disk = Disk.Open(new DiskOptions { Path = path }))
            {
                int seed = round * Workers;
                Parallel.For(0, Workers, new ParallelOptions { MaxDegreeOfParallelism = Workers }, worker => RandomRequests.Run(disk.Backend, model, worker * Part, Part, new Random(seed + worker)));
            }

            Do("check", "-q", path);
            Do("compare", "-q", "-f", "raw", "-F", "qcow2", _folder.File("model.raw", model), path);
        }
    }

    /// <summary>
    /// An image of compressed clusters that was made larger and then written much, until its reference counts need more tables: clusters were given out
    /// that held L2 tables (cloud-hypervisor #8606).
    /// </summary>
    [QemuTheory]
    [InlineData("cluster_size=512")]
    [InlineData("cluster_size=512,refcount_bits=64")]
    [InlineData("cluster_size=1024,compression_type=zstd")]
    [InlineData("cluster_size=65536")]
    public void A_compressed_image_that_was_made_larger_and_written_much(string options)
    {
        byte[] model = new byte[32 << 20];
        Random random = new(5);
        for (int at = 0; at < 6 << 20; at += 512)
        {
            random.NextBytes(model.AsSpan(at, random.Next(64)));
        }

        string path = _folder.File("disk.qcow2");
        Do("convert", "-q", "-c", "-O", "qcow2", "-o", options, _folder.File("small.raw", model[..(6 << 20)]), path);
        Do("resize", "-q", path, "32M");
        for (int round = 0; round < 4; round++)
        {
            using (Disk disk = Disk.Open(new DiskOptions { Path = path }))
            {
                RandomRequests.Run(disk.Backend, model, 0, model.Length, random, steps: 300);
            }

            Do("check", "-q", path);
            Do("compare", "-q", "-f", "raw", "-F", "qcow2", _folder.File("model.raw", model), path);
        }
    }

    /// <summary>An image larger than what it stands on: reads behind that one's end, and across it (cloud-hypervisor #7678).</summary>
    [QemuFact]
    public void Reads_across_the_end_of_a_shorter_backing_file()
    {
        byte[] model = new byte[1 << 20];
        new Random(9).NextBytes(model.AsSpan(0, (300 << 10) + 512));
        _folder.File("base.raw", model[..((300 << 10) + 512)]);
        Do("convert", "-q", "-O", "qcow2", _folder.File("base.raw"), _folder.File("base.qcow2"));
        Do("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", _folder.File("top.qcow2"), "1M");
        using Disk disk = Disk.Open(new DiskOptions { Path = _folder.File("top.qcow2") });
        TestRequests requests = new(disk.Backend);
        using NativeBytes bytes = new(model.Length, 0xAA);
        foreach ((int offset, int length) in ((int, int)[])[(0, model.Length), (300 << 10, 1024), ((300 << 10) + 512, 512), (299 << 10, 64 << 10), (1 << 19, 4096), (model.Length - 512, 512)])
        {
            Assert.Equal(BlockStatus.Ok, requests.Read(offset, bytes.Part(0, length)));
            Assert.True(bytes.Span[..length].SequenceEqual(model.AsSpan(offset, length)), $"{length} bytes at {offset}");
        }
    }

    /// <summary>An image keeps its features, lazy reference counts among them (cloud-hypervisor #6354).</summary>
    [QemuFact]
    public void Lazy_reference_counts_stay_a_feature_of_the_image()
    {
        string path = _folder.File("disk.qcow2");
        Do("create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", path, "4M");
        using (Disk disk = Disk.Open(new DiskOptions { Path = path }))
        {
            RandomRequests.Run(disk.Backend, new byte[4 << 20], 0, 4 << 20, new Random(3));
        }

        ImageInfo info = ImageFiles.GetInfo(path);
        Assert.True(info.Qcow2!.LazyRefcounts);
        Assert.False(info.IsDirty);
    }

    /// <summary>Refcount tables that are larger than the image needs (cloud-hypervisor #6349).</summary>
    [QemuTheory]
    [InlineData("cluster_size=512,refcount_bits=64,preallocation=metadata", "64M")]
    [InlineData("refcount_bits=1,preallocation=metadata", "1G")]
    [InlineData("cluster_size=2M,preallocation=metadata", "64G")]
    public void Refcount_tables_of_any_size(string options, string size)
    {
        string path = _folder.File("disk.qcow2");
        Do("create", "-q", "-f", "qcow2", "-o", options, path, size);
        Do("resize", "-q", "--shrink", path, "32M");
        using (Disk disk = Disk.Open(new DiskOptions { Path = path }))
        {
            RandomRequests.Run(disk.Backend, new byte[32 << 20], 0, 32 << 20, new Random(4));
        }

        Do("check", "-q", path);
    }

    private static void Do(params string[] args)
    {
        (int status, string output, string error) = QemuImage.Run("qemu-img", args);
        Assert.True(status == 0, $"qemu-img {string.Join(' ', args)}: {output}{error}");
    }
}
