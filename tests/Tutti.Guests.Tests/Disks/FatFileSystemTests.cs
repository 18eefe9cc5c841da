using System.Buffers.Binary;
using System.Globalization;
using Tutti.Guests.Disks;

namespace Tutti.Guests.Tests.Disks;

public class FatFileSystemTests
{
    [FatTheory]
    [InlineData("-F 12 -s 4", 4000)]
    [InlineData("-F 12 -s 1 -r 512", 1440)]
    [InlineData("-F 16 -s 4", 20_000)]
    [InlineData("-F 16 -s 1 -f 1", 9000)]
    [InlineData("-F 32 -s 1", 40_000)]
    [InlineData("-F 32 -s 1 -S 4096", 300_000)]
    public void Everything_that_mtools_wrote_reads_as_it_was(string options, int kibibytes)
    {
        using FatImage image = new();
        Random random = new(7);
        foreach (int size in (int[])[0, 1, 511, 512, 513, 2048, 50_000, 300_000])
        {
            byte[] bytes = new byte[size];
            random.NextBytes(bytes);
            image.Write(string.Create(CultureInfo.InvariantCulture, $"sizes/{size}"), bytes);
        }

        image.Write("EFI/Linux/a rather long name, with dots. and (signs)-6.1.0.efi", "long");
        image.Write("EFI/BOOT/BOOTX64.EFI", "short");
        image.Write("lower.txt", "lower");
        image.Write("thirteen-letters-and-thirteen", "x");
        image.Write("grüße in einem langen Namen.txt", "umlauts");
        for (int i = 0; i < 120; i++)
        {
            image.Write(string.Create(CultureInfo.InvariantCulture, $"many/a-rather-long-name-of-a-file-{i}"), "x");
        }

        image.Make(options, kibibytes);
        using RawDiskReader disk = new(image.Image);
        FatFileSystem files = FatFileSystem.TryOpen(new DiskPart(disk, new ReadBudget(64 << 20)))!;
        Assert.Equal("1234-ABCD", files.Uuid);
        Assert.Equal("EFISYS", files.Label);
        foreach (string path in Directory.EnumerateFiles(image.Source, "*", SearchOption.AllDirectories))
        {
            string name = path[image.Source.Length..];
            Assert.True(File.ReadAllBytes(path).AsSpan().SequenceEqual(files.ReadWhole(name, 1 << 20)), name);
        }

        foreach (string folder in Directory.EnumerateDirectories(image.Source, "*", SearchOption.AllDirectories).Append(image.Source))
        {
            Assert.Equal(
                Directory.EnumerateFileSystemEntries(folder).Select(path => Path.GetFileName(path)!).Order(StringComparer.OrdinalIgnoreCase),
                files.List(folder[image.Source.Length..]).Order(StringComparer.OrdinalIgnoreCase), StringComparer.OrdinalIgnoreCase);
        }

        Assert.Equal("long", files.ReadText("/efi/LINUX/A RATHER long name, with dots. and (signs)-6.1.0.EFI"));
        Assert.Equal("short", files.ReadText("EFI/../EFI/./Boot/bootx64.efi"));
        Assert.Equal(FileKind.Folder, files.Find("/"));
        Assert.Null(files.Find("/EFI/none"));
        Assert.Null(files.Find("/lower.txt/x"));
        Assert.Null(files.Measure("/EFI"));
        Assert.Empty(files.List("/lower.txt"));
    }

    [FatFact]
    public void A_file_in_pieces_is_put_together()
    {
        using FatImage image = new();
        byte[] first = new byte[30_000];
        new Random(3).NextBytes(first);
        image.Write("a", new byte[5000]);
        image.Write("b", new byte[5000]);
        image.Make("-F 16 -s 1", 9000);
        ExtImage.Run("mdel", ["-i", image.Image, "::/a"]);
        string more = Path.Combine(Path.GetDirectoryName(image.Image)!, "more");
        File.WriteAllBytes(more, first);
        ExtImage.Run("mcopy", ["-i", image.Image, more, "::/more"]);
        FatFileSystem files = FatFileSystem.TryOpen(new DiskPart(image.Load(), new ReadBudget(64 << 20)))!;
        Assert.True(first.AsSpan().SequenceEqual(files.ReadWhole("/more", 1 << 20)));
    }

    [FatFact]
    public void What_is_no_FAT_is_told_from_one()
    {
        using FatImage image = new();
        image.Make("-F 12", 1440);
        Assert.NotNull(Open(image.Load().Bytes));
        byte[] bytes = image.Load().Bytes;
        "NTFS    "u8.CopyTo(bytes.AsSpan(3));
        Assert.Null(Open(bytes));
        Assert.Null(Open(new byte[4096]));
        Assert.Null(Open(new byte[100]));

        // A boot loader in a disk's first sector has code where a FAT has its numbers.
        byte[] loader = new byte[4096];
        (loader[0], loader[1], loader[510], loader[511]) = (0xEB, 0x63, 0x55, 0xAA);
        Assert.Null(Open(loader));
    }

    [FatFact]
    [Trait("Category", "Fuzz")]
    public void A_damaged_FAT_gives_files_or_one_line()
    {
        byte[][] images = [Made("-F 12 -s 1", 720), Made("-F 16 -s 1", 4500), Made("-F 32 -s 1", 34_000)];
        Fuzz.Run(300, random =>
        {
            byte[] disk = [.. images[random.Next(images.Length)]];
            for (int i = random.Next(1, 10); i > 0; i--)
            {
                int at = random.Next(3) == 0 ? random.Next(64) : random.Next(Math.Min(disk.Length, 1 << 20));
                int next = disk.AsSpan(at).IndexOfAnyExcept((byte)0);
                at = (next < 0 ? 0 : at + next) & ~3;
                switch (random.Next(3))
                {
                    case 0:
                        disk[at + random.Next(4)] ^= (byte)(1 << random.Next(8));
                        break;
                    case 1:
                        BinaryPrimitives.WriteUInt32LittleEndian(disk.AsSpan(at), (uint)random.Next(0, 4096));
                        break;
                    default:
                        random.NextBytes(disk.AsSpan(at, 4));
                        break;
                }
            }

            try
            {
                if (Open(disk) is { } files)
                {
                    foreach (string path in files.List("/").Take(10).SelectMany(name => files.List("/" + name).Take(10).Select(inner => $"/{name}/{inner}").Append("/" + name)))
                    {
                        files.ReadWhole(path, 1 << 20);
                    }
                }
            }
            catch (ImageException e)
            {
                Assert.DoesNotContain('\n', e.Message);
            }
        });

        static byte[] Made(string options, int kibibytes)
        {
            using FatImage image = new();
            image.Write("EFI/Linux/a-long-name-of-an-image.efi", new byte[20_000]);
            image.Write("loader/entries/one.conf", "linux /x\n");
            image.Write("loader/loader.conf", "default one\n");
            image.Make(options, kibibytes);
            return image.Load().Bytes;
        }
    }

    /// <summary>A folder stays in memory once it is read; looking through it again is work, too: 65536 names for each part of a path.</summary>
    [Fact]
    public void Looking_through_a_folder_that_is_known_ends_with_the_user_s_patience()
    {
        byte[] disk = new byte[4 << 20];
        ReadOnlySpan<byte> boot = [0xEB, 0, 0x90, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 1, 0, 1, 16, 0, 0, 32, 0xF8, 8];
        boot.CopyTo(disk);
        (disk[510], disk[511]) = (0x55, 0xAA);
        "A          "u8.CopyTo(disk.AsSpan(512 * 9));
        disk[(512 * 9) + 11] = 0x10;
        using CancellationTokenSource user = new();
        FatFileSystem files = FatFileSystem.TryOpen(new DiskPart(new MemoryDisk(disk), new ReadBudget(1 << 20, user.Token)))!;
        Assert.Equal(FileKind.Folder, files.Find("/a/a/a"));
        user.Cancel();
        Assert.ThrowsAny<OperationCanceledException>(() => files.Find("/a/a"));
    }

    private static FatFileSystem? Open(byte[] disk) => FatFileSystem.TryOpen(new DiskPart(new MemoryDisk(disk), new ReadBudget(8 << 20)));
}
