using System.Text;
using Tutti.Guests.Disks;
using Tutti.Guests.Server;
using Tutti.Guests.Tests.Disks;

namespace Tutti.Guests.Tests.Server;

public class ServerBuildTests
{
    [Fact]
    public async Task What_is_packed_lands_in_the_partition_and_nowhere_else()
    {
        using MemoryStream disk = new(new byte[4 << 20]);
        await ServerBuild.ReadExtentsAsync(new MemoryStream("5 3\nabc100 2\nde"u8.ToArray()), disk, 1 << 20, default);
        byte[] bytes = disk.ToArray();
        Assert.Equal("abc", Encoding.ASCII.GetString(bytes, (int)GptWriter.PartitionOffset + 5, 3));
        Assert.Equal("de", Encoding.ASCII.GetString(bytes, (int)GptWriter.PartitionOffset + 100, 2));
        Assert.Equal(5, bytes.Count(value => value != 0));
    }

    [Theory]
    [InlineData("5 3\nab")]
    [InlineData("5")]
    [InlineData("1048570 7\nabcdefg")]
    [InlineData("-1 1\na")]
    [InlineData("99999999999999999999 1\na")]
    [InlineData("9223372036854775807 9223372036854775807\na")]
    [InlineData("rubbish without an end rubbish without an end rubbish without an end rubbish without")]
    public async Task What_makes_no_sense_is_refused(string text) => await Assert.ThrowsAsync<InvalidDataException>(
        () => ServerBuild.ReadExtentsAsync(new MemoryStream(Encoding.ASCII.GetBytes(text)), new MemoryStream(new byte[4 << 20]), 1 << 20, default));

    [Fact]
    public void The_partition_table_is_what_our_reader_and_sfdisk_read()
    {
        Guid part = Guid.NewGuid();
        Guid linux = new("4f68bce3-e8cd-4db1-96e7-fbcaf984b709");
        byte[] bytes = new byte[8 << 20];
        GptWriter.Write(new MemoryStream(bytes), bytes.Length, 6 << 20, Guid.NewGuid(), part);
        Assert.Equal([new DiskPartition(1, 1 << 20, 6 << 20, part.ToString("D")) { Type = linux }], PartitionTable.Read(new DiskPart(new MemoryDisk(bytes), new ReadBudget(0))));
        bytes.AsSpan(512, 512).Clear();
        Assert.Equal([new DiskPartition(1, 1 << 20, 6 << 20, part.ToString("D")) { Type = linux }], PartitionTable.Read(new DiskPart(new MemoryDisk(bytes), new ReadBudget(0))));

        if (File.Exists("/usr/sbin/sfdisk") || File.Exists("/sbin/sfdisk"))
        {
            GptWriter.Write(new MemoryStream(bytes), bytes.Length, 6 << 20, Guid.NewGuid(), part);
            string file = Path.GetTempFileName();
            File.WriteAllBytes(file, bytes);
            string dump = ExtImage.Run("sfdisk", ["--dump", file]);
            string verdict = ExtImage.Run("sfdisk", ["--verify", file]);
            File.Delete(file);
            Assert.Contains("start=        2048, size=       12288", dump, StringComparison.Ordinal);
            Assert.Contains(part.ToString("D").ToUpperInvariant(), dump, StringComparison.Ordinal);
            Assert.Contains("No errors", verdict, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_host_that_cannot_build_is_told_what_to_install()
    {
        using FakeHost host = new();
        ImageException error = Assert.Throws<ImageException>(() => ServerBuild.Check(host.Tools, isRoot: true));
        Assert.EndsWith("apt install mmdebstrap", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_first_error_is_picked_out_of_what_mmdebstrap_says()
    {
        Assert.Equal("Unable to fetch x", ServerBuild.FirstError("I: running\nE: setup failed: E: apt failed\nE: Unable to fetch x\n", null));
        Assert.Equal("mke2fs: no", ServerBuild.FirstError("I: running\nmke2fs: no\n", null));
        Assert.Equal("cut", ServerBuild.FirstError("I: running\n", "cut"));
        Assert.Equal(
            "tar: ./dev/null: Cannot mknod",
            ServerBuild.FirstError("I: running\ntar: ./dev/null: Cannot mknod\ntar: Exiting with failure status due to previous errors\nE: system failed: 512\n", null));
    }

    [DpkgFact]
    public void What_dpkg_leaves_out_are_files_and_not_the_folders_that_packages_put_links_into()
    {
        using ExtImage package = new();
        string[] kept = ["usr/share/doc/p/copyright", "usr/lib/p/p.1.gz", "usr/share/locale/locale.alias"];
        string[] left = ["usr/share/man/man1/p.1.gz", "usr/share/man/man3pm/P.3pm.gz", "usr/share/man/de/man8/p.8.gz", "usr/share/doc/p/README", "usr/share/locale/de/LC_MESSAGES/p.mo"];
        foreach (string path in kept.Concat(left))
        {
            package.Write(path, "x");
        }

        package.Write("DEBIAN/control", "Package: p\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n");
        ExtImage.Run("dpkg-deb", ["--build", "--root-owner-group", package.Source, package.Image]);
        string root = Path.Combine(package.Root, "root");
        Directory.CreateDirectory(Path.Combine(root, "var/lib/dpkg/info"));
        Directory.CreateDirectory(Path.Combine(root, "var/lib/dpkg/updates"));
        Directory.CreateDirectory(Path.Combine(root, "var/lib/dpkg/alternatives"));
        Directory.CreateDirectory(Path.Combine(root, "etc/alternatives"));
        File.WriteAllText(Path.Combine(root, "var/lib/dpkg/status"), string.Empty);
        ExtImage.Run("dpkg", ["--root=" + root, "--force-script-chrootless", .. ServerBuild.Excludes.Select(line => "--" + line), "--install", package.Image]);

        Assert.All(kept, path => Assert.True(File.Exists(Path.Combine(root, path)), path));
        Assert.All(left, path => Assert.False(File.Exists(Path.Combine(root, path)), path));
        Assert.All(left, path => Assert.True(Directory.Exists(Path.Combine(root, Path.GetDirectoryName(path)!)), path));

        // As openjdk's set-up does; without the folder it fails, and the package with it.
        ExtImage.Run("update-alternatives", ["--root", root, "--install", "/usr/share/man/man1/alternative.1.gz", "alternative.1.gz", "/usr/lib/p/p.1.gz", "1"]);
        Assert.NotNull(new FileInfo(Path.Combine(root, "usr/share/man/man1/alternative.1.gz")).LinkTarget);
    }

    [PackFact]
    public async Task A_system_that_mmdebstrap_made_becomes_a_disk_whose_kernel_is_found()
    {
        using FakeHost host = new();
        string root = Directory.CreateDirectory(Path.Combine(host.Tools, "root")).FullName;
        foreach ((string path, string text) in ((string, string)[])[("boot/vmlinuz-6.1.0", "the kernel"), ("boot/initrd.img-6.1.0", "its RAM disk"), ("etc/x", ""), ("usr/x", "")])
        {
            Directory.CreateDirectory(Path.GetDirectoryName(Path.Combine(root, path))!);
            File.WriteAllText(Path.Combine(root, path), text);
        }

        host.Tool("mmdebstrap", $"case \"$1\" in --unshare-helper) shift; exec \"$@\" ;; *) echo \"$*\" > '{host.Tools}/asked'; echo 'I: creating tarball' >&2; tar -c -C '{root}' . ;; esac");
        ImageCatalog catalog = new(host.Cache, host.Tools + ":/usr/bin:/bin");
        GuestImage image = await catalog.GetAsync("debian-server").WaitAsync(TimeSpan.FromMinutes(1));
        Assert.Equal("the kernel", await File.ReadAllTextAsync(image.KernelPath));
        Assert.Equal("its RAM disk", await File.ReadAllTextAsync(image.InitrdPath));
        Assert.Matches("^root=UUID=[-0-9a-f]{36} ro console=ttyS0", image.CommandLine);
        Assert.Equal(ServerBuild.DiskSize, new FileInfo(image.DiskPath!).Length);
        Assert.InRange(image.Size, 1, 200 << 20);
        Assert.Contains("--include=", await File.ReadAllTextAsync(Path.Combine(host.Tools, "asked")), StringComparison.Ordinal);
        Assert.Empty(host.Leftovers);
        Assert.Equal(image, catalog.List()[1].Cached);
        Assert.True(catalog.Remove("debian-server"));
        Assert.Null(catalog.List()[1].Cached);
    }

    [UserPackFact]
    public async Task A_user_who_plays_root_may_make_no_device_nodes_and_packs_the_rest()
    {
        using FakeHost host = new();
        string root = Path.Combine(host.Tools, "root");
        host.Tool("mmdebstrap", $"case \"$1\" in --unshare-helper) shift; exec unshare --user --map-root-user \"$@\" ;; *) mkdir -p '{root}/boot' '{root}/dev' '{root}/etc' '{root}/usr'; echo kernel > '{root}/boot/vmlinuz-6.1.0'; echo disk > '{root}/boot/initrd.img-6.1.0'; mknod '{root}/dev/console' c 5 1 && tar -c -C '{root}' . ;; esac");
        GuestImage image = await new ImageCatalog(host.Cache, host.Tools + ":/usr/bin:/bin").GetAsync("debian-server").WaitAsync(TimeSpan.FromMinutes(1));
        Assert.Equal("kernel\n", await File.ReadAllTextAsync(image.KernelPath));
        Assert.Empty(host.Leftovers);
    }

    [PackFact]
    public async Task A_build_that_fails_says_why_and_leaves_nothing()
    {
        using FakeHost host = new();
        host.Tool("mmdebstrap", "case \"$1\" in --unshare-helper) shift; exec \"$@\" ;; *) echo 'E: there is no such package' >&2; exit 25 ;; esac");
        ImageException error = await Assert.ThrowsAsync<ImageException>(() => new ImageCatalog(host.Cache, host.Tools + ":/usr/bin:/bin").GetAsync("debian-server").WaitAsync(TimeSpan.FromMinutes(1)));
        Assert.Equal("Building the image failed: there is no such package.", error.Message);
        Assert.Empty(host.Leftovers);
    }

    [PackFact]
    public async Task A_build_that_is_cancelled_lets_mmdebstrap_clear_up_and_leaves_nothing()
    {
        using FakeHost host = new();
        string started = Path.Combine(host.Tools, "started");
        string cleared = Path.Combine(host.Tools, "cleared");
        host.Tool("mmdebstrap", $"case \"$1\" in --unshare-helper) shift; exec \"$@\" ;; *) trap 'touch {cleared}; exit 1' TERM; touch {started}; while :; do sleep 0.1; done ;; esac");
        using CancellationTokenSource cancel = new();
        Task<GuestImage> build = new ImageCatalog(host.Cache, host.Tools + ":/usr/bin:/bin").GetAsync("debian-server", null, cancel.Token);
        for (int i = 0; i < 300 && !File.Exists(started) && !build.IsCompleted; i++)
        {
            await Task.Delay(100);
        }

        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => build.WaitAsync(TimeSpan.FromSeconds(30)));
        Assert.True(File.Exists(cleared));
        Assert.Empty(host.Leftovers);
    }

    [BuildFact]
    public async Task The_server_image_is_built_and_its_kernel_found()
    {
        string cache = Environment.GetEnvironmentVariable("TUTTI_SERVER_CACHE") is { Length: > 0 } folder ? folder : Directory.CreateTempSubdirectory("tutti-server-test").FullName;
        GuestImage image = await new ImageCatalog(cache).PullAsync("debian-server", new Print());
        using RawDiskReader disk = new(image.DiskPath!);
        DiskKernel kernel = DiskKernel.Find(disk, new ReadBudget(256 << 20));
        Assert.StartsWith("root=UUID=", kernel.CommandLine, StringComparison.Ordinal);
        ExtFileSystem files = ExtFileSystem.TryOpen(new DiskPart(disk, new ReadBudget(0)).Slice(GptWriter.PartitionOffset, disk.Size - GptWriter.PartitionOffset - GptWriter.Tail))!;
        Assert.Equal(FileKind.Folder, files.Find("/usr/share/man/man1"));
        Assert.DoesNotContain(files.List("/usr/share/man/man1"), name => files.Find($"/usr/share/man/man1/{name}") == FileKind.File);
        Assert.Equal(new FileInfo(image.InitrdPath).Length, kernel.Initrd.Length);
        Assert.Empty(Directory.EnumerateDirectories(cache, "work-*"));
        Assert.Equal(image, new ImageCatalog(cache).List()[1].Cached);
    }

    private sealed class Print : IProgress<ImageProgress>
    {
        public void Report(ImageProgress value) => Console.WriteLine($"{DateTime.Now:T} {value.Fraction:P0} {value.Stage}");
    }

    [AttributeUsage(AttributeTargets.Method)]
    private sealed class PackFactAttribute : FactAttribute
    {
        public PackFactAttribute()
        {
            if (ExtImage.Missing is { } missing)
            {
                Skip = missing;
            }
            else if (!Environment.IsPrivilegedProcess || !File.Exists("/usr/share/keyrings/debian-archive-keyring.gpg"))
            {
                Skip = "packing without mmdebstrap's own user namespace needs root, and Debian's keys";
            }
        }
    }

    [AttributeUsage(AttributeTargets.Method)]
    private sealed class DpkgFactAttribute : FactAttribute
    {
        public DpkgFactAttribute()
        {
            Skip = !Environment.IsPrivilegedProcess ? "installing a package into a folder needs root"
                : !File.Exists("/usr/bin/dpkg-deb") || !File.Exists("/usr/bin/update-alternatives") ? "dpkg is not installed (this is no Debian)" : null;
        }
    }

    [AttributeUsage(AttributeTargets.Method)]
    private sealed class UserPackFactAttribute : FactAttribute
    {
        public UserPackFactAttribute()
        {
            Skip = new PackFactAttribute().Skip;
            if (Skip == null && ExtImage.Run("sh", ["-c", "d=$(mktemp -d); mknod $d/n c 5 1 && unshare --user --map-root-user echo there; rm -r $d"]).Trim() != "there")
            {
                Skip = "this host lets root make no device nodes or no user namespace";
            }
        }
    }

    [AttributeUsage(AttributeTargets.Method)]
    private sealed class BuildFactAttribute : FactAttribute
    {
        public BuildFactAttribute()
        {
            if (Environment.GetEnvironmentVariable("TUTTI_BUILD_SERVER") != "1")
            {
                Skip = "TUTTI_BUILD_SERVER=1 is not set: building the server image takes minutes";
            }
        }
    }
}
