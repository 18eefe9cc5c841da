using System.Globalization;

namespace Tutti.Guests.Disks.Loaders;

/// <summary>Kernels without a boot loader's menu, the newest first: the system is started from without, or by a loader that has its entries elsewhere.</summary>
internal sealed class KernelFolder : BootMenu
{
    private readonly DiskVolume _volume;
    private readonly string _folder;
    private readonly HashSet<string> _files;
    private readonly string _options;

    private KernelFolder(DiskVolume volume, string folder, HashSet<string> files, List<string> kernels, string options)
    {
        (_volume, _folder, _files, Names, _options) = (volume, folder, files, kernels, options);
        Source = $"{folder}/ of {volume.Name}";
    }

    public override string Source { get; }

    public override IReadOnlyList<string> Names { get; }

    /// <summary>The folders with kernels: boot partitions, and a root's /boot.</summary>
    /// <exception cref="ImageException">A file system is damaged.</exception>
    public static IEnumerable<KernelFolder> FindAll(IReadOnlyList<DiskVolume> volumes)
    {
        foreach (DiskVolume volume in volumes)
        {
            foreach (string folder in (string[])["/boot", string.Empty])
            {
                HashSet<string> files = [.. volume.Files?.List(folder + "/") ?? []];

                // A name may be that of a folder, or of a link that leads out of the file system.
                List<string> kernels = [.. files.Where(IsKernel).OrderDescending(KernelVersion.Order).Take(32).Where(name => volume.Files!.Measure($"{folder}/{name}") > 0)];
                if (kernels.Count > 0)
                {
                    yield return new KernelFolder(volume, folder, files, kernels, ReadOptions(volume, volumes));
                }
            }
        }
    }

    public override BootEntry Choose(string? wanted)
    {
        string? name = wanted == null ? Names[0]
            : int.TryParse(wanted, NumberStyles.None, CultureInfo.InvariantCulture, out int number) ? Names.ElementAtOrDefault(number)
            : Names.FirstOrDefault(name => name == wanted);
        return name == null
            ? throw new ImageException($"The disk ({Source}) has no kernel '{wanted}'; it has {ListNames()}.")
            : new BootEntry(name, new VolumeFile(_volume, $"{_folder}/{name}"), [.. FindInitrd(name).Select(initrd => new VolumeFile(_volume, $"{_folder}/{initrd}"))], _options);
    }

    /// <summary>The system's own words, which kernel-install(8) gives each new kernel; empty where it has none.</summary>
    private static string ReadOptions(DiskVolume boot, IReadOnlyList<DiskVolume> volumes)
    {
        foreach (DiskVolume root in volumes.Where(volume => volume.IsRoot).OrderBy(volume => volume != boot))
        {
            foreach (string path in (string[])["/etc/kernel/cmdline", "/usr/lib/kernel/cmdline"])
            {
                if (root.Files!.ReadText(path) is { } text)
                {
                    return string.Join(' ', text.Split('\n').Where(line => !line.StartsWith('#')).SelectMany(line => line.Split([' ', '\t', '\r'], StringSplitOptions.RemoveEmptyEntries)));
                }
            }
        }

        return string.Empty;
    }

    private static bool IsRescue(string name) => name.Contains("rescue", StringComparison.Ordinal) || name.Contains("kdump", StringComparison.Ordinal);

    private static bool IsKernel(string name) =>
        (name.StartsWith("vmlinuz", StringComparison.Ordinal) || name.StartsWith("bzImage", StringComparison.Ordinal) || name.StartsWith("kernel-", StringComparison.Ordinal))
        && !IsRescue(name) && !name.EndsWith(".old", StringComparison.Ordinal) && !name.EndsWith(".hmac", StringComparison.Ordinal);

    /// <summary>The initial RAM disk that belongs to a kernel, as Debian, Fedora, Arch, Alpine and SUSE name theirs.</summary>
    private IEnumerable<string> FindInitrd(string kernel)
    {
        int dash = kernel.IndexOf('-', StringComparison.Ordinal);
        string version = dash < 0 ? string.Empty : kernel[dash..];
        return new[] { $"initrd.img{version}", $"initramfs{version}.img", $"initrd{version}", $"initramfs{version}", $"initrd{version}.img" }.Where(_files.Contains).Take(1);
    }
}
