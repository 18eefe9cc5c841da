using System.Globalization;

namespace Tutti.Guests;

/// <summary>The image "debian": Debian's kernel for clouds, which has virtio and serial drivers built in, and BusyBox.</summary>
internal static class DebianImage
{
    public const string Name = "debian";
    public const string Description = "Debian's cloud kernel with a BusyBox userland in memory";

    /// <remarks>
    /// console=ttyS0: the machine's first serial port is the user's terminal; 115200n8r: with hardware handshake, so that
    /// long pasted or piped input waits instead of being dropped. mitigations=off: they keep one program of
    /// the guest from another's secrets in a processor's speculation. The software engine runs no guest code
    /// speculatively, so they would cost time for nothing; in a single-user guest they protect nobody under hardware
    /// virtualization either. panic=-1: a panicked kernel resets, which ends the run, where it would else spin forever.
    /// Kernel messages stay on: they show a slow boot to be alive, and cost it little.
    /// </remarks>
    public const string CommandLine = "console=ttyS0,115200n8r mitigations=off panic=-1";

    private const string MetaPackage = "linux-image-cloud-amd64";
    private const string BusyBoxPackage = "busybox-static";
    private const string KernelFile = "vmlinuz";
    private const string BusyBoxFile = "busybox";
    private const string InitrdFile = "initrd.img";
    private const string ModulesFile = "modules.img";

    /// <summary>SHA-256 of the userland less BusyBox.</summary>
    public static string Userland { get; } = HashUserland();

    /// <summary>Fetches kernel and BusyBox, and makes the entry in an existing, empty folder.</summary>
    public static async Task FetchAsync(string entry, AptSession apt, Action<string, double> report, CancellationToken cancellationToken)
    {
        report("Fetching package lists", 0);
        await apt.UpdateAsync(f => report("Fetching package lists", f * 0.35), cancellationToken).ConfigureAwait(false);

        IReadOnlyDictionary<string, string> meta = await apt.ShowAsync(MetaPackage, cancellationToken).ConfigureAwait(false);
        string kernelPackage = FindKernelPackage(meta.GetValueOrDefault("Depends", string.Empty));
        IReadOnlyDictionary<string, string> kernel = await apt.ShowAsync(kernelPackage, cancellationToken).ConfigureAwait(false);

        string stage = $"Fetching {kernelPackage}";
        report(stage, 0.4);
        IReadOnlyList<string> files = await apt.DownloadAsync([kernelPackage, BusyBoxPackage], f => report(stage, 0.4 + (f * 0.45)), cancellationToken).ConfigureAwait(false);

        report("Unpacking", 0.85);
        await UnpackKernelAsync(files[0], entry, apt, cancellationToken).ConfigureAwait(false);
        await apt.ExtractAsync(files[1], path => path is "bin/busybox" or "usr/bin/busybox", Path.Combine(entry, BusyBoxFile), cancellationToken).ConfigureAwait(false);
        report("Building the initial RAM disk", 0.95);
        Complete(entry, kernel["Version"]);
    }

    /// <summary>Makes the entry anew from the kernel and BusyBox of an older one, without the network.</summary>
    public static void Rebuild(string oldEntry, ImageManifest old, string entry)
    {
        File.Copy(Path.Combine(oldEntry, old.Kernel.Name), Path.Combine(entry, KernelFile));
        File.Copy(Path.Combine(oldEntry, old.BusyBox.Name), Path.Combine(entry, BusyBoxFile));
        File.Copy(Path.Combine(oldEntry, old.Modules.Name), Path.Combine(entry, ModulesFile));
        Complete(entry, old.Version);
    }

    /// <summary>The package that a kernel metapackage stands for: "linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)".</summary>
    internal static string FindKernelPackage(string depends) => depends.Split([',', '|'], StringSplitOptions.TrimEntries)
        .Select(dependency => dependency.Split([' ', ':', '('])[0])
        .FirstOrDefault(name => name.StartsWith("linux-image-", StringComparison.Ordinal) && name.EndsWith("-cloud-amd64", StringComparison.Ordinal))
        ?? throw new ImageException($"The package {MetaPackage} names no kernel in its dependencies ({depends}): give a kernel with --kernel and an initial RAM disk with --initrd.");

    /// <summary>Takes the kernel and its drivers out of their package.</summary>
    private static async Task UnpackKernelAsync(string package, string entry, AptSession apt, CancellationToken cancellationToken)
    {
        const string Boot = "boot/vmlinuz-";
        string folder = Directory.CreateDirectory(Path.Combine(Path.GetDirectoryName(package)!, "modules")).FullName;
        string? release = null;
        Dictionary<string, string> modules = [];
        await apt.ExtractAllAsync(package, Target, cancellationToken).ConfigureAwait(false);
        if (release is null)
        {
            throw new ImageException($"The package {Path.GetFileName(package)} could not be unpacked: it holds no kernel.");
        }

        await ExpandAsync(folder, modules, apt.SearchPath, cancellationToken).ConfigureAwait(false);
        using FileStream archive = new(Path.Combine(entry, ModulesFile), FileMode.CreateNew, FileAccess.Write);
        ModuleArchive.Write(archive, release, modules.ToDictionary(module => module.Key, module => File.ReadAllBytes(module.Value)));

        // Below lib, or usr/lib in distributions that have merged the two.
        string? Target(string path)
        {
            if (path.StartsWith(Boot, StringComparison.Ordinal) && release is null)
            {
                release = path[Boot.Length..];
                return Path.Combine(entry, KernelFile);
            }

            int kernel = path.IndexOf("/kernel/", StringComparison.Ordinal);
            if (kernel < 0 || !path.Contains("lib/modules/", StringComparison.Ordinal) || !Path.GetFileName(path).Contains(".ko", StringComparison.Ordinal))
            {
                return null;
            }

            string name = KernelModule.NameOf(path);
            string target = Path.Combine(folder, name + path[path.LastIndexOf(".ko", StringComparison.Ordinal)..]);
            return modules.TryAdd(name, target) ? target : null;
        }
    }

    /// <summary>Newer distributions compress modules one by one.</summary>
    private static async Task ExpandAsync(string folder, Dictionary<string, string> modules, string searchPath, CancellationToken cancellationToken)
    {
        foreach ((string extension, string tool) in ((string, string)[])[(".xz", "xz"), (".zst", "zstd")])
        {
            if (!modules.Values.Any(path => path.EndsWith(extension, StringComparison.Ordinal)))
            {
                continue;
            }

            string program = ExternalTool.Find(tool, searchPath)
                ?? throw new ImageException($"This kernel's modules are compressed and need {tool}, which this host does not have: apt install {(tool == "xz" ? "xz-utils" : tool)}");
            ToolResult result = await ExternalTool.RunAsync("/bin/sh", ["-c", $"exec \"$0\" -q -d *{extension}", program], folder, _ => { }, cancellationToken).ConfigureAwait(false);
            if (result.ExitCode != 0)
            {
                throw new ImageException($"The kernel's modules could not be unpacked: {result.Errors.Split('\n')[0]}");
            }

            foreach ((string name, string path) in modules.Where(module => module.Value.EndsWith(extension, StringComparison.Ordinal)).ToArray())
            {
                modules[name] = path[..^extension.Length];
            }
        }
    }

    private static void Complete(string entry, string version)
    {
        using (FileStream initrd = new(Path.Combine(entry, InitrdFile), FileMode.CreateNew, FileAccess.Write))
        {
            BusyBoxInitramfs.Write(initrd, File.ReadAllBytes(Path.Combine(entry, BusyBoxFile)));
        }

        ImageManifest manifest = new()
        {
            Version = version,
            Userland = Userland,
            Kernel = ManifestFile.Measure(Path.Combine(entry, KernelFile)),
            Initrd = ManifestFile.Measure(Path.Combine(entry, InitrdFile)),
            BusyBox = ManifestFile.Measure(Path.Combine(entry, BusyBoxFile)),
            Modules = ManifestFile.Measure(Path.Combine(entry, ModulesFile)),
            ModulesRevision = ModuleArchive.Revision,
        };
        manifest.Write(entry);
    }

    private static string HashUserland()
    {
        using MemoryStream stream = new();
        BusyBoxInitramfs.Write(stream, []);
        return Fingerprint(stream.GetBuffer().AsSpan(0, (int)stream.Length));
    }

    /// <summary>FNV-1a of 64 bits: it tells versions of our own files apart, and needs no cryptographic library at each start.</summary>
    internal static string Fingerprint(ReadOnlySpan<byte> bytes)
    {
        ulong hash = 0xCBF2_9CE4_8422_2325;
        foreach (byte value in bytes)
        {
            hash = (hash ^ value) * 0x100_0000_01B3;
        }

        return hash.ToString("x16", CultureInfo.InvariantCulture);
    }
}
