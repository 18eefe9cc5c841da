using System.Buffers.Binary;
using System.Text;
using Tutti.Guests.Server;
using Tutti.Storage;

namespace Tutti.Guests.Tests.Server;

public sealed class MachineDisksTests : IDisposable
{
    private readonly string _root = Directory.CreateTempSubdirectory("tutti-disks").FullName;
    private readonly List<string> _made = [];

    [Fact]
    public async Task A_machine_keeps_its_disk_and_another_name_has_another()
    {
        MachineDisks disks = new(_root);
        GuestImage image = Image("one");
        string first = await disks.PrepareAsync(image, new MachineDiskOptions(), Create);
        Assert.Equal(Path.Combine(_root, "disks", "debian-server.qcow2"), first);
        Assert.Equal(first, await disks.PrepareAsync(image, new MachineDiskOptions(), Create));
        Assert.Single(_made);
        Assert.EndsWith("/web.qcow2", await disks.PrepareAsync(image, new MachineDiskOptions { Name = "web" }, Create), StringComparison.Ordinal);
        Assert.Equal(2, _made.Count);
        Assert.Single(Directory.EnumerateFiles(Path.Combine(_root, "bases")));
    }

    [Fact]
    public async Task What_a_disk_lies_over_outlives_the_image_and_goes_with_the_last_disk()
    {
        MachineDisks disks = new(_root);
        GuestImage image = Image("one");
        string path = await disks.PrepareAsync(image, new MachineDiskOptions(), Create);
        File.Delete(image.DiskPath!);
        string kept = MachineDisks.ReadHeader(path)!.Value.Backing;
        Assert.Equal("one", File.ReadAllText(kept));

        GuestImage newer = Image("two");
        await disks.PrepareAsync(newer, new MachineDiskOptions { Name = "b" }, Create);
        Assert.True(File.Exists(kept));
        await disks.PrepareAsync(newer, new MachineDiskOptions { IsFresh = true }, Create);
        Assert.False(File.Exists(kept));
        Assert.Equal("two", File.ReadAllText(MachineDisks.ReadHeader(path)!.Value.Backing));
    }

    [Fact]
    public async Task A_machine_s_disk_may_stand_on_the_disks_of_images_and_on_nothing_else_outside_its_folder()
    {
        MachineDisks disks = new(_root);
        GuestImage image = Image("one");
        await using (FileStream file = File.OpenWrite(image.DiskPath!))
        {
            file.SetLength(1 << 20);
        }

        string path = await disks.PrepareAsync(image with { DiskSize = 1 << 20 }, new MachineDiskOptions());
        DiskOptions options = new() { Path = path, Backing = BackingRule.OwnFolder.And(disks.Bases) };
        Disk.Open(options).Dispose();
        Assert.Contains("backing=allow", Assert.Throws<DiskException>(() => Disk.Open(options with { Backing = BackingRule.OwnFolder })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_size_is_for_a_new_disk_and_never_below_the_image_s()
    {
        MachineDisks disks = new(_root);
        GuestImage image = Image("one") with { DiskSize = 10 << 20 };
        Assert.Contains("--disk-size", (await Refusal(new MachineDiskOptions { Size = 5 << 20 })).Message, StringComparison.Ordinal);
        string path = await disks.PrepareAsync(image, new MachineDiskOptions { Size = 20 << 20 }, Create);
        Assert.Equal(20 << 20, MachineDisks.ReadHeader(path)!.Value.Size);
        await disks.PrepareAsync(image, new MachineDiskOptions { Size = 20 << 20 }, Create);
        Assert.Contains("disk resize", (await Refusal(new MachineDiskOptions { Size = 30 << 20 })).Message, StringComparison.Ordinal);
        Assert.Contains("--name", (await Refusal(new MachineDiskOptions { Name = "../x" })).Message, StringComparison.Ordinal);

        Task<ImageException> Refusal(MachineDiskOptions options) => Assert.ThrowsAsync<ImageException>(() => disks.PrepareAsync(image, options, Create));
    }

    [Fact]
    public async Task A_disk_that_fails_to_be_made_leaves_the_old_one()
    {
        MachineDisks disks = new(_root);
        GuestImage image = Image("one");
        string path = await disks.PrepareAsync(image, new MachineDiskOptions(), Create);
        byte[] before = await File.ReadAllBytesAsync(path);
        await Assert.ThrowsAsync<ImageException>(() => disks.PrepareAsync(image, new MachineDiskOptions { IsFresh = true }, (_, _, _) => throw new IOException("no")));
        Assert.Equal(before, await File.ReadAllBytesAsync(path));
        Assert.Single(Directory.EnumerateFiles(Path.GetDirectoryName(path)!));
    }

    [Fact]
    public async Task Disks_are_for_their_owner_alone_those_of_older_versions_too()
    {
        const UnixFileMode Folder = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;
        const UnixFileMode Open = UnixFileMode.GroupRead | UnixFileMode.OtherRead;
        const UnixFileMode OpenFolder = Folder | Open | UnixFileMode.GroupExecute | UnixFileMode.OtherExecute;
        string root = Path.Combine(_root, "data", "tutti");
        MachineDisks disks = new(root);
        GuestImage image = Image("one") with { DiskSize = 1 << 20 };
        await File.WriteAllBytesAsync(image.DiskPath!, new byte[1 << 20]);
        string path = await disks.PrepareAsync(image, new MachineDiskOptions());
        string old = Path.Combine(root, "disks", "old.qcow2");
        string seed = disks.WriteSeed(new Guests.Seed.CloudInitSeed { Machine = "web", Password = "p" });
        string[] folders = [root, Path.Combine(root, "disks"), disks.Bases];
        Check();

        // As they were before.
        File.Copy(path, old);
        Array.ForEach([path, old, seed], file => File.SetUnixFileMode(file, UnixFileMode.UserRead | UnixFileMode.UserWrite | Open));
        Array.ForEach(folders, folder => File.SetUnixFileMode(folder, OpenFolder));
        await disks.PrepareAsync(image, new MachineDiskOptions());
        Check(old);
        File.SetUnixFileMode(old, UnixFileMode.UserRead | Open);
        disks.WriteSeed(new Guests.Seed.CloudInitSeed { Machine = "web", Password = "p" });
        Assert.Equal(UnixFileMode.UserRead, File.GetUnixFileMode(old));

        void Check(params string[] more)
        {
            Assert.All(folders, folder => Assert.Equal(Folder, File.GetUnixFileMode(folder)));
            Assert.All([path, seed, .. more], file => Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(file)));
        }
    }

    [Fact]
    public void A_seed_is_for_its_owner_alone()
    {
        string path = new MachineDisks(_root).WriteSeed(new Guests.Seed.CloudInitSeed { Machine = "web", Password = "p" });
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(path));
    }

    public void Dispose() => Directory.Delete(_root, recursive: true);

    private GuestImage Image(string text)
    {
        string path = Path.Combine(_root, text + ".img");
        File.WriteAllText(path, text);
        File.SetLastWriteTimeUtc(path, DateTime.UnixEpoch.AddDays(text.Length + text[0]));
        return new GuestImage { Name = "debian-server", Description = "", Version = "", KernelPath = "", InitrdPath = "", CommandLine = "", Size = 1, DiskPath = path, DiskSize = 3 };
    }

    /// <summary>As much of a qcow2 image as its header.</summary>
    private void Create(string path, string backing, long size)
    {
        _made.Add(path);
        byte[] name = Encoding.UTF8.GetBytes(backing);
        byte[] file = new byte[104 + name.Length];
        "QFI"u8.CopyTo(file);
        file[3] = 0xFB;
        BinaryPrimitives.WriteInt64BigEndian(file.AsSpan(8), 104);
        BinaryPrimitives.WriteInt32BigEndian(file.AsSpan(16), name.Length);
        BinaryPrimitives.WriteInt64BigEndian(file.AsSpan(24), size);
        name.CopyTo(file, 104);
        File.WriteAllBytes(path, file);
    }
}
