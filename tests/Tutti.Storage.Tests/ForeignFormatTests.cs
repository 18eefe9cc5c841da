using System.Diagnostics;
using System.Security.Cryptography;
using System.Text;
using Tutti.Storage.Files;
using Tutti.Storage.Tests.Qcow2;

namespace Tutti.Storage.Tests;

/// <summary>Files that are no raw disks are told by their bytes, whatever their names say, and none is written.</summary>
public sealed class ForeignFormatTests : IDisposable
{
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [QemuTheory]
    [InlineData("vmdk", "vmdk", "")]
    [InlineData("vmdk", "vmdk", "subformat=streamOptimized")]
    [InlineData("vmdk", "vmdk", "subformat=monolithicFlat")]
    [InlineData("vmdk", "vmdk", "subformat=twoGbMaxExtentSparse")]
    [InlineData("vdi", "vdi", "")]
    [InlineData("vdi", "vdi", "static=on")]
    [InlineData("vhdx", "vhdx", "")]
    [InlineData("vhd", "vpc", "")]
    [InlineData("vhd", "vpc", "subformat=fixed")]
    [InlineData("vhd", "vpc", "subformat=fixed,force_size=on")]
    [InlineData("qed", "qed", "")]
    [InlineData("parallels", "parallels", "")]
    public void Images_that_QEMU_makes_are_known_and_not_touched(string name, string format, string options)
    {
        string path = _folder.File("disk.img");
        (int status, string text, string error) = QemuImage.Run("qemu-img", ["create", "-q", "-f", format, .. options.Length > 0 ? (string[])["-o", options] : [], path, "5M"]);
        Assert.True(status == 0, text + error);
        CheckRefused(path, name, "qemu-img convert");
    }

    /// <summary>The programs that are installed; what the others write is among <see cref="Signatures_are_known"/>.</summary>
    public static TheoryData<string, string> Packers
    {
        get
        {
            TheoryData<string, string> found = [];
            foreach ((string program, string option) in ((string, string)[])[("gzip", "-k"), ("xz", "-k"), ("bzip2", "-k"), ("zstd", "-q"), ("lz4", "-q"), ("zip", "-q"), ("7z", "a")])
            {
                if ((Environment.GetEnvironmentVariable("PATH") ?? string.Empty).Split(':').Any(folder => File.Exists(Path.Combine(folder, program))))
                {
                    found.Add(program, option);
                }
            }

            return found;
        }
    }

    [Theory]
    [MemberData(nameof(Packers))]
    public void Compressed_disks_are_known(string program, string option)
    {
        string raw = _folder.File("disk.raw", new byte[1 << 20]);
        string packed = raw + "." + program;
        using (Process process = Process.Start(new ProcessStartInfo(program, program switch { "zip" or "7z" => [option, packed, raw], "lz4" => [option, raw, packed], _ => (string[])[option, raw] }) { RedirectStandardOutput = true, RedirectStandardError = true })!)
        {
            process.WaitForExit();
        }

        packed = File.Exists(packed) ? packed : Directory.GetFiles(_folder.Path).Single(file => file != raw);
        // Not its name tells.
        File.Move(packed, _folder.File("packed.img"));
        CheckRefused(_folder.File("packed.img"), program, program is "7z" ? "take the disk out" : "unpack it first");
    }

    /// <summary>Signatures as their specifications give them, of what no program here makes.</summary>
    [Theory]
    [InlineData("vmdk", 0, "COWD\u0001\0\0\0")]
    [InlineData("vmdk", 0, "\n# A comment\r\n# disk descriptorfile\r\nversion=1\r\n")]
    [InlineData("vhd", -512, "conectix")]
    [InlineData("vhd", -511, "conectix")]
    [InlineData("dmg", -512, "koly")]
    [InlineData("cloop", 0, "#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n")]
    [InlineData("bochs", 0, "Bochs Virtual HD Image")]
    [InlineData("xz", 0, "\u00FD7zXZ\0")]
    [InlineData("gzip", 0, "\u001F\u008B\u0008")]
    [InlineData("zstd", 0, "\u0028\u00B5\u002F\u00FD")]
    [InlineData("lz4", 0, "\u0004\u0022\u004D\u0018")]
    [InlineData("bzip2", 0, "BZh9\u0031\u0041\u0059\u0026\u0053\u0059")]
    [InlineData("bzip2", 0, "BZh9\u0017\u0072\u0045\u0038\u0050\u0090")]
    [InlineData("zip", 0, "PK\u0003\u0004")]
    [InlineData("7z", 0, "7z\u00BC\u00AF\u0027\u001C")]
    [InlineData("ewf", 0, "EVF\u0009\u000D\u000A\u00FF\u0000")]
    [InlineData("simg", 0, "\u003A\u00FF\u0026\u00ED")]
    public void Signatures_are_known(string name, int offset, string signature)
    {
        byte[] bytes = new byte[1 << 16];
        Encoding.Latin1.GetBytes(signature).CopyTo(bytes, offset < 0 ? bytes.Length + offset : offset);
        CheckRefused(_folder.File("disk", bytes), name, "say format=raw");
    }

    [Fact]
    public void An_archive_that_describes_a_machine_is_known_and_other_archives_are_a_guest_s_affair()
    {
        byte[] tar = new byte[10240];
        "ustar"u8.CopyTo(tar.AsSpan(257));
        "machine.ovf"u8.CopyTo(tar);
        CheckRefused(_folder.File("disk.ova", tar), "ova", "tar -xf");
        tar.AsSpan(0, 100).Clear();
        "etc/hosts"u8.CopyTo(tar);
        CheckRaw(_folder.File("other.img", tar));
    }

    [Theory]
    [InlineData(0, "")]
    [InlineData(0, "BZh9")]
    [InlineData(0, "# Disk Descriptor\n")]
    [InlineData(0, "#!/bin/sh\necho # Disk DescriptorFile\n")]
    [InlineData(1, "KDMV")]
    [InlineData(-513, "conectix")]
    [InlineData(0, "LUKS\u00BA\u00BE")]
    [InlineData(0, "hsqs")]
    [InlineData(-512, "EFI PART")]
    [InlineData(510, "\u0055\u00AA")]
    public void Disks_are_disks(int offset, string signature)
    {
        byte[] bytes = new byte[1 << 16];
        Encoding.Latin1.GetBytes(signature).CopyTo(bytes, offset < 0 ? bytes.Length + offset : offset);
        CheckRaw(_folder.File("disk", bytes));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(511)]
    [InlineData(512)]
    public void Short_files_are_disks_too(int length) => CheckRaw(_folder.File("disk", new byte[length]));

    [Fact]
    [Trait("Category", "Fuzz")]
    public void Any_bytes_are_raw_or_named_in_one_line()
    {
        int seed = int.TryParse(Environment.GetEnvironmentVariable("TUTTI_FUZZ_SEED"), out int number) ? number : 1;
        Random random = new(seed);
        byte[] header = new byte[1024];
        byte[] footer = new byte[512];
        string[] starts = ["#", "# Disk DescriptorFile", "\n#\n", "BZh", "KDMV", "conectix", "ustar", ".ovf"];
        for (int run = 0; run < 100_000; run++)
        {
            random.NextBytes(header.AsSpan(0, random.Next(header.Length)));
            byte[] part = Encoding.ASCII.GetBytes(starts[random.Next(starts.Length)]);
            part.CopyTo(header, random.Next(4) == 0 ? random.Next(header.Length - part.Length) : random.Next(2) * 257);
            part.CopyTo(footer, random.Next(4) == 0 ? random.Next(footer.Length - part.Length) : 0);
            Assert.DoesNotContain("\n", ForeignFormat.Find(header, footer)?.Refuse("x").Message ?? string.Empty, StringComparison.Ordinal);
        }
    }

    private static void CheckRefused(string path, string name, string advice)
    {
        byte[] before = SHA256.HashData(File.ReadAllBytes(path));
        DiskOptions options = new() { Path = path };
        foreach (DiskOptions way in (DiskOptions[])[options, options with { IsReadOnly = true }, options with { IsOverlay = true }])
        {
            string message = Assert.Throws<DiskException>(() => Disk.Open(way).Dispose()).Message;
            Assert.Contains(advice, message, StringComparison.Ordinal);
            Assert.Contains("say format=raw", message, StringComparison.Ordinal);
            Assert.DoesNotContain('\n', message);
        }

        Assert.Contains("not supported", Assert.Throws<DiskException>(() => ImageFiles.Resize(path, size => size + 512)).Message, StringComparison.Ordinal);
        Assert.Contains("not supported", Assert.Throws<DiskException>(() => ImageFiles.Check(path, repair: false)).Message, StringComparison.Ordinal);
        Assert.Contains("not supported", Assert.Throws<DiskException>(() => ImageFiles.Create(path + ".over", ImageFormat.Qcow2, null, path)).Message, StringComparison.Ordinal);
        ImageInfo info = ImageFiles.GetInfo(path);
        Assert.Equal((name, null), (info.Format, info.VirtualSize));
        Assert.Contains(advice == "say format=raw" ? "not supported" : advice, info.Obstacle, StringComparison.Ordinal);
        Assert.Equal(before, SHA256.HashData(File.ReadAllBytes(path)));
        using Disk raw = Disk.Open(options with { Format = ImageFormat.Raw });
        Assert.Equal((new FileInfo(path).Length + 511) & ~511, raw.Backend.Size);
    }

    private static void CheckRaw(string path)
    {
        using (Disk disk = Disk.Open(new DiskOptions { Path = path }))
        {
            Assert.Same(ImageFormat.Raw, disk.Format);
        }

        Assert.Equal(("raw", null), (ImageFiles.GetInfo(path).Format, ImageFiles.GetInfo(path).Obstacle));
    }
}
