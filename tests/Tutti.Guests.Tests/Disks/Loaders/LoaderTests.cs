using Tutti.Guests.Disks;
using Tutti.Guests.Disks.Loaders;

namespace Tutti.Guests.Tests.Disks.Loaders;

public class LoaderTests
{
    /// <summary>What rpm's own test suite says of its order, and names of kernels.</summary>
    [Theory]
    [InlineData("1.0", "2.0", -1)]
    [InlineData("2.0.1", "2.0.1", 0)]
    [InlineData("2.0", "2.0.1", -1)]
    [InlineData("2.0.1a", "2.0.1", 1)]
    [InlineData("5.5p1", "5.5p10", -1)]
    [InlineData("10xyz", "10.1xyz", -1)]
    [InlineData("xyz10", "xyz10.1", -1)]
    [InlineData("xyz.4", "8", -1)]
    [InlineData("5.5p2", "5.6p1", -1)]
    [InlineData("6.0.rc1", "6.0", 1)]
    [InlineData("10b2", "10a1", 1)]
    [InlineData("1.0aa", "1.0a", 1)]
    [InlineData("10.0001", "10.1", 0)]
    [InlineData("10.0001", "10.0039", -1)]
    [InlineData("4.999.9", "5.0", -1)]
    [InlineData("20101121", "20101122", -1)]
    [InlineData("2_0", "2.0", 0)]
    [InlineData("a+", "a_", 0)]
    [InlineData("1.0~rc1", "1.0", -1)]
    [InlineData("1.0~rc1", "1.0~rc1~git123", 1)]
    [InlineData("1.0^", "1.0", 1)]
    [InlineData("1.0^git1", "1.0^git2", -1)]
    [InlineData("1.0^git1", "1.01", -1)]
    [InlineData("1.0^20160101", "1.0.1", -1)]
    [InlineData("1.0~rc1^git1", "1.0~rc1", 1)]
    [InlineData("1.0^git1~pre", "1.0^git1", -1)]
    public void Versions_are_ordered_as_rpm_orders_them(string left, string right, int order)
    {
        Assert.Equal(order, Math.Sign(RpmVersion.Order.Compare(left, right)));
        Assert.Equal(-order, Math.Sign(RpmVersion.Order.Compare(right, left)));
    }

    [Theory]
    [InlineData("id-4.18.0-80.el8.x86_64", "id-4.18.0-147.5.1.el8_1.x86_64")]
    [InlineData("id-0-rescue", "id-4.18.0-80.el8.x86_64")]
    [InlineData("id-6.8.5-301.fc40.x86_64", "id-6.10.1-200.fc40.x86_64")]
    public void Entries_are_ordered_as_packages(string older, string newer) => Assert.True(LoaderEntry.ComparePackages(older, newer) < 0);

    [Fact]
    public void The_machine_s_own_entries_go_first()
    {
        string own = new('a', 32);
        MemoryFiles boot = new() { [$"/loader/entries/{own}-1-1.conf"] = "linux /own\n", [$"/loader/entries/{new string('f', 32)}-9-9.conf"] = "linux /other\n" };
        MemoryFiles root = new() { ["/etc/machine-id"] = own + "\n", ["/usr/x"] = "" };
        List<DiskVolume> disk = MemoryFiles.Disk(boot, root);
        Assert.Equal(["/own", "/other"], LoaderEntry.InGrubsOrder(LoaderEntry.ReadAll(disk[0], "/loader/entries"), disk).Select(entry => entry.Linux));
        Assert.Equal("/own", LoaderMenu.Read(disk).Choose(null).Kernel.Path);
        Assert.Equal("/other", LoaderMenu.Read([disk[0]]).Choose(null).Kernel.Path);
    }

    [Fact]
    public void Entries_are_sorted_as_systemd_boot_sorts_them()
    {
        MemoryFiles files = new()
        {
            ["/loader/entries/a-10.conf"] = "title A\nversion 10\nlinux /a10\n",
            ["/loader/entries/a-5.conf"] = "title A\nversion 5\nlinux /a5\n",
            ["/loader/entries/b.conf"] = "title B\nversion 3\nlinux /b\n",
            ["/loader/entries/c.conf"] = "title C\nsort-key xxxx\nversion 5\nlinux /c5\n",
            ["/loader/entries/cx.conf"] = "title C\nsort-key xxxx\nversion 10\nlinux /c10\n",
            ["/loader/entries/d.conf"] = "title D\nsort-key kkkk\nversion 100\nlinux /d\n",
            ["/loader/entries/e+0.conf"] = "title E\nsort-key aaaa\nlinux /e\n",
            ["/loader/entries/f.conf"] = "title F\nsort-key aaaa\nlinux /f\narchitecture aa64\n",
            ["/loader/entries/g.conf"] = "title G\n",
        };
        Assert.Equal(["d.conf", "cx.conf", "c.conf", "b.conf", "a-10.conf", "a-5.conf", "e.conf"], LoaderMenu.Read(MemoryFiles.Disk(files)).Names);
        files["/loader/loader.conf"] = "default A-*\n";
        Assert.Equal("/a10", LoaderMenu.Read(MemoryFiles.Disk(files)).Choose(null).Kernel.Path);
        files["/loader/loader.conf"] = "default b\n";
        Assert.Equal("/b", LoaderMenu.Read(MemoryFiles.Disk(files)).Choose(null).Kernel.Path);
        files["/loader/loader.conf"] = "default @saved\n";
        Assert.Equal("/d", LoaderMenu.Read(MemoryFiles.Disk(files)).Choose(null).Kernel.Path);
    }

    [Fact]
    public void Variables_of_GRUB_s_are_filled_in_from_its_environment_where_its_configuration_is_missing()
    {
        MemoryFiles files = new() { ["/loader/entries/a-1-1.conf"] = "linux /k\ninitrd /i $tuned_initrd\noptions $kernelopts $tuned_params quiet\n", ["/grub2/grubenv"] = "kernelopts=root=/dev/mapper/r ro\n" };
        BootEntry entry = LoaderMenu.Read(MemoryFiles.Disk(files)).Choose(null);
        Assert.Equal("root=/dev/mapper/r ro quiet", entry.Options);
        Assert.Equal(["/i"], entry.Initrds.Select(file => file.Path));
    }

    [Fact]
    public void Extlinux_s_labels_paths_and_words()
    {
        MemoryFiles files = new()
        {
            ["/boot/extlinux/extlinux.conf"] = "default two\nappend all=1\ninclude more.conf\nLABEL one\n  KERNEL ../vmlinuz-1\nLabel two\n  menu label ^Two\n  linux /boot/vmlinuz-2\n  initrd ../a,../b\n  append root=/dev/x initrd=/boot/c ro\nlabel three\n  kernel chain.c32\nlabel four\n  kernel k\n  append -\n",
            ["/boot/extlinux/more.conf"] = "label zero\nkernel z\ninclude more.conf\n",
        };
        ExtlinuxMenu menu = ExtlinuxMenu.FindAll(MemoryFiles.Disk(files)).Single();
        Assert.Equal(["zero", "zero", "zero", "zero", "zero", "zero", "zero", "zero", "one", "two", "three", "four"], menu.Names);
        BootEntry entry = menu.Choose(null);
        Assert.Equal(("Two", "/boot/vmlinuz-2", "root=/dev/x ro"), (entry.Title, entry.Kernel.Path, entry.Options));
        Assert.Equal(["/boot/extlinux/../a", "/boot/extlinux/../b", "/boot/c"], entry.Initrds.Select(file => file.Path));
        Assert.Equal("all=1", menu.Choose("one").Options);
        Assert.Equal(string.Empty, menu.Choose("four").Options);
        Assert.Contains("no Linux kernel", Assert.Throws<ImageException>(() => menu.Choose("three")).Message, StringComparison.Ordinal);
        Assert.Contains("no entry 'five'", Assert.Throws<ImageException>(() => menu.Choose("five")).Message, StringComparison.Ordinal);
    }

    [Fact]
    [Trait("Category", "Fuzz")]
    public void Random_entries_and_menus_end_with_an_entry_or_one_line()
    {
        string[] words = ["title", "linux", "efi", "options", "initrd", "sort-key", "version", "default", "label", "kernel", "append", "include", "menu", "x", "/x", "$a", "${", "+", "-", "0", "\n", "\n", "\0", "/extlinux.conf", "'", "\"", "\\", "architecture", "machine-id", "*", "?"];
        Fuzz.Run(3000, random =>
        {
            MemoryFiles files = new();
            foreach (string path in (string[])["/extlinux.conf", "/loader/loader.conf", "/loader/entries/a+1-2.conf", "/loader/entries/b-1.conf", "/grub2/grubenv", "/etc/machine-id", "/usr/x"])
            {
                if (random.Next(4) != 0)
                {
                    files[path] = string.Join(" ", Enumerable.Range(0, random.Next(40)).Select(_ => words[random.Next(words.Length)]));
                }
            }

            List<DiskVolume> disk = MemoryFiles.Disk(files);
            foreach (BootMenu menu in ExtlinuxMenu.FindAll(disk).Cast<BootMenu>().Append(LoaderMenu.Read(disk)).Concat(KernelFolder.FindAll(disk)).Where(menu => menu.Names.Count > 0))
            {
                try
                {
                    BootEntry entry = menu.Choose(random.Next(2) == 0 ? null : "0");
                    RootOption.Complete(entry, menu.Source, disk, true, string.Empty);
                }
                catch (ImageException)
                {
                }
            }
        });
    }
}
