using System.Text;
using Tutti.Guests.Disks;
using Tutti.Guests.Disks.Loaders;

namespace Tutti.Guests.Tests.Disks.Layouts;

/// <summary>Disks as distributions that start with systemd-boot, unified kernel images or extlinux lay them out.</summary>
public class LoaderLayoutTests
{
    private const string RootId = "7d2f3c1e-0a4b-4c5d-8e6f-112233445566";
    private const string BootId = "aabbccdd-1122-3344-5566-77889900aabb";
    private const string Console = " console=ttyS0,115200n8r";
    private static readonly (string, string)[] s_root = [("etc/os-release", "ID=x"), ("usr/x", "")];

    [LayoutFact]
    public void Arch_with_systemd_boot_and_its_root_on_btrfs()
    {
        using DiskLayout disk = new();
        disk.Fat(1,
                ("loader/loader.conf", "timeout 3\n#default old\ndefault  arch.conf\n"),
                ("loader/entries/arch.conf", $"title   Arch Linux\nlinux   /vmlinuz-linux\ninitrd  /intel-ucode.img\ninitrd  /initramfs-linux.img\noptions root=UUID={RootId} rootflags=subvol=@ rw\n"),
                ("loader/entries/zzz-fallback.conf", $"title   Arch Linux (fallback)\nlinux   /vmlinuz-linux\ninitrd  /initramfs-linux-fallback.img\noptions root=UUID={RootId} rw\n"),
                ("vmlinuz-linux", "kernel"), ("intel-ucode.img", "ucode"), ("initramfs-linux.img", "initrd"), ("initramfs-linux-fallback.img", "fallback"), ("EFI/systemd/systemd-bootx64.efi", "loader"))
            .Btrfs(2, RootId, DiskLayout.Root);
        DiskKernel kernel = disk.Find();
        Assert.Equal("kernel", Text(kernel.Kernel));
        Assert.Equal("ucode\0\0\0initrd\0\0", Text(kernel.Initrd));
        Assert.Equal($"root=UUID={RootId} rootflags=subvol=@ rw{Console}", kernel.CommandLine);
        Assert.Equal("fallback", Text(disk.Find(bootEntry: "Arch Linux (fallback)").Initrd));
        Assert.Contains("1 'arch.conf'", disk.Ask(bootEntry: "none"), StringComparison.Ordinal);
    }

    [LayoutFact]
    public void Arch_s_kernels_on_the_firmware_s_partition_without_a_loader()
    {
        using DiskLayout disk = new();
        disk.Fat(1, ("vmlinuz-linux", "kernel"), ("initramfs-linux.img", "initrd")).Ext(2, RootId, DiskLayout.Root, [.. s_root, ("boot/.x", "")]);
        DiskKernel kernel = disk.Find();
        Assert.Equal("initrd", Text(kernel.Initrd));
        Assert.Equal($"root=UUID={RootId} ro{Console}", kernel.CommandLine);

        using DiskLayout hidden = new();
        hidden.Fat(1, ("vmlinuz-linux", "kernel"), ("initramfs-linux.img", "initrd")).Btrfs(2, RootId);
        Assert.Contains($"root=UUID={RootId} for partition 2", hidden.Ask(), StringComparison.Ordinal);
    }

    [LayoutFact]
    public void Tumbleweed_with_systemd_boot_starts_the_newest_of_its_sort_key()
    {
        static string Entry(string version, int snapshot) =>
            $"# Boot Loader Specification type#1 entry\ntitle      openSUSE Tumbleweed\nversion    {snapshot}@{version}\nsort-key   opensuse-tumbleweed\noptions    root=UUID={RootId} rootflags=subvol=@/.snapshots/{snapshot}/snapshot quiet systemd.machine_id=0123456789abcdef0123456789abcdef\nlinux      /opensuse-tumbleweed/{version}/linux-aa\ninitrd     /opensuse-tumbleweed/{version}/initrd-bb\n";
        using DiskLayout disk = new();
        disk.Fat(1,
                ("loader/loader.conf", "timeout 5\nconsole-mode keep\n"),
                ("loader/entries/system-opensuse-tumbleweed-6.9.1-1-default-9.conf", Entry("6.9.1-1-default", 9)),
                ("loader/entries/system-opensuse-tumbleweed-6.10.2-1-default-10.conf", Entry("6.10.2-1-default", 10)),
                ("loader/entries/system-opensuse-tumbleweed-6.11.0-1-default-11+0-3.conf", Entry("6.11.0-1-default", 11)),
                ("opensuse-tumbleweed/6.9.1-1-default/linux-aa", "old"), ("opensuse-tumbleweed/6.9.1-1-default/initrd-bb", "old"),
                ("opensuse-tumbleweed/6.10.2-1-default/linux-aa", "new"), ("opensuse-tumbleweed/6.10.2-1-default/initrd-bb", "new"))
            .Btrfs(2, RootId);
        DiskKernel kernel = disk.Find();
        Assert.Equal("new", Text(kernel.Kernel));
        Assert.Equal($"root=UUID={RootId} rootflags=subvol=@/.snapshots/10/snapshot quiet systemd.machine_id=0123456789abcdef0123456789abcdef{Console}", kernel.CommandLine);
    }

    [LayoutFact]
    public void NixOS_with_systemd_boot_names_no_root_as_its_RAM_disk_knows_it()
    {
        static (string, string) Entry(int number) => ($"loader/entries/nixos-generation-{number}.conf", $"title NixOS\nsort-key nixos\nversion Generation {number} NixOS 24.05, Linux Kernel 6.6.{number}\nlinux /EFI/nixos/aaa-linux-6.6.{number}-bzImage.efi\ninitrd /EFI/nixos/bbb-initrd-linux-6.6.{number}-initrd.efi\noptions init=/nix/store/ccc-nixos-system-x-{number}/init loglevel=4\nmachine-id 0123456789abcdef0123456789abcdef\n");
        using DiskLayout disk = new();
        disk.Fat(1, [("loader/loader.conf", "timeout 5\ndefault nixos-generation-9.conf\nconsole-mode keep\n"), Entry(9), Entry(10),
                .. ((int[])[9, 10]).SelectMany(i => new[] { ($"EFI/nixos/aaa-linux-6.6.{i}-bzImage.efi", $"kernel {i}"), ($"EFI/nixos/bbb-initrd-linux-6.6.{i}-initrd.efi", $"initrd {i}") })])
            .Btrfs(2, RootId);
        DiskKernel kernel = disk.Find();
        Assert.Equal("kernel 9", Text(kernel.Kernel));
        Assert.Equal($"init=/nix/store/ccc-nixos-system-x-9/init loglevel=4{Console}", kernel.CommandLine);
    }

    [LayoutFact]
    public void Alpine_with_extlinux()
    {
        const string Config = """
            # Generated by update-extlinux 6.04_pre1-r15
            DEFAULT menu.c32
            PROMPT 0
            MENU TITLE Alpine/Linux Boot Menu
            MENU HIDDEN
            MENU AUTOBOOT Alpine will be booted automatically in # seconds.
            TIMEOUT 10
            LABEL lts
              MENU LABEL Linux lts
              LINUX vmlinuz-lts
              INITRD initramfs-lts
              APPEND root=UUID=wrong modules=ext4 quiet
            LABEL virt
              MENU DEFAULT
              MENU LABEL Linux ^virt
              LINUX vmlinuz-virt
              INITRD initramfs-virt
              APPEND root=UUID=ROOT modules=sd-mod,usb-storage,ext4 quiet rootfstype=ext4

            MENU SEPARATOR
            """;
        (string, string)[] files = [("extlinux.conf", Config.Replace("ROOT", RootId, StringComparison.Ordinal)), ("vmlinuz-virt", "kernel"), ("initramfs-virt", "initrd"), ("vmlinuz-lts", "lts"), ("initramfs-lts", "lts")];
        using DiskLayout disk = new();
        disk.Ext(1, BootId, DiskLayout.Linux, files).Ext(3, RootId, DiskLayout.Linux, s_root);
        DiskKernel kernel = disk.Find(isMbr: true);
        Assert.Equal("kernel", Text(kernel.Kernel));
        Assert.Equal("initrd", Text(kernel.Initrd));
        Assert.Equal($"root=UUID={RootId} modules=sd-mod,usb-storage,ext4 quiet rootfstype=ext4{Console}", kernel.CommandLine);
        Assert.Equal("lts", Text(disk.Find(bootEntry: "lts", isMbr: true).Kernel));

        using DiskLayout one = new();
        one.Ext(1, RootId, DiskLayout.Linux, [.. s_root, .. files.Select(file => ("boot/" + file.Item1, file.Item2))]);
        Assert.Equal("kernel", Text(one.Find(isMbr: true).Kernel));
    }

    [UkiFact]
    public void Fedora_s_unified_kernel_image()
    {
        using UkiImage image = new();
        byte[] old = image.Make([("osrel", "NAME=\"Fedora Linux\"\nID=fedora\nVERSION_ID=40\n"), ("cmdline", "old"), ("uname", "6.8.5"), ("linux", "old"), ("initrd", "old")]);
        byte[] uki = image.Make([("osrel", "NAME=\"Fedora Linux\"\nPRETTY_NAME='Fedora Linux 40'\nID=fedora\nVERSION_ID=40\n"), ("cmdline", "console=hvc0 quiet\n\0"), ("uname", "6.10.1"), ("ucode", "uco"), ("linux", "kernel"), ("initrd", "initrd")]);
        using DiskLayout disk = new();
        disk.Fat(1, ("EFI/Linux/0123456789abcdef0123456789abcdef-6.8.5-301.fc40.x86_64.efi", old), ("EFI/Linux/0123456789abcdef0123456789abcdef-6.10.1-200.fc40.x86_64.efi", uki)).Btrfs(2, RootId, DiskLayout.Root);
        DiskKernel kernel = disk.Find();
        Assert.Equal("kernel", Text(kernel.Kernel));
        Assert.Equal("uco\0initrd\0\0", Text(kernel.Initrd));

        // No word of a root: systemd would find it by the partition's type with the firmware's help.
        Assert.Equal($"root=PARTUUID={DiskLayout.PartitionId(2)} rw console=hvc0 quiet", kernel.CommandLine);
        Assert.Equal("old", Text(disk.Find("root=/dev/vda2", "1").Kernel));

        // As many as an image builder ever kept: looking at each costs no memory of its own.
        using DiskLayout many = new();
        many.Fat(1, [.. Enumerable.Range(10, 64).Select(i => ($"EFI/Linux/many-{i}.efi", i == 73 ? uki : old))]).Btrfs(2, RootId, DiskLayout.Root);
        Assert.Equal("kernel", Text(many.Find().Kernel));

        using DiskLayout alone = new();
        alone.Fat(1, ("EFI/BOOT/BOOTX64.EFI", uki)).Btrfs(2, RootId);
        Assert.Contains("--append root=", alone.Ask(), StringComparison.Ordinal);
        Assert.Equal("kernel", Text(alone.Find("root=LABEL=fedora").Kernel));

        using DiskLayout entry = new();
        entry.Fat(1, ("loader/entries/x.conf", "title x\nefi /EFI/x/linux.efi\noptions root=/dev/vda2\n"u8.ToArray()), ("EFI/x/linux.efi", uki)).Btrfs(2, RootId);
        Assert.Equal($"root=/dev/vda2{Console}", entry.Find().CommandLine);

        using DiskLayout other = new();
        other.Fat(1, ("loader/entries/x.conf", "title x\nefi /EFI/x/shell.efi\n"u8.ToArray()), ("EFI/x/shell.efi", File.ReadAllBytes(UkiImage.Stub)));
        Assert.Contains("no Linux kernel", other.Ask(), StringComparison.Ordinal);
    }

    [UkiFact]
    public void Sections_are_where_objcopy_put_them_and_damaged_ones_are_left_out()
    {
        using UkiImage image = new();
        byte[] uki = image.Make([("osrel", "ID=x"), ("cmdline", "a b"), ("linux", "kernel")]);
        Dictionary<string, PeSection> sections = PeSections.Read(uki, uki.Length).DistinctBy(section => section.Name).ToDictionary(section => section.Name);
        Assert.Equal("a b", Encoding.ASCII.GetString(uki, sections[".cmdline"].Offset, sections[".cmdline"].Length));
        Assert.True(sections.ContainsKey(".text"));
        Assert.DoesNotContain(".linux", PeSections.Read(uki, sections[".linux"].Offset).Select(section => section.Name));
    }

    [UkiFact]
    [Trait("Category", "Fuzz")]
    public void A_damaged_image_gives_sections_within_it()
    {
        using UkiImage image = new();
        byte[] sound = image.Make([("osrel", "ID=x"), ("cmdline", "a b"), ("linux", "kernel"), ("initrd", "initrd")]);
        int header = BitConverter.ToInt32(sound, 0x3C);
        Fuzz.Run(2000, random =>
        {
            byte[] uki = [.. sound];
            for (int i = random.Next(1, 8); i > 0; i--)
            {
                uki[random.Next(3) == 0 ? 0x3C + random.Next(4) : header + random.Next(1000)] = (byte)random.Next(256);
            }

            byte[] part = uki[..random.Next(uki.Length + 1)];
            foreach (PeSection section in PeSections.Read(part, uki.Length))
            {
                Assert.True(section.Offset >= 0 && section.Length >= 0 && section.Offset <= uki.Length - section.Length);
            }

            UnifiedKernelImage.TryRead(part, part.Length)?.Text(".cmdline", part);
        });
    }

    private static string Text(ReadOnlyMemory<byte> bytes) => Encoding.UTF8.GetString(bytes.Span);

    /// <summary>Unified kernel images made of systemd's own stub by objcopy, as its manual says.</summary>
    private sealed class UkiImage : IDisposable
    {
        public const string Stub = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
        private readonly string _folder = Directory.CreateTempSubdirectory("tutti-uki").FullName;

        public byte[] Make((string Name, string Text)[] sections)
        {
            List<string> arguments = [];
            long address = 0x1_4000_0000 + (64 << 20);
            foreach ((string name, string text) in sections)
            {
                string file = Path.Combine(_folder, name);
                File.WriteAllText(file, text);
                arguments.AddRange(["--add-section", $".{name}={file}", "--change-section-vma", $".{name}=0x{address:x}"]);
                address += 1 << 20;
            }

            string target = Path.Combine(_folder, "uki.efi");
            ExtImage.Run("objcopy", [.. arguments, Stub, target]);
            return File.ReadAllBytes(target);
        }

        public void Dispose() => Directory.Delete(_folder, recursive: true);
    }

    [AttributeUsage(AttributeTargets.Method)]
    private sealed class UkiFactAttribute : FactAttribute
    {
        public UkiFactAttribute() => Skip = DiskLayout.Missing
            ?? (!File.Exists(UkiImage.Stub) ? "systemd's stub is not installed (Debian: systemd-boot-efi)" : !File.Exists("/usr/bin/objcopy") ? "objcopy is not installed (Debian: binutils)" : null);
    }
}
