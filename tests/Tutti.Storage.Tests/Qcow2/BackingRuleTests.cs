using Tutti.Storage.Files;
using Tutti.Storage.Qcow2;

namespace Tutti.Storage.Tests.Qcow2;

/// <summary>What an image may name as its backing file: files in its folder, however they are named, and no others unless the user says so.</summary>
public sealed class BackingRuleTests : IDisposable
{
    private const int Size = 1 << 20;
    private readonly TempFolder _folder = new();
    private readonly string _images;

    public BackingRuleTests()
    {
        _images = Directory.CreateDirectory(Path.Combine(_folder.Path, "images")).FullName;
        Directory.CreateDirectory(Path.Combine(_folder.Path, "other"));
        Directory.CreateDirectory(Path.Combine(_images, "sub"));
        Directory.CreateDirectory(Path.Combine(_images, ".keys"));
        foreach (string name in (string[])["secret.raw", "other/x.raw", "images/base.raw", "images/secret.raw", "images/sub/base.raw", "images/.keys/id", "images/.netrc"])
        {
            File.WriteAllBytes(Path.Combine(_folder.Path, name), new byte[Size]);
        }

        File.CreateSymbolicLink(Path.Combine(_images, "link.raw"), "../secret.raw");
        File.CreateSymbolicLink(Path.Combine(_images, "inner.raw"), "sub/base.raw");
        File.CreateSymbolicLink(Path.Combine(_images, "up"), "..");
        File.CreateSymbolicLink(Path.Combine(_images, "deep"), "../other");
    }

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("../secret.raw")]
    [InlineData("FOLDER/secret.raw")]
    [InlineData("FOLDER/images/../secret.raw")]
    [InlineData("link.raw")]
    [InlineData("up/secret.raw")]
    [InlineData("sub/../../secret.raw")]
    [InlineData("deep/../secret.raw")]
    [InlineData("deep/x.raw")]
    [InlineData(".netrc")]
    [InlineData(".keys/id")]
    [InlineData("./.keys/id")]
    [InlineData("/proc/self/environ")]
    [InlineData("/dev/zero")]
    public void A_file_that_lies_elsewhere_is_not_read(string name)
    {
        name = name.Replace("FOLDER", _folder.Path, StringComparison.Ordinal);
        string direct = Make("direct.qcow2", name);
        string above = Make("above.qcow2", "direct.qcow2", "qcow2");
        foreach (DiskOptions options in Ways(direct).Concat(Ways(above)))
        {
            DiskException refused = Assert.Throws<DiskException>(() => Disk.Open(options).Dispose());
            Assert.Contains($"disk '{direct}' stands on '{name}', which is not among the files in its folder", refused.Message, StringComparison.Ordinal);
            Assert.Contains("backing=allow", refused.Message, StringComparison.Ordinal);
            Assert.DoesNotContain('\n', refused.Message);
        }

        Assert.Contains("backing=allow", Assert.Throws<DiskException>(() => ImageFiles.Resize(direct, size => size * 2)).Message, StringComparison.Ordinal);
        Assert.Equal(name, ImageFiles.GetInfo(direct).BackingFile);
        Assert.Equal(0, ImageFiles.Check(direct, repair: false).Check!.Corruptions);
        if (!name.StartsWith("/proc", StringComparison.Ordinal) && !name.StartsWith("/dev", StringComparison.Ordinal))
        {
            foreach (DiskOptions options in Ways(direct).Concat(Ways(above)))
            {
                Disk.Open(options with { Backing = BackingRule.Anywhere }).Dispose();
            }

            Assert.Equal(2 * Size, ImageFiles.Resize(direct, size => size * 2, backing: BackingRule.Anywhere));
        }
    }

    /// <summary>The kernel takes a name up to its first NUL, .NET none that has one: who asks both must not get two answers.</summary>
    [Theory]
    [InlineData("../secret.raw\0")]
    [InlineData("../secret.raw\0base.raw")]
    [InlineData("FOLDER/secret.raw\0")]
    [InlineData("link.raw\0")]
    [InlineData("base.raw\0")]
    [InlineData("\0")]
    public void A_name_with_a_NUL_is_no_name_and_leads_nowhere(string name)
    {
        name = name.Replace("FOLDER", _folder.Path, StringComparison.Ordinal);
        string direct = Make("direct.qcow2", name);
        string above = Make("above.qcow2", "direct.qcow2", "qcow2");
        foreach (DiskOptions options in Ways(direct).Concat(Ways(above)))
        {
            foreach (BackingRule rule in (BackingRule[])[BackingRule.OwnFolder, BackingRule.Anywhere])
            {
                DiskException refused = Assert.Throws<DiskException>(() => Disk.Open(options with { Backing = rule }).Dispose());
                Assert.Contains($"disk '{direct}' is damaged: its qcow2 header has a backing file's name with a NUL in it", refused.Message, StringComparison.Ordinal);
                Assert.DoesNotContain('\0', refused.Message);
            }
        }

        Assert.False(BackingRule.OwnFolder.Allows(direct, Path.Combine(_images, "base.raw\0")));
        Assert.False(BackingRule.OwnFolder.Allows(direct, Path.Combine(_images, "none.raw\0")));
        Assert.Contains("cannot be opened", Assert.Throws<DiskException>(() => BlockFile.Open(Path.Combine(_images, "base.raw\0"), isReadOnly: true)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("base.raw")]
    [InlineData("./base.raw")]
    [InlineData("sub/base.raw")]
    [InlineData("inner.raw")]
    [InlineData("sub/../base.raw")]
    [InlineData("../images/base.raw")]
    [InlineData("up/images/base.raw")]
    [InlineData("FOLDER/images/base.raw")]
    public void A_file_in_the_folder_is_read_however_it_is_named(string name)
    {
        string direct = Make("direct.qcow2", name.Replace("FOLDER", _folder.Path, StringComparison.Ordinal));
        foreach (DiskOptions options in Ways(direct).Concat(Ways(Make("above.qcow2", "direct.qcow2", "qcow2"))))
        {
            Disk.Open(options).Dispose();
        }

        Assert.Equal(2 * Size, ImageFiles.Resize(direct, size => size * 2));
    }

    [Theory]
    [InlineData("json:{\"driver\":\"file\",\"filename\":\"base.raw\"}")]
    [InlineData("file:base.raw")]
    [InlineData("nbd:localhost:10809")]
    [InlineData("fat:rw:sub")]
    public void Names_that_are_no_files_names_are_refused_whatever_the_user_says(string name)
    {
        foreach (DiskOptions options in Ways(Make("direct.qcow2", name)))
        {
            Assert.Contains("which is no file's name", Assert.Throws<DiskException>(() => Disk.Open(options with { Backing = BackingRule.Anywhere }).Dispose()).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_folder_that_is_trusted_is_so_for_the_files_in_it()
    {
        string direct = Make("direct.qcow2", "../other/x.raw");
        string other = Path.Combine(_folder.Path, "other");
        Disk.Open(new DiskOptions { Path = direct, Backing = BackingRule.OwnFolder.And(other) }).Dispose();
        Assert.Throws<DiskException>(() => Disk.Open(new DiskOptions { Path = direct, Backing = BackingRule.OwnFolder.And(other + "-not") }));
        Assert.Throws<DiskException>(() => Disk.Open(new DiskOptions { Path = Make("to-secret.qcow2", "../secret.raw"), Backing = BackingRule.OwnFolder.And(other) }));
        File.Delete(Path.Combine(other, "x.raw"));
        File.CreateSymbolicLink(Path.Combine(other, "x.raw"), "../secret.raw");
        Assert.Throws<DiskException>(() => Disk.Open(new DiskOptions { Path = direct, Backing = BackingRule.OwnFolder.And(other) }));
    }

    [Fact]
    public void The_image_s_folder_is_the_one_that_the_user_named()
    {
        Make("direct.qcow2", "base.raw");
        string elsewhere = Path.Combine(_folder.Path, "other", "direct.qcow2");
        File.CreateSymbolicLink(elsewhere, "../images/direct.qcow2");
        Assert.Contains("does not exist", Assert.Throws<DiskException>(() => Disk.Open(new DiskOptions { Path = elsewhere })).Message, StringComparison.Ordinal);
        Disk.Open(new DiskOptions { Path = Path.Combine(_images, "sub", "..", "direct.qcow2") }).Dispose();
    }

    [Fact]
    public void A_raw_disk_that_its_guest_made_a_qcow2_image_gives_it_no_file_of_the_host()
    {
        // What a guest can do with format=raw: all bytes of its disk are its own.
        string forged = Make("forged.qcow2", "../secret.raw");
        string disk = Path.Combine(_images, "disk.img");
        File.Move(forged, disk);
        foreach (DiskOptions options in Ways(disk))
        {
            Assert.Contains("say format=qcow2 if you trust it", Assert.Throws<DiskException>(() => Disk.Open(options)).Message, StringComparison.Ordinal);
            Assert.Contains("backing=allow", Assert.Throws<DiskException>(() => Disk.Open(options with { Format = ImageFormat.Qcow2 })).Message, StringComparison.Ordinal);
            using Disk raw = Disk.Open(options with { Format = ImageFormat.Raw });
            Assert.Same(ImageFormat.Raw, raw.Format);
        }
    }

    /// <summary>Each image of 32 MiB of tables, which a file of few bytes can have; a chain in a circle would be opened 32 times.</summary>
    [Fact]
    public void A_chain_s_tables_take_bounded_memory()
    {
        const long Largest = 1L << 51;
        for (int i = 0; i < 9; i++)
        {
            using BlockFile file = BlockFile.Create(Path.Combine(_images, $"{i}.qcow2"));
            ImageFormat.Qcow2.Create(file, new ImageCreation { Size = Largest, BackingFile = i == 0 ? null : $"{i - 1}.qcow2", BackingFormat = i == 0 ? null : "qcow2" });
        }

        Disk.Open(new DiskOptions { Path = Path.Combine(_images, "6.qcow2") }).Dispose();
        foreach (DiskOptions options in Ways(Path.Combine(_images, "8.qcow2")))
        {
            DiskException refused = Assert.Throws<DiskException>(() => Disk.Open(options));
            Assert.Contains("have more than 256 MiB of tables", refused.Message, StringComparison.Ordinal);
            Assert.DoesNotContain('\n', refused.Message);
        }
    }

    private static IEnumerable<DiskOptions> Ways(string path) =>
        [new() { Path = path }, new() { Path = path, IsReadOnly = true }, new() { Path = path, IsOverlay = true }];

    private string Make(string name, string backing, string format = "raw")
    {
        string path = Path.Combine(_images, name);
        using BlockFile file = BlockFile.Create(path);
        ImageFormat.Qcow2.Create(file, new ImageCreation { Size = Size, BackingFile = backing, BackingFormat = format });
        return path;
    }
}
