using System.Buffers.Binary;
using System.Diagnostics;
using System.Globalization;
using System.Text;
using Tutti.Guests.Disks;

namespace Tutti.Guests.Tests.Disks;

public class DiskKernelTests
{
    private const string Uuid = "11111111-2222-3333-4444-555555555555";

    [ExtFact]
    public void Debian_s_newest_kernel_is_found_with_its_initial_RAM_disk()
    {
        using ExtImage image = Debian();
        image.Make("-t ext4", "8M");
        DiskKernel kernel = Find(image.Load());
        Assert.Equal("kernel 6.1.0-10", Text(kernel.Kernel));
        Assert.Equal("initrd 6.1.0-10", Text(kernel.Initrd));
        Assert.Equal($"root=UUID={Uuid} ro console=ttyS0,115200n8r", kernel.CommandLine);
        Assert.Contains("/boot/vmlinuz-6.1.0-10", kernel.Description, StringComparison.Ordinal);
    }

    [ExtFact]
    public void The_boot_loader_s_default_entry_goes_before_the_newest_kernel()
    {
        using ExtImage image = Debian();
        image.Write("boot/grub/grub.cfg", """
            set default="0"
            if [ "${next_entry}" ] ; then
               set default="${next_entry}"
            else
               set default="1"
            fi
            function load_video {
              insmod all_video
            }
            menuentry 'Newest { }' --class debian {
                linux /boot/vmlinuz-6.1.0-10 root=UUID=x ro
                initrd /boot/initrd.img-6.1.0-10
            }
            menuentry "The one" {
                if [ x$feature = xy ]; then
                    search --no-floppy
                fi
                echo 'Loading'
                linux   ($root)/boot/vmlinuz-6.1.0-9 root=PARTUUID=abc ro  quiet $extra console=tty0
                initrd  /boot/initrd.img-6.1.0-9 /boot/initrd.img-6.1.0-10
            }
            submenu 'More' {
                menuentry 'Old' {
                    linux /boot/vmlinuz-5.10.0-1
                }
            }
            """);
        image.Make("-t ext4", "8M");
        DiskKernel kernel = Find(image.Load());
        Assert.Equal("kernel 6.1.0-9", Text(kernel.Kernel));
        Assert.Equal("initrd 6.1.0-9\0\0initrd 6.1.0-10\0", Text(kernel.Initrd));
        Assert.Equal("root=PARTUUID=abc ro quiet console=tty0 console=ttyS0,115200n8r", kernel.CommandLine);
    }

    [ExtFact]
    public void A_boot_partition_s_loader_entries_are_followed_to_a_root_elsewhere()
    {
        using ExtImage boot = new();
        boot.Write("vmlinuz-6.9.1", "old");
        boot.Write("vmlinuz-6.10.0", "new");
        boot.Write("initramfs-6.10.0.img", "ram");
        boot.Write("grub2/grub.cfg", "blscfg\n");
        boot.Write("loader/entries/id-6.9.1.conf", "title Old\nlinux /vmlinuz-6.9.1\noptions root=/dev/old\n");
        boot.Write("loader/entries/id-6.10.0.conf", "title New\nversion 6.10.0\nlinux /vmlinuz-6.10.0\ninitrd /initramfs-6.10.0.img $tuned_initrd\noptions root=UUID=r ro\toptions\noptions console=ttyS0\n");
        boot.Write("loader/entries/id-0-rescue.conf", "linux /vmlinuz-6.9.1\n");
        boot.Make("-t ext2", "2M");
        using ExtImage root = new();
        root.Write("etc/os-release", "x");
        Directory.CreateDirectory(Path.Combine(root.Source, "usr"));
        Directory.CreateDirectory(Path.Combine(root.Source, "boot"));
        root.Make("-t ext4", "4M");
        MemoryDisk disk = Partition(boot.Load().Bytes, root.Load().Bytes);

        DiskKernel kernel = Find(disk);
        Assert.Equal("new", Text(kernel.Kernel));
        Assert.Equal("ram", Text(kernel.Initrd));
        Assert.Equal("root=UUID=r ro options console=ttyS0", kernel.CommandLine);
        Assert.Contains("partition 1", kernel.Description, StringComparison.Ordinal);
    }

    [ExtFact]
    public void A_kernel_without_an_initial_RAM_disk_is_told_its_partition()
    {
        using ExtImage image = new();
        image.Write("boot/bzImage", "kernel");
        image.Write("etc/x", "");
        image.Write("usr/x", "");
        image.Make("-t ext4", "4M");
        Assert.Equal("root=PARTUUID=0badcafe-02 ro console=ttyS0,115200n8r", Find(Partition(new byte[1 << 20], image.Load().Bytes)).CommandLine);
        Assert.Equal("root=/dev/vda ro console=ttyS0,115200n8r", Find(image.Load()).CommandLine);
    }

    [Theory]
    [InlineData(0, "XFSB", "XFS")]
    [InlineData(0x10040, "_BHRfS_M", "btrfs")]
    [InlineData(512, "LABELONE", "LVM")]
    [InlineData(0x8001, "CD001", "ISO 9660")]
    [InlineData(100, "nothing", "no file system")]
    public void What_cannot_be_read_is_named_with_the_way_out(int offset, string signature, string name)
    {
        byte[] part = new byte[1 << 20];
        Encoding.ASCII.GetBytes(signature).CopyTo(part, offset);
        string message = Assert.Throws<ImageException>(() => Find(Partition(part))).Message;
        Assert.Contains(name, message, StringComparison.Ordinal);
        Assert.Contains("--kernel", message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', message);
    }

    /// <summary>The bytes as file(1) knows them, but for ZFS's, which are those that zpool writes.</summary>
    [Theory]
    [InlineData(4096, "fc4e2ba901000000", "a part of a RAID (mdadm)", "Linux Software RAID version 1.2")]
    [InlineData(0, "fc4e2ba901000000", "a part of a RAID (mdadm)", "Linux Software RAID version 1.1")]
    [InlineData(4120, "c68573f64e1a45ca8265f57f48ba6d81", "bcache or bcachefs", "bcachefs")]
    [InlineData(32768, "4a465331", "JFS", "JFS2 filesystem image")]
    [InlineData(65588, "5265497345723246730000", "ReiserFS", "ReiserFS V3.6")]
    [InlineData(1024, "e2e1f5e0", "EROFS", "EROFS filesystem")]
    [InlineData(0, "687371730000000000000000000000000000000000000000000000000400000000", "squashfs", "Squashfs filesystem")]
    [InlineData(1024, "1020f5f2", "F2FS", "F2FS filesystem")]
    [InlineData(0, "4c554b53babe0001", "encrypted with LUKS", "LUKS encrypted file")]
    [InlineData(1536, "4c4142454c4f4e4500000000000000000000000000000000" + "4c564d3220303031", "an LVM volume", "LVM2 PV")]
    [InlineData(0x4000, "0101000000000000000000010000002400000020000000" + "0776657273696f6e00", "ZFS", null)]
    public void What_a_root_may_lie_on_is_named(int offset, string bytes, string name, string? known)
    {
        byte[] part = new byte[1 << 20];
        Convert.FromHexString(bytes).CopyTo(part, offset);
        string message = Assert.Throws<ImageException>(() => Find(Partition(part))).Message;
        Assert.Contains($"partition 1 is {name}", message, StringComparison.Ordinal);
        Assert.Contains("--kernel", message, StringComparison.Ordinal);
        if (known != null && File.Exists("/usr/bin/file"))
        {
            string file = Path.GetTempFileName();
            File.WriteAllBytes(file, part);
            Assert.StartsWith(known, ExtImage.Run("file", ["-b", file]), StringComparison.Ordinal);
            File.Delete(file);
        }
    }

    [Fact]
    public void An_ISO_image_that_is_a_disk_too_is_named()
    {
        byte[] disk = new byte[1 << 20];
        Entry(disk, 0, 0, 0, 0, 2048);
        Entry(disk, 0, 1, 0xEF, 1000, 100);
        "CD001"u8.CopyTo(disk.AsSpan(0x8001));
        string message = Assert.Throws<ImageException>(() => Find(new MemoryDisk(disk))).Message;
        Assert.Contains("the disk is an ISO 9660 image, which needs firmware to start", message, StringComparison.Ordinal);
    }

    /// <summary>Linux reads a table only where its disk's sectors put it, and a guest's disks have sectors of 512 bytes.</summary>
    [MakeFact("fdisk", "fdisk")]
    public void A_table_for_sectors_of_4096_bytes_is_told()
    {
        string file = Path.GetTempFileName();
        using (FileStream stream = File.OpenWrite(file))
        {
            stream.SetLength(16 << 20);
        }

        ExtImage.Run("fdisk", ["-b", "4096", file], "g\nn\n1\n\n+1M\nw\n");
        using (RawDiskReader disk = new(file))
        {
            string message = Assert.Throws<ImageException>(() => DiskKernel.Find(disk, new ReadBudget(0))).Message;
            Assert.Contains("sectors of 4096 bytes", message, StringComparison.Ordinal);
            Assert.DoesNotContain('\n', message);
        }

        File.Delete(file);
    }

    [Theory]
    [InlineData("root=/dev/x  quiet\tro", "root=/dev/x quiet ro console=ttyS0,115200n8r")]
    [InlineData("root=/dev/x \"dyndbg=file a  +p; file b +p\" ro", "root=/dev/x \"dyndbg=file a  +p; file b +p\" ro console=ttyS0,115200n8r")]
    [InlineData("root=/dev/x a=\"b -- c\" -- d", "root=/dev/x a=\"b -- c\" console=ttyS0,115200n8r -- d")]
    [InlineData("root=/dev/x a=\"b console=ttyS0 \"", "root=/dev/x a=\"b console=ttyS0 \" console=ttyS0,115200n8r")]
    public void What_stands_in_quotes_is_one_word_of_a_command_line_s(string options, string line) =>
        Assert.Equal(line, RootOption.Complete(new BootEntry("t", default, [], options), "s", [], hasInitrd: true, string.Empty));

    [MakeFact("mkfs.btrfs", "btrfs-progs")]
    public void What_btrfs_is_called_is_read() => CheckSignature("btrfs", "mkfs.btrfs", ["-q", "-U", Uuid, "-L", "the root"]);

    [MakeFact("mkfs.xfs", "xfsprogs")]
    public void What_XFS_is_called_is_read() => CheckSignature("XFS", "mkfs.xfs", ["-q", "-m", $"uuid={Uuid}", "-L", "the_root"]);

    private static void CheckSignature(string name, string program, string[] arguments)
    {
        string file = Path.GetTempFileName();
        using (FileStream stream = File.OpenWrite(file))
        {
            stream.SetLength(400 << 20);
        }

        ExtImage.Run(program, [.. arguments, file]);
        using (RawDiskReader disk = new(file))
        {
            (string found, string uuid, string label) = FileSystemSignature.Read(new DiskPart(disk, new ReadBudget(0)))!.Value;
            Assert.StartsWith(name, found, StringComparison.Ordinal);
            Assert.Equal((Uuid, arguments[^1]), (uuid, label));
        }

        File.Delete(file);
    }

    [AttributeUsage(AttributeTargets.Method)]
    private sealed class MakeFactAttribute : FactAttribute
    {
        public MakeFactAttribute(string program, string package) => Skip = File.Exists("/usr/sbin/" + program) || File.Exists("/sbin/" + program) ? null : $"{program} is not installed (Debian: {package})";
    }

    [Theory]
    [InlineData("vmlinuz-6.1.0-9", "vmlinuz-6.1.0-10")]
    [InlineData("vmlinuz-6.1.0-10", "vmlinuz-6.1.0-10-cloud")]
    [InlineData("vmlinuz-6.10~rc1", "vmlinuz-6.10")]
    [InlineData("vmlinuz-5.99.0", "vmlinuz-6.1.0")]
    [InlineData("vmlinuz", "vmlinuz-1")]
    public void Versions_are_ordered_by_their_numbers(string older, string newer)
    {
        Assert.True(KernelVersion.Order.Compare(older, newer) < 0);
        Assert.True(KernelVersion.Order.Compare(newer, older) > 0);
        Assert.Equal(0, KernelVersion.Order.Compare(newer, newer));
    }

    [Fact]
    public void Logical_partitions_that_point_in_a_circle_end()
    {
        byte[] disk = new byte[1 << 20];
        Entry(disk, 0, 0, 0x05, 100, 1000);
        Entry(disk, 100 * 512, 0, 0x83, 1, 10);
        Entry(disk, 100 * 512, 1, 0x05, 200, 10);
        Entry(disk, 300 * 512, 0, 0x83, 1, 10);
        Entry(disk, 300 * 512, 1, 0x05, 200, 10);
        IReadOnlyList<DiskPartition> partitions = PartitionTable.Read(new DiskPart(new MemoryDisk(disk), new ReadBudget(0)));
        Assert.InRange(partitions.Count, 2, 64);
        Assert.Equal(new DiskPartition(5, 101 * 512, 5120, "0badcafe-05"), partitions[0]);
        Assert.Equal(new DiskPartition(6, 301 * 512, 5120, "0badcafe-06"), partitions[1]);
    }

    /// <summary>As Linux and GRUB count: a link of the chain without a partition takes no number, and either may stand first.</summary>
    [PartxFact]
    public void Logical_partitions_have_the_numbers_that_Linux_gives_them()
    {
        byte[] disk = new byte[1 << 20];
        Entry(disk, 0, 1, 0x05, 100, 1900);
        Entry(disk, 0, 0, 0x83, 10, 20);
        Entry(disk, 100 * 512, 1, 0x05, 200, 100);
        Entry(disk, 300 * 512, 0, 0x83, 1, 10);
        Entry(disk, 300 * 512, 1, 0x05, 400, 100);
        Entry(disk, 500 * 512, 0, 0x05, 600, 100);
        Entry(disk, 500 * 512, 1, 0x83, 1, 10);
        Entry(disk, 700 * 512, 1, 0x05, 800, 100);
        Entry(disk, 900 * 512, 0, 0x83, 1, 10);
        string file = Path.GetTempFileName();
        File.WriteAllBytes(file, disk);
        string[] expected = [.. ExtImage.Run("partx", ["--noheadings", "--raw", "--output", "NR,START,SECTORS,UUID,TYPE", file]).Split('\n', StringSplitOptions.RemoveEmptyEntries).Where(line => !line.EndsWith("0x5", StringComparison.Ordinal))];
        File.Delete(file);
        IReadOnlyList<DiskPartition> partitions = PartitionTable.Read(new DiskPart(new MemoryDisk(disk), new ReadBudget(0)));
        Assert.Equal(expected, partitions.Select(part => string.Create(CultureInfo.InvariantCulture, $"{part.Number} {part.Offset / 512} {part.Size / 512} {part.Id} 0x83")));
        Assert.Equal([1, 5, 6, 7], partitions.Select(part => part.Number));
    }

    [AttributeUsage(AttributeTargets.Method)]
    private sealed class PartxFactAttribute : FactAttribute
    {
        public PartxFactAttribute() => Skip = File.Exists("/usr/bin/partx") ? null : "partx is not installed (Debian: util-linux)";
    }

    [ExtFact]
    [Trait("Category", "Fuzz")]
    public void A_damaged_disk_gives_a_kernel_or_one_line()
    {
        int seed = int.TryParse(Environment.GetEnvironmentVariable("TUTTI_FUZZ_SEED"), out int number) ? number : 1;
        TimeSpan time = TimeSpan.FromSeconds(int.TryParse(Environment.GetEnvironmentVariable("TUTTI_FUZZ_SECONDS"), out int seconds) ? seconds : 0);
        byte[][] images = [.. ((string[])["-t ext4 -b 1024", "-t ext4 -b 1024 -O inline_data,meta_bg,^resize_inode -I 256", "-t ext3 -b 1024", "-t ext4 -b 4096"]).Select(Made)];
        Stopwatch watch = Stopwatch.StartNew();
        for (int run = 0; run < 400 || watch.Elapsed < time; run++)
        {
            Random random = new(unchecked(seed + run));
            byte[] disk = [.. images[random.Next(images.Length)]];
            Damage(disk, random);
            try
            {
                Find(new MemoryDisk(disk));
            }
            catch (ImageException e)
            {
                Assert.DoesNotContain('\n', e.Message);
            }
            catch (Exception e)
            {
                throw new InvalidOperationException($"seed {unchecked(seed + run)}", e);
            }
        }

        static byte[] Made(string options)
        {
            using ExtImage image = Debian();
            image.Write("boot/grub/grub.cfg", "menuentry x {\nlinux /vmlinuz\ninitrd /boot/initrd.img-6.1.0-10\n}\n");
            image.Make(options, "2M");
            return image.Load().Bytes;
        }
    }

    /// <summary>Changes bytes that are not zero, as those mean something: single bits, whole fields, and places of the disk put elsewhere.</summary>
    private static void Damage(byte[] disk, Random random)
    {
        for (int i = random.Next(1, 12); i > 0; i--)
        {
            int at = random.Next(4) == 0 ? random.Next(1024, 4096) : random.Next(disk.Length);
            int next = disk.AsSpan(at).IndexOfAnyExcept((byte)0);
            at = (next < 0 ? 1024 : at + next) & ~3;
            switch (random.Next(4))
            {
                case 0:
                    disk[at + random.Next(4)] ^= (byte)(1 << random.Next(8));
                    break;
                case 1:
                    BinaryPrimitives.WriteUInt32LittleEndian(disk.AsSpan(at), (uint)random.Next(0, 4096));
                    break;
                case 2:
                    random.NextBytes(disk.AsSpan(at, 4));
                    break;
                default:
                    disk.AsSpan(random.Next(disk.Length / 1024) * 1024, 1024).CopyTo(disk.AsSpan(random.Next(disk.Length / 1024) * 1024));
                    break;
            }
        }
    }

    private static ExtImage Debian()
    {
        ExtImage image = new();
        foreach (string version in (string[])["5.10.0-1", "6.1.0-9", "6.1.0-10"])
        {
            image.Write($"boot/vmlinuz-{version}", $"kernel {version}");
            image.Write($"boot/initrd.img-{version}", $"initrd {version}");
        }

        image.Write("boot/vmlinuz-9.9-rescue", "rescue");
        image.Write("etc/hostname", "x");
        image.Write("usr/x", "");
        File.CreateSymbolicLink(Path.Combine(image.Source, "vmlinuz"), "boot/vmlinuz-6.1.0-10");
        return image;
    }

    /// <summary>A disk with an MBR and a primary partition for each part.</summary>
    private static MemoryDisk Partition(params byte[][] parts)
    {
        byte[] disk = new byte[(1 << 20) + parts.Sum(part => part.Length)];
        int at = 1 << 20;
        for (int i = 0; i < parts.Length; i++)
        {
            Entry(disk, 0, i, 0x83, (uint)(at / 512), (uint)(parts[i].Length / 512));
            parts[i].CopyTo(disk, at);
            at += parts[i].Length;
        }

        return new MemoryDisk(disk);
    }

    private static void Entry(byte[] disk, int table, int index, byte type, uint from, uint count)
    {
        Span<byte> entry = disk.AsSpan(table + 446 + (index * 16), 16);
        entry[4] = type;
        BinaryPrimitives.WriteUInt32LittleEndian(entry[8..], from);
        BinaryPrimitives.WriteUInt32LittleEndian(entry[12..], count);
        BinaryPrimitives.WriteUInt16LittleEndian(disk.AsSpan(table + 510), 0xAA55);
        BinaryPrimitives.WriteUInt32LittleEndian(disk.AsSpan(440), 0x0BAD_CAFE);
    }

    private static DiskKernel Find(MemoryDisk disk) => DiskKernel.Find(disk, new ReadBudget(64 << 20));

    private static string Text(ReadOnlyMemory<byte> bytes) => Encoding.UTF8.GetString(bytes.Span);
}
