using System.Collections.Concurrent;
using System.Diagnostics;
using Tutti.Devices.Block;
using Tutti.Memory;
using Tutti.Storage.Files;
using Tutti.Storage.Tests.Crash;

namespace Tutti.Storage.Tests;

/// <summary>What a guest sees when the host has no room: a small file system in memory, which takes root to mount.</summary>
public sealed class FullDiskTests : IDisposable
{
    private readonly TempFolder _folder = new();

    public static TheoryData<IoMethod> Methods { get; } = [IoMethod.IoUring, IoMethod.Threads];

    public void Dispose() => _folder.Dispose();

    [RootTheory]
    [MemberData(nameof(Methods))]
    public void Writes_to_a_full_host_fail_and_leave_what_was_there(IoMethod method)
    {
        using SmallFileSystem small = new(_folder.File("small"), "1m");
        string path = Path.Combine(small.Path, "disk.img");
        ImageFiles.Create(path, ImageFormat.Raw, 8 << 20);
        ConcurrentQueue<string> lines = new();
        using NativeBytes bytes = new(256 << 10, 0x77);
        using NativeBytes back = new(256 << 10);
        using Disk disk = Disk.Open(new DiskOptions { Path = path, Method = method }, new StorageNotices(lines.Enqueue));
        TestRequests requests = new(disk.Backend);
        int written = 0;
        while (requests.Write((long)written * bytes.Length, bytes.Segment) == BlockStatus.Ok)
        {
            written++;
            Assert.True(written < 8);
        }

        Assert.InRange(written, 2, 4);
        Assert.Equal(BlockStatus.IoError, requests.Write(4 << 20, bytes.Segment));
        Assert.Equal(BlockStatus.IoError, requests.Write(5 << 20, bytes.Segment));
        Assert.StartsWith("the host's disk is full", Assert.Single(lines), StringComparison.Ordinal);
        for (int i = 0; i < written; i++)
        {
            Assert.Equal(BlockStatus.Ok, requests.Read((long)i * bytes.Length, back.Segment));
            Assert.True(back.Span.SequenceEqual(bytes.Span));
        }

        // Room again: the guest's next write is as good as any.
        Assert.Equal(BlockStatus.Ok, requests.Run(BlockOperation.Discard, 0, 512 << 10, []));
        Assert.Equal(BlockStatus.Ok, requests.Write(4 << 20, bytes.Segment));
        Assert.Equal(BlockStatus.Ok, requests.Flush());
        foreach (long there in (long[])[(written - 1) * (256L << 10), 4 << 20])
        {
            Assert.Equal(BlockStatus.Ok, requests.Read(there, back.Segment));
            Assert.True(back.Span.SequenceEqual(bytes.Span));
        }
    }

    /// <summary>Random requests, most of which find no room; then there is room again.</summary>
    [QemuRootTheory]
    [InlineData("cluster_size=512", false)]
    [InlineData("cluster_size=4096,refcount_bits=1", false)]
    [InlineData("cluster_size=65536", true)]
    [InlineData("cluster_size=512,refcount_bits=64", true)]
    public void A_qcow2_image_on_a_full_host_fails_requests_and_is_never_damaged(string shape, bool hasBacking)
    {
        const int Sectors = (8 << 20) / SectorStamp.Size;
        using SmallFileSystem small = new(_folder.File("small"), "2m");
        string path = Path.Combine(small.Path, "disk.qcow2");
        byte[] below = new byte[hasBacking ? Sectors * SectorStamp.Size : 0];
        SectorStamp.Fill(below, 0, SectorStamp.First);
        string backing = _folder.File("base.raw", below);
        Assert.Equal(0, QemuImage.Run("qemu-img", ["create", "-q", "-f", "qcow2", "-o", shape, .. hasBacking ? (string[])["-b", backing, "-F", "raw"] : [], path, "8M"]).Status);
        CrashModel model = new(Sectors, _ => hasBacking ? SectorStamp.First : SectorStamp.Zeroes);
        Random random = new(9);
        ConcurrentQueue<string> lines = new();
        int failures = 0;
        long id = 1;
        for (int life = 0; life < 3; life++)
        {
            using (Disk disk = Disk.Open(new DiskOptions { Path = path, Format = ImageFormat.Qcow2, Backing = BackingRule.Anywhere }, new StorageNotices(lines.Enqueue)))
            {
                for (int i = 0; i < 150; i++)
                {
                    failures += Step(disk.Backend, model, random, id++) ? 0 : 1;
                }
            }

            Judge(path, model);
        }

        Assert.InRange(failures, 50, 400);
        Assert.StartsWith("the host's disk is full", lines.First(), StringComparison.Ordinal);
        Process.Start("mount", ["-o", "remount,size=64m", small.Path]).WaitForExit();
        using (Disk disk = Disk.Open(new DiskOptions { Path = path, Format = ImageFormat.Qcow2, Backing = BackingRule.Anywhere }))
        {
            for (int i = 0; i < 100; i++)
            {
                Assert.True(Step(disk.Backend, model, random, id++), "a request fails though there is room");
            }
        }

        Judge(path, model);
    }

    /// <returns>Whether the guest was told that it is done.</returns>
    private static bool Step(IBlockBackend disk, CrashModel model, Random random, long id)
    {
        BlockOperation operation = random.Next(20) switch { < 14 => BlockOperation.Write, 14 => BlockOperation.Discard, 15 => BlockOperation.WriteZeroes, _ => BlockOperation.Flush };
        int sectors = operation == BlockOperation.Flush ? 0 : random.Next(1, 257);
        long first = random.NextInt64(0, model.Sectors - sectors + 1);
        CrashRequest request = new(id, operation, first * SectorStamp.Size, sectors * SectorStamp.Size);
        using NativeBytes bytes = new(256 * SectorStamp.Size);
        SectorStamp.Fill(bytes.Span[..(int)request.Length], first, id);
        model.Submit(request);
        MemorySegment[] segments = operation == BlockOperation.Write ? [bytes.Part(0, (int)request.Length)] : [];
        BlockStatus status = new TestRequests(disk).Run(operation, request.Offset, request.Length, segments, mayUnmap: random.Next(2) == 0);
        if (status == BlockStatus.Ok)
        {
            model.Complete(id);
        }

        return status == BlockStatus.Ok;
    }

    private static void Judge(string path, CrashModel model)
    {
        (int status, string text, string error) = QemuImage.Run("qemu-img", "check", path);
        Assert.True(status is 0 or 3, $"qemu-img check: {status} {text}{error}");
        Assert.Equal(0, ImageFiles.Check(path, repair: false, ImageFormat.Qcow2).Check!.Corruptions);
        using Disk disk = Disk.Open(new DiskOptions { Path = path, Format = ImageFormat.Qcow2, IsReadOnly = true, Backing = BackingRule.Anywhere });
        using NativeBytes bytes = new(1 << 18);
        for (long at = 0; at < disk.Backend.Size; at += bytes.Length)
        {
            Assert.Equal(BlockStatus.Ok, new TestRequests(disk.Backend).Read(at, bytes.Segment));
            string? wrong = model.Adopt(at / SectorStamp.Size, bytes.Span);
            Assert.True(wrong == null, wrong);
        }

        model.Settle();
    }

    [RootFact]
    public void An_image_that_does_not_fit_leaves_nothing_behind()
    {
        using SmallFileSystem small = new(_folder.File("small"), "64k");
        File.WriteAllBytes(Path.Combine(small.Path, "rest"), new byte[64 << 10]);
        string path = Path.Combine(small.Path, "disk.qcow2");
        string message = Assert.Throws<DiskException>(() => ImageFiles.Create(path, ImageFormat.Qcow2, 1 << 30)).Message;
        Assert.Equal($"disk '{path}' cannot be made: the host's disk is full", message);
        Assert.Single(Directory.EnumerateFileSystemEntries(small.Path));
    }

    /// <summary>A tmpfs of its own.</summary>
    private sealed class SmallFileSystem : IDisposable
    {
        public SmallFileSystem(string path, string size)
        {
            Path = Directory.CreateDirectory(path).FullName;
            Run("mount", "-t", "tmpfs", "-o", $"size={size}", "tutti-test", Path);
        }

        public string Path { get; }

        public void Dispose() => Run("umount", Path);

        private static void Run(string program, params string[] args)
        {
            using Process process = Process.Start(program, args);
            process.WaitForExit();
            Assert.Equal(0, process.ExitCode);
        }
    }
}

/// <summary>A test that mounts something; skipped with that reason without root.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class RootFactAttribute : FactAttribute
{
    public RootFactAttribute() => Skip = Environment.IsPrivilegedProcess ? null : RootTheoryAttribute.Reason;
}

/// <summary>The same, of one that takes QEMU's programs too.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class QemuRootTheoryAttribute : TheoryAttribute
{
    public QemuRootTheoryAttribute() => Skip = !Environment.IsPrivilegedProcess ? RootTheoryAttribute.Reason : QemuImage.IsInstalled ? null : QemuImage.Missing;
}

/// <inheritdoc cref="RootFactAttribute"/>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class RootTheoryAttribute : TheoryAttribute
{
    internal const string Reason = "mounts a small file system, which takes root";

    public RootTheoryAttribute() => Skip = Environment.IsPrivilegedProcess ? null : Reason;
}
