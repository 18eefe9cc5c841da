using System.Globalization;
using System.Text;
using Tutti.Guests.Disks;

namespace Tutti.Guests.Server;

/// <summary>The image "debian-server": a disk with Debian on it, built on this host from the distribution's packages.</summary>
internal sealed class ServerSource : ImageSource
{
    public const string ImageName = "debian-server";
    private const string Keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    private const string DiskFile = "disk.img";
    private const string KernelFile = "vmlinuz";
    private const string InitrdFile = "initrd.img";

    /// <summary>Packages, the system unpacked twice, and the disk, with room to spare.</summary>
    private const long NeededForBuild = 2560L << 20;

    /// <summary>More than a machine with the least memory has room for.</summary>
    private const long MaxKernelFiles = 256L << 20;

    /// <summary>Another of these makes older disks out of date.</summary>
    public static string Revision { get; } = DebianImage.Fingerprint(Encoding.UTF8.GetBytes(ServerBuild.Recipe));

    public override string Name => ImageName;

    public override string Description => "Debian 12 with systemd, apt and ssh on a disk that keeps its data; built on this host in some minutes";

    public override GuestImage? Open(string folder, bool hash) =>
        ServerManifest.TryRead(folder) is { } manifest && manifest.Revision == Revision
            && manifest.Disk.IsUntouched(folder) && manifest.Kernel.IsIntact(folder, hash) && manifest.Initrd.IsIntact(folder, hash)
            ? new GuestImage
            {
                Name = ImageName,
                Description = Description,
                Version = manifest.Version,
                KernelPath = Path.Combine(folder, manifest.Kernel.Name),
                InitrdPath = Path.Combine(folder, manifest.Initrd.Name),
                DiskPath = Path.Combine(folder, manifest.Disk.Name),
                DiskSize = manifest.Disk.Size,
                CommandLine = manifest.CommandLine,
                Size = manifest.Occupied,
            }
            : null;

    public override bool TryRebuild(string oldEntry, string entry) => false;

    public override async Task MakeAsync(string entry, string work, string searchPath, Action<string, double> report, CancellationToken cancellationToken)
    {
        ServerBuild.Check(searchPath, Environment.IsPrivilegedProcess);
        if (!File.Exists(Keyring))
        {
            throw new ImageException("Building this image needs Debian's keys, which this host does not have: apt install debian-archive-keyring");
        }

        DiskSpace.Check(work, NeededForBuild);
        IReadOnlyList<string> sources = await FindSourcesAsync(work, searchPath, report, cancellationToken).ConfigureAwait(false);
        string disk = Path.Combine(entry, DiskFile);
        await new ServerBuild(work, searchPath).RunAsync(disk, Guid.NewGuid(), sources, report, cancellationToken).ConfigureAwait(false);
        report("Looking for the disk's kernel", 0.98);
        Complete(entry, cancellationToken);
    }

    /// <summary>
    /// The host's own sources of this Debian, as apt says them, so that its mirror is used. Where it has none, mmdebstrap knows the distribution's.
    /// </summary>
    private static async Task<IReadOnlyList<string>> FindSourcesAsync(string work, string searchPath, Action<string, double> report, CancellationToken cancellationToken)
    {
        report("Fetching package lists", 0);
        string folder = Directory.CreateDirectory(Path.Combine(work, "sources")).FullName;
        AptSession apt = new(folder, searchPath);
        await apt.UpdateAsync(fraction => report("Fetching package lists", fraction * 0.05), cancellationToken).ConfigureAwait(false);
        IReadOnlyList<string> lines = await apt.ListSourcesAsync("Debian", ServerBuild.Suite, Keyring, cancellationToken).ConfigureAwait(false);
        Directory.Delete(folder, recursive: true);
        return lines;
    }

    /// <summary>Takes the kernel out, which proves that the disk can be started, and writes the manifest.</summary>
    private static void Complete(string entry, CancellationToken cancellationToken)
    {
        string path = Path.Combine(entry, DiskFile);
        DiskKernel kernel;
        using (RawDiskReader disk = new(path))
        {
            kernel = DiskKernel.Find(disk, new ReadBudget(MaxKernelFiles, cancellationToken));
        }

        File.WriteAllBytes(Path.Combine(entry, KernelFile), kernel.Kernel.Span);
        File.WriteAllBytes(Path.Combine(entry, InitrdFile), kernel.Initrd.Span);
        FileInfo info = new(path);
        string release = kernel.Description.Split(' ')[0].Replace("/boot/vmlinuz-", string.Empty, StringComparison.Ordinal);
        new ServerManifest
        {
            Version = string.Create(CultureInfo.InvariantCulture, $"12, {DateTime.UtcNow:yyyy-MM-dd}, Linux {release}"),
            Revision = Revision,
            CommandLine = kernel.CommandLine,
            Occupied = CountBytes(path) + kernel.Kernel.Length + kernel.Initrd.Length,
            Disk = new ManifestFile(DiskFile, info.Length, info.LastWriteTimeUtc.Ticks, string.Empty),
            Kernel = ManifestFile.Measure(Path.Combine(entry, KernelFile)),
            Initrd = ManifestFile.Measure(Path.Combine(entry, InitrdFile)),
        }.Write(entry);
    }

    /// <summary>What a file with holes takes up.</summary>
    private static long CountBytes(string path)
    {
        using Storage.Files.BlockFile file = Storage.Files.BlockFile.Open(path, isReadOnly: true, Storage.Files.ImageLocking.None);
        return file.Allocated;
    }
}
