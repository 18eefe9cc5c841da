using System.Text;
using Tutti.Guests.Disks;

namespace Tutti.Guests.Tests.Disks.Layouts;

/// <summary>Disks as distributions that start with GRUB lay them out. debian.cfg and debian-boot.cfg are grub-mkconfig's own (Debian 12, 2.06-13).</summary>
public class GrubLayoutTests
{
    private const string RootId = "7d2f3c1e-0a4b-4c5d-8e6f-112233445566";
    private const string BootId = "aabbccdd-1122-3344-5566-77889900aabb";
    private const string MachineId = "0123456789abcdef0123456789abcdef";
    private const string Console = " console=ttyS0,115200n8r";

    private static readonly (string, string)[] s_root = [("etc/os-release", "ID=x"), ("usr/x", ""), ("boot/efi/.x", "")];

    private static (string, string)[] DebianKernels(string folder) =>
        [.. ((string[])["6.1.0-56-amd64", "6.1.0-57-amd64"]).SelectMany(version => new[] { ($"{folder}vmlinuz-{version}", $"kernel {version}"), ($"{folder}initrd.img-{version}", $"initrd {version}") })];

    [LayoutFact]
    public void Debian_with_one_partition()
    {
        using DiskLayout disk = new();
        disk.Ext(1, RootId, DiskLayout.Linux, [.. s_root, .. DebianKernels("boot/"), ("boot/grub/grub.cfg", Fixture("debian.cfg"))])
            .Fat(15, ("EFI/debian/grub.cfg", $"search.fs_uuid {RootId} root hd0,gpt1\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n"));
        DiskKernel kernel = disk.Find();
        Assert.Equal("kernel 6.1.0-57-amd64", Text(kernel.Kernel));
        Assert.Equal("initrd 6.1.0-57-amd64", Text(kernel.Initrd));
        Assert.Equal($"root=UUID={RootId} ro quiet{Console}", kernel.CommandLine);
        Assert.Contains("/boot/grub/grub.cfg of partition 1", kernel.Description, StringComparison.Ordinal);

        kernel = disk.Find(bootEntry: "Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux 6.1.0-56-amd64 (recovery mode)");
        Assert.Equal("kernel 6.1.0-56-amd64", Text(kernel.Kernel));
        Assert.Equal($"root=UUID={RootId} ro single{Console}", kernel.CommandLine);
    }

    [LayoutFact]
    public void Debian_with_a_boot_partition_and_its_root_on_LVM_starts_the_entry_that_was_saved()
    {
        string saved = $"gnulinux-advanced-{RootId}>gnulinux-6.1.0-56-amd64-advanced-{RootId}";
        using DiskLayout disk = new();
        disk.Lvm(1).Ext(2, BootId, DiskLayout.Linux, [.. DebianKernels(""), ("grub/grub.cfg", Fixture("debian-boot.cfg")), ("grub/grubenv", Environment($"saved_entry={saved}"))]);
        DiskKernel kernel = disk.Find();
        Assert.Equal("kernel 6.1.0-56-amd64", Text(kernel.Kernel));
        Assert.Equal("initrd 6.1.0-56-amd64", Text(kernel.Initrd));
        Assert.Equal($"root=/dev/mapper/vg-root ro net.ifnames=0 quiet{Console}", kernel.CommandLine);
    }

    [LayoutFact]
    public void Debian_s_kernels_without_a_boot_loader_start_only_where_the_root_is_known()
    {
        using DiskLayout whole = new();
        whole.Ext(1, RootId, DiskLayout.Linux, [.. s_root, .. DebianKernels("boot/")]);
        Assert.Equal($"root=UUID={RootId} ro{Console}", whole.Find().CommandLine);

        // The fault that began this: a boot partition is no root, not even where it is the only one that can be read.
        using DiskLayout boot = new();
        boot.Lvm(1).Ext(2, BootId, DiskLayout.Linux, DebianKernels(""));
        string message = boot.Ask();
        Assert.Contains("--append root=", message, StringComparison.Ordinal);
        Assert.Contains("partition 1 is an LVM volume", message, StringComparison.Ordinal);
        Assert.DoesNotContain(BootId, message, StringComparison.Ordinal);
        Assert.Equal("console=ttyS0,115200n8r", boot.Find("root=/dev/mapper/vg-root ro").CommandLine);

        using DiskLayout both = new();
        both.Ext(1, RootId, DiskLayout.Linux, s_root).Ext(2, BootId, DiskLayout.Linux, DebianKernels(""));
        Assert.Equal($"root=UUID={RootId} ro{Console}", both.Find().CommandLine);

        using DiskLayout told = new();
        told.Ext(1, RootId, DiskLayout.Linux, [.. s_root, ("etc/kernel/cmdline", "root=/dev/vda1 rw\nlast=1\n")]).Ext(2, BootId, DiskLayout.Linux, DebianKernels(""));
        Assert.Equal($"root=/dev/vda1 rw last=1{Console}", told.Find().CommandLine);

        using DiskLayout two = new();
        two.Ext(1, RootId, DiskLayout.Linux, s_root).Ext(2, BootId, DiskLayout.Linux, DebianKernels("")).Ext(3, "11111111-2222-3333-4444-555555555556", DiskLayout.Linux, s_root);
        Assert.Contains("several systems: partition 1, partition 3", two.Ask(), StringComparison.Ordinal);
    }

    [LayoutFact]
    public void Ubuntu_s_cloud_image()
    {
        const string Grub = """
            if [ -s $prefix/grubenv ]; then
              set have_grubenv=true
              load_env
            fi
            if [ "${initrdfail}" = 2 ]; then
               set initrdfail=
            elif [ "${initrdfail}" = 1 ]; then
               set next_entry="${prev_entry}"
               set prev_entry=
               save_env prev_entry
               if [ "${next_entry}" ]; then
                  set initrdfail=2
               fi
            fi
            if [ "${next_entry}" ] ; then
               set default="${next_entry}"
               set next_entry=
               save_env next_entry
               set boot_once=true
            else
               set default="0"
            fi
            if [ x"${feature_menuentry_id}" = xy ]; then
              menuentry_id_option="--id"
            else
              menuentry_id_option=""
            fi
            export menuentry_id_option
            function recordfail {
              set recordfail=1
              if [ -n "${have_grubenv}" ]; then if [ -z "${boot_once}" ]; then save_env recordfail; fi; fi
            }
            function gfxmode {
            	set gfxpayload="${1}"
            	if [ "${1}" = "keep" ]; then
            		set vt_handoff=vt.handoff=7
            	else
            		set vt_handoff=
            	fi
            }
            if [ "${recordfail}" != 1 ]; then
              if [ -e ${prefix}/gfxblacklist.txt ]; then
                if [ ${grub_platform} != pc ]; then
                  set linux_gfx_mode=keep
                elif hwmatch ${prefix}/gfxblacklist.txt 3; then
                  if [ ${match} = 0 ]; then
                    set linux_gfx_mode=keep
                  else
                    set linux_gfx_mode=text
                  fi
                else
                  set linux_gfx_mode=text
                fi
              else
                set linux_gfx_mode=keep
              fi
            else
              set linux_gfx_mode=text
            fi
            export linux_gfx_mode
            menuentry 'Ubuntu' --class ubuntu --class gnu-linux --class gnu --class os $menuentry_id_option 'gnulinux-simple-ROOT' {
            	recordfail
            	load_video
            	gfxmode $linux_gfx_mode
            	insmod gzio
            	if [ x$grub_platform = xxen ]; then insmod xzio; insmod lzopio; fi
            	insmod part_gpt
            	insmod ext2
            	search --no-floppy --fs-uuid --set=root BOOT
            	linux	/vmlinuz-6.8.0-31-generic root=LABEL=cloudimg-rootfs ro  console=tty1 console=ttyS0 $vt_handoff
            	initrd	/initrd.img-6.8.0-31-generic
            }
            submenu 'Advanced options for Ubuntu' $menuentry_id_option 'gnulinux-advanced-ROOT' {
            	menuentry 'Ubuntu, with Linux 6.8.0-31-generic' --class ubuntu $menuentry_id_option 'gnulinux-6.8.0-31-generic-advanced-ROOT' {
            		search --no-floppy --fs-uuid --set=root BOOT
            		linux	/vmlinuz-6.8.0-31-generic root=LABEL=cloudimg-rootfs ro
            	}
            }
            if [ "$grub_platform" = "efi" ]; then
            	fwsetup --is-supported
            	if [ "$?" = 0 ]; then
            		menuentry 'UEFI Firmware Settings' $menuentry_id_option 'uefi-firmware' { fwsetup }
            	fi
            fi
            """;
        using DiskLayout disk = new();
        disk.Ext(1, RootId, DiskLayout.Linux, s_root)
            .Raw(14, "21686148-6449-6E6F-744E-656564454649", new byte[4 << 20])
            .Fat(15, ("EFI/ubuntu/grub.cfg", $"search.fs_uuid {BootId} root\nset prefix=($root)'/grub'\nconfigfile $prefix/grub.cfg\n"))
            .Ext(16, BootId, "BC13C2FF-59E6-4262-A352-B275FD6F7172", ("grub/grub.cfg", Grub.Replace("BOOT", BootId, StringComparison.Ordinal).Replace("ROOT", RootId, StringComparison.Ordinal)), ("vmlinuz-6.8.0-31-generic", "kernel"), ("initrd.img-6.8.0-31-generic", "initrd"));
        DiskKernel kernel = disk.Find();
        Assert.Equal("kernel", Text(kernel.Kernel));
        Assert.Equal("root=LABEL=cloudimg-rootfs ro console=tty1 console=ttyS0 vt.handoff=7", kernel.CommandLine);
    }

    /// <summary>What grub2-mkconfig of Fedora and its kin writes of a machine whose entries are files.</summary>
    private static string FedoraGrub(string boot, string fallback) => $$"""
        set pager=1

        if [ -f ${config_directory}/grubenv ]; then
          load_env -f ${config_directory}/grubenv
        elif [ -s $prefix/grubenv ]; then
          load_env
        fi
        if [ "${next_entry}" ] ; then
           set default="${next_entry}"
           set next_entry=
           save_env next_entry
           set boot_once=true
        else
           set default="${saved_entry}"
        fi
        function load_video {
          insmod all_video
        }
        terminal_output console
        if [ x$feature_timeout_style = xy ] ; then
          set timeout_style=menu
          set timeout=1
        else
          set timeout=1
        fi
        set tuned_params=""
        set tuned_initrd=""
        if [ -f ${prefix}/user.cfg ]; then
          source ${prefix}/user.cfg
          if [ -n "${GRUB2_PASSWORD}" ]; then
            set superusers="root"
            export superusers
            password_pbkdf2 root ${GRUB2_PASSWORD}
          fi
        fi
        insmod part_gpt
        insmod ext2
        set root='hd0,gpt9'
        if [ x$feature_platform_search_hint = xy ]; then
          search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt2 --hint='hd0,gpt2'  {{boot}}
        else
          search --no-floppy --fs-uuid --set=root {{boot}}
        fi
        insmod part_gpt
        set boot='hd0,gpt9'
        if [ x$feature_platform_search_hint = xy ]; then
          search --no-floppy --fs-uuid --set=boot --hint-bios=hd0,gpt2 --hint='hd0,gpt2'  {{boot}}
        else
          search --no-floppy --fs-uuid --set=boot {{boot}}
        fi
        if [ -z "${kernelopts}" ]; then
          set kernelopts="{{fallback}} "
        fi
        insmod blscfg
        blscfg
        if [ "${boot_success}" = "1" -o "${boot_indeterminate}" = "1" ]; then
          set last_boot_ok=1
        else
          set last_boot_ok=0
        fi
        set boot_success=0
        save_env boot_success boot_indeterminate
        if [ "$grub_platform" = "efi" ]; then
        	menuentry 'UEFI Firmware Settings' $menuentry_id_option 'uefi-firmware' {
        		fwsetup
        	}
        fi
        if [ -f  ${config_directory}/custom.cfg ]; then
          source ${config_directory}/custom.cfg
        elif [ -z "${config_directory}" -a -f  $prefix/custom.cfg ]; then
          source $prefix/custom.cfg
        fi
        """;

    private static (string, string)[] FedoraKernels(string distribution, string options, params string[] versions) =>
        [.. versions.SelectMany(version => new[]
        {
            ($"loader/entries/{MachineId}-{version}.conf", $"title {distribution} ({version})\nversion {version}\nlinux /vmlinuz-{version}\ninitrd /initramfs-{version}.img $tuned_initrd\noptions {options}\ngrub_users $grub_users\ngrub_arg --unrestricted\ngrub_class {distribution}\n"),
            ($"vmlinuz-{version}", $"kernel {version}"),
            ($"initramfs-{version}.img", $"initrd {version}"),
        })];

    [LayoutFact]
    public void Fedora_s_cloud_image_with_its_root_on_btrfs()
    {
        using DiskLayout disk = new();
        disk.Raw(1, "21686148-6449-6E6F-744E-656564454649", new byte[1 << 20])
            .Fat(2, ("EFI/fedora/grub.cfg", $"search --no-floppy --root-dev-only --fs-uuid --set=dev {BootId}\nset prefix=($dev)/grub2\nexport $prefix\nconfigfile $prefix/grub.cfg\n"))
            .Ext(3, BootId, "BC13C2FF-59E6-4262-A352-B275FD6F7172",
                [("grub2/grub.cfg", FedoraGrub(BootId, "root=UUID=wrong ro")), ("grub2/grubenv", Environment("boot_success=0")),
                 .. FedoraKernels("Fedora Linux", $"root=UUID={RootId} rootflags=subvol=root no_timer_check net.ifnames=0 console=tty1 console=ttyS0,115200n8", "6.8.5-301.fc40.x86_64", "6.10.1-200.fc40.x86_64"),
                 ($"loader/entries/{MachineId}-0-rescue.conf", $"title Fedora Linux (0-rescue-{MachineId})\nversion 0-rescue-{MachineId}\nlinux /vmlinuz-0-rescue-{MachineId}\ninitrd /initramfs-0-rescue-{MachineId}.img\noptions x\n"),
                 ($"vmlinuz-0-rescue-{MachineId}", "rescue"), ($"initramfs-0-rescue-{MachineId}.img", "rescue")])
            .Btrfs(4, RootId);
        DiskKernel kernel = disk.Find();
        Assert.Equal("kernel 6.10.1-200.fc40.x86_64", Text(kernel.Kernel));
        Assert.Equal("initrd 6.10.1-200.fc40.x86_64", Text(kernel.Initrd));
        Assert.Equal($"root=UUID={RootId} rootflags=subvol=root no_timer_check net.ifnames=0 console=tty1 console=ttyS0,115200n8", kernel.CommandLine);
        Assert.Equal("kernel 6.8.5-301.fc40.x86_64", Text(disk.Find(bootEntry: $"{MachineId}-6.8.5-301.fc40.x86_64").Kernel));
    }

    [LayoutFact]
    public void CentOS_8_keeps_its_words_in_grubenv_and_its_root_on_LVM()
    {
        const string Options = "root=/dev/mapper/cl-root ro crashkernel=auto resume=/dev/mapper/cl-swap rd.lvm.lv=cl/root rd.lvm.lv=cl/swap rhgb quiet";
        (string, string)[] kernels = FedoraKernels("CentOS Linux", "$kernelopts $tuned_params", "4.18.0-80.el8.x86_64", "4.18.0-147.5.1.el8_1.x86_64");
        using DiskLayout disk = new();
        disk.Ext(1, BootId, DiskLayout.Linux, [("grub2/grub.cfg", FedoraGrub(BootId, "root=/dev/mapper/fallback ro")), ("grub2/grubenv", Environment($"saved_entry={MachineId}-4.18.0-80.el8.x86_64", $"kernelopts={Options} ")), .. kernels]).Lvm(2);
        DiskKernel kernel = disk.Find(isMbr: true);
        Assert.Equal("kernel 4.18.0-80.el8.x86_64", Text(kernel.Kernel));
        Assert.Equal(Options + Console, kernel.CommandLine);

        // On EFI, grubenv and grub.cfg lie on the firmware's partition, and /boot has a link to the one.
        using DiskLayout efi = new();
        efi.Fat(1, ("EFI/centos/grub.cfg", FedoraGrub(BootId, "root=/dev/mapper/fallback ro")), ("EFI/centos/grubenv", Environment($"kernelopts={Options}"))).Ext(2, BootId, DiskLayout.Linux, kernels).Lvm(3);
        kernel = efi.Find();
        Assert.Equal("kernel 4.18.0-147.5.1.el8_1.x86_64", Text(kernel.Kernel));
        Assert.Equal(Options + Console, kernel.CommandLine);

        // Without all that, nothing says where the root is.
        using DiskLayout bare = new();
        bare.Ext(1, BootId, DiskLayout.Linux, kernels).Lvm(2);
        string message = bare.Ask();
        Assert.Contains("--append root=", message, StringComparison.Ordinal);
        Assert.Contains("partition 2 is an LVM volume", message, StringComparison.Ordinal);
        Assert.Equal("console=ttyS0,115200n8r", bare.Find("root=/dev/mapper/cl-root").CommandLine);
    }

    [LayoutFact]
    public void Rocky_9_keeps_its_words_in_each_entry()
    {
        using DiskLayout disk = new();
        disk.Fat(1, ("EFI/rocky/grub.cfg", $"search --no-floppy --fs-uuid --set=dev {BootId}\nset prefix=($dev)/grub2\nexport $prefix\nconfigfile $prefix/grub.cfg\n"))
            .Ext(2, BootId, DiskLayout.Linux, [("grub2/grub.cfg", FedoraGrub(BootId, "root=/dev/mapper/fallback ro")), ("grub2/grubenv", Environment($"saved_entry={MachineId}-5.14.0-362.8.1.el9_3.x86_64")),
                .. FedoraKernels("Rocky Linux", "root=/dev/mapper/rl-root ro crashkernel=1G-4G:192M,4G-64G:256M,64G-:512M rd.lvm.lv=rl/root $tuned_params", "5.14.0-362.8.1.el9_3.x86_64", "5.14.0-70.13.1.el9_0.x86_64")])
            .Lvm(3);
        DiskKernel kernel = disk.Find();
        Assert.Equal("kernel 5.14.0-362.8.1.el9_3.x86_64", Text(kernel.Kernel));
        Assert.Equal($"root=/dev/mapper/rl-root ro crashkernel=1G-4G:192M,4G-64G:256M,64G-:512M rd.lvm.lv=rl/root{Console}", kernel.CommandLine);
    }

    [LayoutFact]
    public void A_system_whose_boot_files_lie_on_XFS_is_told_so()
    {
        using DiskLayout disk = new();
        disk.Fat(1, ("EFI/rocky/grub.cfg", $"search --no-floppy --fs-uuid --set=dev {BootId}\nset prefix=($dev)/grub2\nexport $prefix\nconfigfile $prefix/grub.cfg\n")).Xfs(2, BootId).Lvm(3);
        string message = disk.Ask();
        Assert.Contains("partition 2 is XFS", message, StringComparison.Ordinal);
        Assert.Contains("its menu lies on partition 2", message, StringComparison.Ordinal);
        Assert.Contains("--kernel", message, StringComparison.Ordinal);

        using DiskLayout lvm = new();
        lvm.Fat(1, ("EFI/rocky/grub.cfg", $"search --no-floppy --fs-uuid --set=dev {BootId}\nset prefix=($dev)/grub2\nexport $prefix\nconfigfile $prefix/grub.cfg\n")).Lvm(2);
        message = lvm.Ask();
        Assert.Contains("its menu lies on what was looked for and is no partition of this disk", message, StringComparison.Ordinal);
        Assert.Contains("partition 2 is an LVM volume", message, StringComparison.Ordinal);
    }

    [LayoutFact]
    public void OpenSUSE_on_ext4()
    {
        const string Grub = """
            if [ -f ${config_directory}/grubenv ]; then
              load_env -f ${config_directory}/grubenv
            elif [ -s $prefix/grubenv ]; then
              load_env
            fi
            if [ "${env_block}" ] ; then
              set env_block="(${root})${env_block}"
              export env_block
              load_env -f "${env_block}"
            fi
            if [ "${next_entry}" ] ; then
               set default="${next_entry}"
            else
               set default="${saved_entry}"
            fi
            if [ x"${feature_menuentry_id}" = xy ]; then
              menuentry_id_option="--id"
            fi
            if [ -n "$extra_cmdline" ]; then
              submenu "Bootable snapshot #$snapshot_num" {
                menuentry "If OK, run 'snapper rollback $snapshot_num' and reboot." { true; }
              }
            fi
            menuentry 'openSUSE Leap 15.5'  --class opensuse --class gnu-linux --class gnu --class os $menuentry_id_option 'gnulinux-simple-ROOT' {
            	set gfxpayload=keep
            	insmod gzio
            	insmod part_msdos
            	insmod ext2
            	set root='hd0,msdos1'
            	if [ x$feature_platform_search_hint = xy ]; then
            	  search --no-floppy --fs-uuid --set=root --hint='hd0,msdos1'  ROOT
            	else
            	  search --no-floppy --fs-uuid --set=root ROOT
            	fi
            	echo	'Loading Linux 5.14.21-150500.53-default ...'
            	linux	/boot/vmlinuz-5.14.21-150500.53-default root=UUID=ROOT  ${extra_cmdline} console=ttyS0,115200 quiet mitigations=auto
            	echo	'Loading initial ramdisk ...'
            	initrd	/boot/initrd-5.14.21-150500.53-default
            }
            """;
        using DiskLayout disk = new();
        disk.Ext(1, RootId, DiskLayout.Linux, [.. s_root, ("boot/grub2/grub.cfg", Grub.Replace("ROOT", RootId, StringComparison.Ordinal)), ("boot/grub2/grubenv", Environment("saved_entry=openSUSE Leap 15.5")), ("boot/vmlinuz-5.14.21-150500.53-default", "kernel"), ("boot/initrd-5.14.21-150500.53-default", "initrd")]);
        DiskKernel kernel = disk.Find(isMbr: true);
        Assert.Equal("kernel", Text(kernel.Kernel));
        Assert.Equal("initrd", Text(kernel.Initrd));
        Assert.Equal($"root=UUID={RootId} console=ttyS0,115200 quiet mitigations=auto", kernel.CommandLine);
    }

    [LayoutFact]
    public void NixOS_with_GRUB_names_no_root_as_its_RAM_disk_knows_it()
    {
        const string Grub = """
            search --set=drive1 --fs-uuid ROOT
            if [ -s $prefix/grubenv ]; then
              load_env
            fi
            if [ "${saved_entry}" ]; then
              set default="${saved_entry}"
            else
              set default=0
            fi
            menuentry "NixOS - Default" --class nixos --unrestricted {
            search --set=drive1 --fs-uuid ROOT
              linux ($drive1)/nix/store/aaa-linux-6.6.30/bzImage init=/nix/store/bbb-nixos-system-x-24.05/init loglevel=4
              initrd ($drive1)/nix/store/ccc-initrd-linux-6.6.30/initrd
            }
            """;
        using DiskLayout disk = new();
        disk.Ext(1, RootId, DiskLayout.Linux, [.. s_root, ("boot/grub/grub.cfg", Grub.Replace("ROOT", RootId, StringComparison.Ordinal)), ("nix/store/aaa-linux-6.6.30/bzImage", "kernel"), ("nix/store/ccc-initrd-linux-6.6.30/initrd", "initrd")]);
        DiskKernel kernel = disk.Find(isMbr: true);
        Assert.Equal("kernel", Text(kernel.Kernel));
        Assert.Equal($"init=/nix/store/bbb-nixos-system-x-24.05/init loglevel=4{Console}", kernel.CommandLine);
    }

    [LayoutFact]
    public void Fedora_CoreOS_takes_words_for_its_first_start_from_a_file()
    {
        const string Grub = """
            if [ -d (md/md-boot)/grub2 ]; then
              set prefix=md/md-boot
            else
              if [ -f ${config_directory}/bootuuid.cfg ]; then
                source ${config_directory}/bootuuid.cfg
              fi
              if [ -n "${BOOT_UUID}" ]; then
                search --fs-uuid "${BOOT_UUID}" --set prefix --no-floppy
              else
                search --label boot --set prefix --no-floppy
              fi
            fi
            set boot=$prefix
            set prefix=($prefix)/grub2
            if [ -f $prefix/grubenv ]; then
              load_env -f $prefix/grubenv
            fi
            set ignition_firstboot=""
            if [ -f "($boot)/ignition.firstboot" ]; then
              set ignition_network_kcmdline=''
              source "($boot)/ignition.firstboot"
              set ignition_firstboot="ignition.firstboot ${ignition_network_kcmdline}"
            fi
            blscfg
            """;
        using DiskLayout disk = new();
        disk.Fat(2, ("EFI/fedora/grub.cfg", Grub), ("EFI/fedora/bootuuid.cfg", $"set BOOT_UUID=\"{BootId}\"\n"))
            .Ext(3, BootId, DiskLayout.Linux, ("ignition.firstboot", "set ignition_network_kcmdline='ip=auto'\n"), ("loader/entries/ostree-1.conf", $"title Fedora CoreOS (ostree:0)\nversion 1\noptions $ignition_firstboot ostree=/ostree/boot.1/fedora-coreos/aa/0 ignition.platform.id=qemu root=UUID={RootId} rw\nlinux /ostree/fedora-coreos-aa/vmlinuz\ninitrd /ostree/fedora-coreos-aa/initramfs.img\n"), ("ostree/fedora-coreos-aa/vmlinuz", "kernel"), ("ostree/fedora-coreos-aa/initramfs.img", "initrd"))
            .Xfs(4, RootId);
        DiskKernel kernel = disk.Find();
        Assert.Equal("kernel", Text(kernel.Kernel));
        Assert.Equal($"ignition.firstboot ip=auto ostree=/ostree/boot.1/fedora-coreos/aa/0 ignition.platform.id=qemu root=UUID={RootId} rw{Console}", kernel.CommandLine);
    }

    [LayoutFact]
    public void CentOS_7_loads_by_the_16_bit_commands_and_VyOS_gathers_its_menu_from_files()
    {
        using DiskLayout centos = new();
        centos.Ext(1, BootId, DiskLayout.Linux, ("grub2/grub.cfg", "set default=\"${saved_entry}\"\nmenuentry 'CentOS Linux (3.10.0-1160.el7.x86_64) 7 (Core)' --class centos --unrestricted $menuentry_id_option 'x' {\n\tset root='hd0,msdos1'\n\tlinux16 /vmlinuz-3.10.0-1160.el7.x86_64 root=/dev/mapper/centos-root ro quiet LANG=en_US.UTF-8\n\tinitrd16 /initramfs-3.10.0-1160.el7.x86_64.img\n}\n"), ("vmlinuz-3.10.0-1160.el7.x86_64", "kernel"), ("initramfs-3.10.0-1160.el7.x86_64.img", "initrd")).Lvm(2);
        DiskKernel kernel = centos.Find(isMbr: true);
        Assert.Equal("initrd", Text(kernel.Initrd));
        Assert.Equal($"root=/dev/mapper/centos-root ro quiet LANG=en_US.UTF-8{Console}", kernel.CommandLine);

        using DiskLayout vyos = new();
        vyos.Ext(3, RootId, DiskLayout.Linux,
            ("boot/grub/grub.cfg", "load_env\ninsmod regexp\n\nfor cfgfile in ${prefix}/grub.cfg.d/*-autoload.cfg\ndo\n    source ${cfgfile}\ndone\n"),
            ("boot/grub/grub.cfg.d/20-vyos-defaults-autoload.cfg", "set default=\"abc\"\nset boot_opts=\"boot=live rootdelay=5 noautologin net.ifnames=0\"\nexport boot_opts\n"),
            ("boot/grub/grub.cfg.d/40-vyos-menu-autoload.cfg", "for cfgfile in ${prefix}/grub.cfg.d/vyos-versions/*.cfg\ndo\n    source \"${cfgfile}\"\ndone\n"),
            ("boot/grub/grub.cfg.d/vyos-versions/1.3.cfg", "menuentry \"1.3\" --id old { linux /boot/1.3/vmlinuz }\n"),
            ("boot/grub/grub.cfg.d/vyos-versions/1.4.cfg", "menuentry \"1.4\" --id abc {\n    set boot_opts=\"${boot_opts} vyos-union=/boot/1.4 console=ttyS0,115200\"\n    linux \"/boot/1.4/vmlinuz\" ${boot_opts}\n    initrd \"/boot/1.4/initrd.img\"\n}\n"),
            ("boot/1.4/vmlinuz", "kernel"), ("boot/1.4/initrd.img", "initrd"));
        kernel = vyos.Find();
        Assert.Equal("initrd", Text(kernel.Initrd));
        Assert.Equal("boot=live rootdelay=5 noautologin net.ifnames=0 vyos-union=/boot/1.4 console=ttyS0,115200", kernel.CommandLine);
    }

    [LayoutFact]
    public void Azure_Linux_and_Photon_keep_names_and_words_in_environment_files()
    {
        const string Grub = """
            set timeout=0
            set bootprefix=/boot
            search -n -u ROOT -s

            load_env -f $bootprefix/mariner.cfg
            if [ -f  $bootprefix/systemd.cfg ]; then
            	load_env -f $bootprefix/systemd.cfg
            else
            	set systemd_cmdline=net.ifnames=0
            fi
            if [ -f $bootprefix/grub2/grubenv ]; then
            	load_env -f $bootprefix/grub2/grubenv
            fi

            set rootdevice=PARTUUID=00000002-aaaa-bbbb-cccc-dddddddddddd

            menuentry "CBL-Mariner" {
            	linux $bootprefix/$mariner_linux      rd.auto=1 root=$rootdevice $mariner_cmdline lockdown=integrity $systemd_cmdline  console=tty0 console=ttyS0 $kernelopts
            	if [ -f $bootprefix/$mariner_initrd ]; then
            		initrd $bootprefix/$mariner_initrd
            	fi
            }
            """;
        using DiskLayout disk = new();
        disk.Fat(1, ("boot/grub2/grub.cfg", $"search -n -u {RootId} -s\nconfigfile /boot/grub2/grub.cfg\n"))
            .Ext(2, RootId, DiskLayout.Linux, [.. s_root, ("boot/grub2/grub.cfg", Grub.Replace("ROOT", RootId, StringComparison.Ordinal)), ("boot/grub2/grubenv", Environment("kernelopts=selinux=0")),
                ("boot/mariner.cfg", "# GRUB Environment Block\nmariner_cmdline=init=/lib/systemd/systemd ro loglevel=3 quiet no-vmw-sta crashkernel=256M\nmariner_linux=vmlinuz-5.15.153.1-2.cm2\nmariner_initrd=initrd.img-5.15.153.1-2.cm2\n"),
                ("boot/vmlinuz-5.15.153.1-2.cm2", "kernel"), ("boot/initrd.img-5.15.153.1-2.cm2", "initrd")]);
        DiskKernel kernel = disk.Find();
        Assert.Equal("kernel", Text(kernel.Kernel));
        Assert.Equal("initrd", Text(kernel.Initrd));
        Assert.Equal("rd.auto=1 root=PARTUUID=00000002-aaaa-bbbb-cccc-dddddddddddd init=/lib/systemd/systemd ro loglevel=3 quiet no-vmw-sta crashkernel=256M lockdown=integrity net.ifnames=0 console=tty0 console=ttyS0 selinux=0", kernel.CommandLine);
    }

    [LayoutFact]
    public void A_default_entry_that_cannot_start_is_not_replaced_by_another()
    {
        using DiskLayout disk = new();
        disk.Ext(1, RootId, DiskLayout.Linux, [.. s_root, .. DebianKernels("boot/"), ("boot/grub/grub.cfg", "set default=1\nmenuentry 'Good' {\nlinux /boot/vmlinuz-6.1.0-56-amd64 root=/dev/vda1\n}\nmenuentry 'Purged' {\nlinux /boot/vmlinuz-5\n}\nmenuentry 'No RAM disk' {\nlinux /boot/vmlinuz-6.1.0-56-amd64\ninitrd /boot/none\n}\nmenuentry 'Windows' {\nchainloader +1\n}\n")]);
        string message = disk.Ask();
        Assert.Contains("'Purged'", message, StringComparison.Ordinal);
        Assert.Contains("--boot-entry: 0 'Good', 1 'Purged'", message, StringComparison.Ordinal);
        Assert.Contains("/boot/none", disk.Ask(bootEntry: "2"), StringComparison.Ordinal);
        Assert.Contains("'Windows'", disk.Ask(bootEntry: "Windows"), StringComparison.Ordinal);
        Assert.Equal($"root=/dev/vda1{Console}", disk.Find(bootEntry: "Good").CommandLine);
    }

    [LayoutFact]
    public void A_system_from_another_bus_finds_its_disk_under_the_name_that_this_one_has()
    {
        using DiskLayout disk = new();
        string[] roots = ["/dev/sda1", "/dev/xvda1", "/dev/nvme0n1p1", "/dev/sda3", "/dev/hda2", "/dev/sdb1", "/dev/sda9", "/dev/sdaa1", "/dev/mapper/sda1", "/dev/mapper/loop0p1", "/dev/nbd12p3", "/dev/nvme0n1"];
        disk.Ext(1, RootId, DiskLayout.Linux, [.. s_root, .. DebianKernels("boot/"), ("boot/grub/grub.cfg", string.Concat(roots.Select(root => $"menuentry '{root}' {{ linux /boot/vmlinuz-6.1.0-56-amd64 root={root} ro }}\n")))])
            .Ext(2, BootId, DiskLayout.Linux, ("x", "a boot partition"))
            .Btrfs(3, "11111111-2222-3333-4444-555555555556");
        Assert.Equal(
            ["/dev/vda1", "/dev/vda1", "/dev/vda1", "/dev/vda3", "/dev/hda2", "/dev/sdb1", "/dev/sda9", "/dev/sdaa1", "/dev/mapper/sda1", "/dev/vda1", "/dev/vda3", "/dev/nvme0n1"],
            roots.Select(root => disk.Find(bootEntry: root).CommandLine.Split(' ')[0][5..]));
        Assert.StartsWith("root=/dev/sda1 ", disk.Find("root=/dev/sdz1").CommandLine, StringComparison.Ordinal);

        using DiskLayout whole = new();
        using ExtImage image = new();
        foreach ((string path, string text) in (IEnumerable<(string, string)>)[.. s_root, ("boot/vmlinuz", "k"), ("etc/kernel/cmdline", "root=/dev/sda console=ttyS0")])
        {
            image.Write(path, text);
        }

        image.Make("-t ext4 -b 1024", "6M");
        Assert.Equal("root=/dev/vda console=ttyS0", DiskKernel.Find(image.Load(), new ReadBudget(1 << 20)).CommandLine);
    }

    [LayoutFact]
    public void What_a_menu_says_in_an_error_is_a_line_that_does_nothing_to_a_terminal()
    {
        using DiskLayout disk = new();
        disk.Ext(1, RootId, DiskLayout.Linux, [.. s_root, ("boot/grub/grub.cfg", "menuentry \"a\nb\u001b[2J\" { linux /no\u0007ne }\n")]);
        Assert.DoesNotContain(disk.Ask(), char.IsControl);
    }

    internal static string Environment(params string[] lines)
    {
        // As grub-editenv writes it: 1024 bytes, filled up with "#".
        string text = "# GRUB Environment Block\n" + string.Concat(lines.Select(line => line + "\n"));
        return text.PadRight(1024, '#');
    }

    private static string Fixture(string name)
    {
        using Stream stream = typeof(GrubLayoutTests).Assembly.GetManifestResourceStream("Layouts/" + name)!;
        using StreamReader reader = new(stream);
        return reader.ReadToEnd();
    }

    private static string Text(ReadOnlyMemory<byte> bytes) => Encoding.UTF8.GetString(bytes.Span);
}
