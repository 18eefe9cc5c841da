using Tutti.Devices.Block;
using Tutti.Storage.Files;

namespace Tutti.Storage.Tests;

public sealed class RawDiskTests : IDisposable
{
    private readonly TempFolder _folder = new();

    public static TheoryData<IoMethod> Methods { get; } = [IoMethod.IoUring, IoMethod.Threads];

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(Methods))]
    public void A_disk_is_its_file(IoMethod method)
    {
        string path = _folder.File("disk.img", new byte[1 << 20]);
        using NativeBytes bytes = new(8192, 0xA5);
        using NativeBytes back = new(8192);
        using (Disk disk = Disk.Open(new DiskOptions { Path = path, Method = method }))
        {
            Assert.Equal(method, disk.Method);
            Assert.Equal("raw", disk.Format.Name);
            Assert.Equal(1 << 20, disk.Backend.Size);
            Assert.False(disk.Backend.IsReadOnly);
            TestRequests requests = new(disk.Backend);
            Assert.Equal(BlockStatus.Ok, requests.Write(4096, bytes.Part(0, 512), bytes.Part(512, 7680)));
            Assert.Equal(BlockStatus.Ok, requests.Flush());
            Assert.Equal(BlockStatus.Ok, requests.Read(4096, back.Segment));
            Assert.True(back.Span.SequenceEqual(bytes.Span));
            Assert.Equal(BlockStatus.Ok, requests.Run(BlockOperation.WriteZeroes, 8192, 512, []));
            Assert.Equal(4, requests.Batches);
        }

        byte[] expected = new byte[1 << 20];
        expected.AsSpan(4096, 8192).Fill(0xA5);
        expected.AsSpan(8192, 512).Clear();
        Assert.Equal(expected, File.ReadAllBytes(path));
    }

    [Theory]
    [MemberData(nameof(Methods))]
    public void A_discard_gives_space_back_to_the_host(IoMethod method)
    {
        byte[] bytes = new byte[4 << 20];
        Array.Fill(bytes, (byte)1);
        string path = _folder.File("disk.img", bytes);
        using Disk disk = Disk.Open(new DiskOptions { Path = path, Method = method });
        if (!disk.Backend.CanDiscard)
        {
            return; // the file system of the temporary folder has no holes
        }

        TestRequests requests = new(disk.Backend);
        requests.Flush();
        long before = ImageFiles.GetInfo(path).ActualSize;
        Assert.Equal(BlockStatus.Ok, requests.Run(BlockOperation.Discard, 1 << 20, 1 << 20, []));
        Assert.Equal(BlockStatus.Ok, requests.Run(BlockOperation.WriteZeroes, 2 << 20, 1 << 20, [], mayUnmap: true));
        Assert.Equal(before - (2 << 20), ImageFiles.GetInfo(path).ActualSize);
        Array.Clear(bytes, 1 << 20, 2 << 20);
        Assert.Equal(bytes, File.ReadAllBytes(path));
    }

    [Theory]
    [MemberData(nameof(Methods))]
    public void Steady_requests_allocate_nothing_on_the_disks_thread(IoMethod method)
    {
        string path = _folder.File("disk.img", new byte[1 << 20]);
        using NativeBytes bytes = new(8192);
        using Disk disk = Disk.Open(new DiskOptions { Path = path, Method = method, Format = ImageFormat.Raw });
        SteadyStream.AssertAllocatesNothing(disk, bytes);
    }

    [Theory]
    [InlineData(0, 0)]
    [InlineData(1, 512)]
    [InlineData(512, 512)]
    [InlineData(513, 1024)]
    [InlineData(long.MaxValue - 511, long.MaxValue - 511)]
    [InlineData(long.MaxValue - 510, long.MaxValue - 511)]
    [InlineData(long.MaxValue, long.MaxValue - 511)]
    public void A_disk_s_size_for_a_file_s_length(long length, long size) => Assert.Equal(size, RawDisk.RoundUp(length));

    [Fact]
    public void A_files_tail_is_a_sector_that_ends_in_zeroes()
    {
        string path = _folder.File("disk.img", [.. Enumerable.Repeat((byte)9, 700)]);
        using NativeBytes sector = new(512, 0xEE);
        using Disk disk = Disk.Open(new DiskOptions { Path = path });
        Assert.Equal(1024, disk.Backend.Size);
        TestRequests requests = new(disk.Backend);
        Assert.Equal(BlockStatus.Ok, requests.Read(512, sector.Segment));
        Assert.Equal(9, sector.Span[187]);
        Assert.True(sector.Span[188..].IndexOfAnyExcept((byte)0) < 0);
        sector.Span.Fill(5);
        Assert.Equal(BlockStatus.Ok, requests.Write(512, sector.Segment));
        Assert.Equal(1024, new FileInfo(path).Length);
    }

    [Fact]
    public void A_read_only_disk_refuses_what_changes_it()
    {
        string path = _folder.File("disk.img", new byte[4096]);
        using NativeBytes sector = new(512, 1);
        using Disk disk = Disk.Open(new DiskOptions { Path = path, IsReadOnly = true });
        TestRequests requests = new(disk.Backend);
        Assert.True(disk.Backend.IsReadOnly);
        Assert.False(disk.Backend.CanDiscard);
        Assert.Equal(BlockStatus.Unsupported, requests.Write(0, sector.Segment));
        Assert.Equal(BlockStatus.Unsupported, requests.Run(BlockOperation.Discard, 0, 512, []));
        Assert.Equal(BlockStatus.Unsupported, requests.Run(BlockOperation.WriteZeroes, 0, 512, []));
        Assert.Equal(BlockStatus.Ok, requests.Flush());
        Assert.Equal(BlockStatus.Ok, requests.Read(0, sector.Segment));
        Assert.Equal(0, sector.Span[0]);
    }

    [Fact]
    public void What_lies_outside_the_disk_is_an_error_even_if_its_device_asks()
    {
        string path = _folder.File("disk.img", new byte[4096]);
        using NativeBytes sector = new(1024);
        using Disk disk = Disk.Open(new DiskOptions { Path = path });
        TestRequests requests = new(disk.Backend);
        Assert.Equal(BlockStatus.IoError, requests.Write(3584, sector.Segment));
        Assert.Equal(BlockStatus.IoError, requests.Write(long.MaxValue - 511, sector.Segment));
        Assert.Equal(BlockStatus.IoError, requests.Run(BlockOperation.Read, 0, 512, [sector.Segment]));
        Assert.Equal(4096, new FileInfo(path).Length);
    }

    [Fact]
    public void A_guest_cannot_turn_a_disk_of_unsaid_format_into_another_format()
    {
        string path = _folder.File("disk.img", new byte[8192]);
        using NativeBytes header = new(1024);
        "QFI"u8.CopyTo(header.Span);
        header.Span[3] = 0xFB;
        using (Disk disk = Disk.Open(new DiskOptions { Path = path }))
        {
            TestRequests requests = new(disk.Backend);
            Assert.Equal(BlockStatus.IoError, requests.Write(0, header.Part(0, 2), header.Part(2, 1022)));
            header.Span[3] = 0;
            Assert.Equal(BlockStatus.Ok, requests.Write(0, header.Part(0, 2), header.Part(2, 600), header.Part(602, 422)));
            header.Span[3] = 0xFB;
            Assert.Equal(BlockStatus.Ok, requests.Write(512, header.Segment));
        }

        byte[] bytes = File.ReadAllBytes(path);
        Assert.Equal("QFI\0"u8.ToArray(), bytes[..4]);
        Assert.Equal([(byte)'Q', (byte)'F', (byte)'I', 0xFB], bytes[512..516]);

        using (Disk disk = Disk.Open(new DiskOptions { Path = path, Format = ImageFormat.Raw }))
        {
            Assert.Equal(BlockStatus.Ok, new TestRequests(disk.Backend).Write(0, header.Segment));
        }

        Assert.Equal(0xFB, File.ReadAllBytes(path)[3]);
    }

    [Fact]
    public void A_header_that_names_other_files_is_believed_only_where_the_user_says_qcow2()
    {
        byte[] header = new byte[1024];
        "QFI"u8.CopyTo(header);
        header[3] = 0xFB;
        header[7] = 3;
        header[14] = 2;
        string path = _folder.File("disk.img", header);
        Assert.Contains("say format=qcow2 if you trust it", Assert.Throws<DiskException>(() => Disk.Open(new DiskOptions { Path = path })).Message, StringComparison.Ordinal);

        header[14] = 0;
        header[79] = 4;
        path = _folder.File("data.img", header);
        Assert.Contains("say format=qcow2 if you trust it", Assert.Throws<DiskException>(() => Disk.Open(new DiskOptions { Path = path })).Message, StringComparison.Ordinal);

        path = _folder.File("plain.qcow2", new byte[1024]);
        Assert.Contains("is no qcow2 image", Assert.Throws<DiskException>(() => Disk.Open(new DiskOptions { Path = path })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_cannot_be_a_disk_is_refused_in_one_line()
    {
        Refuse("/no/such/disk", "does not exist");
        Refuse("/", "is a folder");
        Refuse("/dev/null", "neither a file nor a block device");
        Refuse(_folder.File("missing/disk.img"), "does not exist");

        void Refuse(string path, string expected)
        {
            string message = Assert.Throws<DiskException>(() => Disk.Open(new DiskOptions { Path = path })).Message;
            Assert.Contains($"disk '{path}'", message, StringComparison.Ordinal);
            Assert.Contains(expected, message, StringComparison.Ordinal);
            Assert.DoesNotContain('\n', message);
        }
    }
}
