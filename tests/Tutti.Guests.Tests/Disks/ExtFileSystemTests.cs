using System.Buffers.Binary;
using System.Globalization;
using Tutti.Guests.Disks;

namespace Tutti.Guests.Tests.Disks;

public class ExtFileSystemTests
{
    [ExtTheory]
    [InlineData("-t ext2 -b 1024")]
    [InlineData("-t ext2 -b 4096 -r 0")]
    [InlineData("-t ext3 -b 2048")]
    [InlineData("-t ext4 -b 1024")]
    [InlineData("-t ext4 -b 4096")]
    [InlineData("-t ext4 -b 1024 -O ^extent,^64bit -I 128")]
    [InlineData("-t ext4 -b 4096 -O inline_data -I 256")]
    [InlineData("-t ext4 -b 1024 -O 64bit,meta_bg,^resize_inode,^sparse_super -g 1024")]
    [InlineData("-t ext4 -b 1024 -O meta_bg,^resize_inode,sparse_super -g 1024")]
    [InlineData("-t ext4 -b 4096 -O bigalloc -C 65536")]
    [InlineData("-t ext4 -b 4096 -O metadata_csum_seed,large_dir,encrypt,casefold,quota")]
    public void Everything_that_mke2fs_wrote_reads_as_it_was(string options)
    {
        using ExtImage image = new();
        Fill(image);
        image.Make(options, "96M");
        using RawDiskReader disk = new(image.Image);
        ExtFileSystem files = Open(disk)!;
        Assert.Equal("11111111-2222-3333-4444-555555555555", files.Uuid);
        foreach (string path in Directory.EnumerateFiles(image.Source, "*", SearchOption.AllDirectories))
        {
            if (new FileInfo(path).LinkTarget == null)
            {
                byte[]? read = files.ReadWhole(path[image.Source.Length..], 80 << 20);
                Assert.True(File.ReadAllBytes(path).AsSpan().SequenceEqual(read), path);
            }
        }

        Assert.Equal(Directory.EnumerateFileSystemEntries(Path.Combine(image.Source, "many")).Select(Path.GetFileName).Order(StringComparer.Ordinal), files.List("/many").Order(StringComparer.Ordinal));
        Assert.Equal("short"u8.ToArray(), files.ReadWhole("/links/relative", 100));
        Assert.Equal("short"u8.ToArray(), files.ReadWhole("/links/absolute", 100));
        Assert.Equal("short"u8.ToArray(), files.ReadWhole("/links/long", 100));
        Assert.Equal("short"u8.ToArray(), files.ReadWhole("/links/folder/./../links/relative", 100));
        Assert.Null(files.ReadWhole("/links/loop", 100));
        Assert.Null(files.ReadWhole("/links/dangling", 100));
        Assert.Null(files.ReadWhole("/short/x", 100));
        Assert.Null(files.ReadWhole("/many", 100));
        Assert.Empty(files.List("/short"));
        Assert.Contains("larger than", Assert.Throws<ImageException>(() => files.ReadWhole("/large", 1 << 20)).Message, StringComparison.Ordinal);
    }

    [ExtFact]
    public void What_lies_in_a_journal_that_was_not_played_is_seen_in_its_place()
    {
        using ExtImage image = new();
        image.Write("file", new string('a', 5000));
        image.Make("-t ext4 -b 1024 -O metadata_csum", "16M");
        string block = ExtImage.Run("debugfs", ["-R", "blocks /file", image.Image]).Trim().Split(' ')[1];
        string changed = Path.Combine(image.Root, "changed");
        File.WriteAllText(changed, new string('b', 1024));
        ExtImage.Run("debugfs", ["-w", "-f", "-", image.Image], $"jo\njw -b {block} {changed}\njc\n");

        string expected = new string('a', 1024) + new string('b', 1024) + new string('a', 5000 - 2048);
        Assert.Equal(new string('a', 5000), ExtImage.Run("debugfs", ["-R", "cat /file", image.Image]));
        Assert.Equal(expected, Open(image.Load())!.ReadText("/file"));
        ExtImage.Run("e2fsck", ["-fy", image.Image]);
        Assert.Equal(expected, ExtImage.Run("debugfs", ["-R", "cat /file", image.Image]));
        Assert.Equal(expected, Open(image.Load())!.ReadText("/file"));
    }

    /// <summary>
    /// The log ends before the blocks for fast commits, and goes on at its first block: so the kernel writes it. e2fsck tells what is right where it need not
    /// go round: up to 1.47.0 at least it goes on into those blocks.
    /// </summary>
    [ExtTheory]
    [InlineData(1)]
    [InlineData(1021)]
    [InlineData(1022)]
    [InlineData(1023)]
    public void A_journal_with_fast_commits_is_read_up_to_its_last_transaction(int start)
    {
        const int Block = 1024, Blocks = 1040 - 16;
        using ExtImage image = new();
        image.Write("file", new string('a', 5000));
        image.Make("-t ext4 -b 1024 -O fast_commit,^metadata_csum", "16M");
        string block = ExtImage.Run("debugfs", ["-R", "blocks /file", image.Image]).Trim().Split(' ')[1];
        string changed = Path.Combine(image.Root, "changed");
        File.WriteAllText(changed, new string('b', Block));
        ExtImage.Run("debugfs", ["-w", "-f", "-", image.Image], $"jo\njw -b {block} {changed}\njc\n");

        byte[] disk = image.Load().Bytes;
        Span<byte> super = At(0);
        Assert.Equal((1040u, 1u, 16u), (Big(super, 0x10), Big(super, 0x1C), Big(super, 0x54)));
        BinaryPrimitives.WriteUInt32BigEndian(super[0x1C..], (uint)start);
        BinaryPrimitives.WriteUInt32BigEndian(super[0x28..], Big(super, 0x28) | 0x20);
        byte[][] log = [At(1).ToArray(), At(2).ToArray(), At(3).ToArray()];
        At(1).Clear();
        At(2).Clear();
        At(3).Clear();
        for (int i = 0; i < log.Length; i++)
        {
            log[i].CopyTo(At(start + i >= Blocks ? start + i - Blocks + 1 : start + i));
        }

        string expected = new string('a', Block) + new string('b', Block) + new string('a', 5000 - (2 * Block));
        Assert.Equal(expected, Open(new MemoryDisk(disk))!.ReadText("/file"));
        if (start + log.Length <= Blocks)
        {
            File.WriteAllBytes(image.Image, disk);
            ExtImage.Run("e2fsck", ["-fy", image.Image]);
            Assert.Equal(expected, ExtImage.Run("debugfs", ["-R", "cat /file", image.Image]));
        }

        BinaryPrimitives.WriteUInt32BigEndian(At(0)[0x28..], 0x42);
        Assert.Contains("features that Tutti does not know (incompat 0x40)", Assert.Throws<ImageException>(() => Open(new MemoryDisk(disk))).Message, StringComparison.Ordinal);

        Span<byte> At(int number) => disk.AsSpan(int.Parse(ExtImage.Run("debugfs", ["-R", $"bmap <8> {number}", image.Image]), CultureInfo.InvariantCulture) * Block, Block);

        static uint Big(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt32BigEndian(bytes[at..]);
    }

    /// <summary>What lies together is one request to the disk: a boot partition's RAM disk has 100,000 blocks of 1 KiB.</summary>
    [ExtTheory]
    [InlineData("-t ext2 -b 1024")]
    [InlineData("-t ext4 -b 1024")]
    public void A_large_file_takes_few_reads(string options)
    {
        using ExtImage image = new();
        image.Write("initrd", new string('x', 4 << 20));
        image.Make(options, "16M");
        CountingDisk disk = new(image.Load());
        ExtFileSystem files = Open(disk)!;
        int before = disk.Reads;
        Assert.Equal(4 << 20, files.ReadWhole("/initrd", 8 << 20)!.Length);
        Assert.InRange(disk.Reads - before, 1, 100);
    }

    private sealed class CountingDisk(MemoryDisk disk) : IDiskReader
    {
        public int Reads { get; private set; }

        public long Size => disk.Size;

        public void Read(long offset, Span<byte> into)
        {
            Reads++;
            disk.Read(offset, into);
        }
    }

    [ExtFact]
    public void Features_that_are_not_known_are_refused_by_number()
    {
        using ExtImage image = new();
        image.Make("-t ext4", "8M");
        MemoryDisk disk = image.Load();
        disk.Bytes[1024 + 0x62] |= 0x80;
        Assert.Contains("0x800000", Assert.Throws<ImageException>(() => Open(disk)).Message, StringComparison.Ordinal);
        Assert.Null(Open(new MemoryDisk(new byte[8192])));
    }

    private static ExtFileSystem? Open(IDiskReader disk) => ExtFileSystem.TryOpen(new DiskPart(disk, new ReadBudget(256 << 20)));

    private static void Fill(ExtImage image)
    {
        Random random = new(7);
        image.Write("short", "short");
        foreach (int size in (int[])[0, 1, 59, 60, 61, 100, 140, 1023, 1024, 1025, 4096, 50_000, 3_000_000])
        {
            byte[] bytes = new byte[size];
            random.NextBytes(bytes);
            image.Write($"sizes/{size}", bytes);
        }

        byte[] large = new byte[5 << 20];
        random.NextBytes(large);
        image.Write("large", large);

        // 1 KiB blocks need three levels of indirect blocks above 64 MiB.
        using (FileStream sparse = File.Create(Path.Combine(image.Source, "sparse")))
        {
            for (long at = 0; at < 70 << 20; at += 11_000_000)
            {
                sparse.Position = at;
                sparse.Write(large.AsSpan(0, 10_000));
            }
        }

        for (int i = 0; i < 400; i++)
        {
            image.Write(string.Create(CultureInfo.InvariantCulture, $"many/a-rather-long-name-of-a-file-{i}"), "x");
        }

        string links = Directory.CreateDirectory(Path.Combine(image.Source, "links")).FullName;
        File.CreateSymbolicLink(Path.Combine(links, "relative"), "../short");
        File.CreateSymbolicLink(Path.Combine(links, "absolute"), "/links/relative");
        File.CreateSymbolicLink(Path.Combine(links, "long"), string.Concat(Enumerable.Repeat("../links/", 20)) + "absolute");
        File.CreateSymbolicLink(Path.Combine(links, "folder"), "/many");
        File.CreateSymbolicLink(Path.Combine(links, "loop"), "loop2");
        File.CreateSymbolicLink(Path.Combine(links, "loop2"), "loop");
        File.CreateSymbolicLink(Path.Combine(links, "dangling"), "/nowhere/at/all");
    }
}
