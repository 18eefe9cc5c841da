using System.Collections.Concurrent;
using System.Diagnostics;
using Tutti.Devices.Block;
using Tutti.Storage.Files;

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
    }

    [RootFact]
    public void An_image_that_does_not_fit_leaves_nothing_behind()
    {
        using SmallFileSystem small = new(_folder.File("small"), "64k");
        File.WriteAllBytes(Path.Combine(small.Path, "rest"), new byte[64 << 10]);
        string path = Path.Combine(small.Path, "disk.qcow2");
        Assert.Throws<DiskException>(() => ImageFiles.Create(path, ImageFormat.Qcow2, 1 << 30));
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

/// <inheritdoc cref="RootFactAttribute"/>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class RootTheoryAttribute : TheoryAttribute
{
    internal const string Reason = "mounts a small file system, which takes root";

    public RootTheoryAttribute() => Skip = Environment.IsPrivilegedProcess ? null : Reason;
}
