using System.Globalization;

namespace Tutti.Guests.Disks;

/// <summary>
/// A kernel that was found on a disk, as its boot loader would start it. Everything on the disk may be a guest's doing: all that is read and
/// kept is charged to a <see cref="ReadBudget"/>, and nothing of it is trusted but to be given to that guest again.
/// </summary>
public sealed record DiskKernel
{
    private const int MaxKernel = 256 << 20;
    private const int MaxInitrd = 512 << 20;
    internal const string Instead = "give its kernel with --kernel, its initial RAM disk with --initrd and root= with --append";

    /// <summary>The kernel file's bytes.</summary>
    public required ReadOnlyMemory<byte> Kernel { get; init; }

    /// <summary>The initial RAM disk's; empty for none. Several are joined, as a boot loader does.</summary>
    public required ReadOnlyMemory<byte> Initrd { get; init; }

    /// <summary>With root= and with a console on the first serial port.</summary>
    public required string CommandLine { get; init; }

    /// <summary>Where it was found, for people.</summary>
    public required string Description { get; init; }

    /// <summary>Looks through a disk's partitions and file systems.</summary>
    /// <param name="disk">The disk.</param>
    /// <param name="budget">What that may cost; for this disk alone.</param>
    /// <exception cref="ImageException">There is no kernel that can be read; the message is a line that says why and what to do.</exception>
    /// <exception cref="OperationCanceledException">The budget's owner has cancelled it.</exception>
    public static DiskKernel Find(IDiskReader disk, ReadBudget budget)
    {
        ArgumentNullException.ThrowIfNull(disk);
        ArgumentNullException.ThrowIfNull(budget);
        DiskPart whole = new(disk, budget);
        List<string> obstacles = [];
        List<Volume> volumes = [];
        foreach (DiskPartition partition in PartitionTable.Read(whole))
        {
            try
            {
                DiskPart part = whole.Slice(partition.Offset, partition.Size);
                if (ExtFileSystem.TryOpen(part) is { } files)
                {
                    volumes.Add(new Volume(partition, files));
                }
                else if (FileSystemSignature.Name(part) is { } name)
                {
                    obstacles.Add($"{Name(partition)} is {name}");
                }
            }
            catch (ImageException e) when (e is not ReadBudgetException)
            {
                obstacles.Add($"{Name(partition)}: {e.Message.TrimEnd('.')}");
            }
        }

        foreach (Volume volume in volumes)
        {
            try
            {
                if (Find(volume, volumes) is { } kernel)
                {
                    return kernel;
                }
            }
            catch (ImageException e) when (e is not ReadBudgetException)
            {
                obstacles.Add($"{Name(volume.Partition)}: {e.Message.TrimEnd('.')}");
            }
        }

        string reason = obstacles.Count > 0 ? string.Join("; ", obstacles.Take(4)) : volumes.Count > 0 ? "its file systems have none in /boot" : "it has no file system that Tutti knows";
        throw new ImageException($"No kernel was found on the disk ({reason}): {Instead}.");
    }

    private sealed record Volume(DiskPartition Partition, IFileSystem Files);

    private static string Name(DiskPartition partition) => partition.Number == 0 ? "the disk" : string.Create(CultureInfo.InvariantCulture, $"partition {partition.Number}");

    private static DiskKernel? Find(Volume boot, List<Volume> volumes)
    {
        // The file system is the root with its folder /boot, or one that is mounted there.
        string folder = boot.Files.Find("/boot") == FileKind.Folder && !IsEmptyMountPoint(boot.Files) ? "/boot" : string.Empty;
        foreach ((BootEntry entry, string source) in Candidates(boot.Files, folder))
        {
            // Paths are said as the boot loader sees them: from the file system's root, with its folder.
            if (Locate(boot.Files, folder, entry.Kernel) is not string kernelPath || boot.Files.Measure(kernelPath) is not > 0)
            {
                continue;
            }

            // Before anything is kept: what lacks a part is passed over.
            List<string>? initrdPaths = LocateAll(boot.Files, folder, entry.Initrds);
            if (initrdPaths == null || boot.Files.ReadWhole(kernelPath, MaxKernel) is not byte[] kernel)
            {
                continue;
            }

            byte[] initrd = ReadInitrds(boot.Files, initrdPaths);

            return new DiskKernel
            {
                Kernel = kernel,
                Initrd = initrd,
                CommandLine = Complete(entry.Options, boot, volumes, initrd.Length > 0),
                Description = $"{kernelPath} of {Name(boot.Partition)}, as {source}",
            };
        }

        return null;
    }

    /// <summary>Whether /boot is only where another file system is mounted.</summary>
    private static bool IsEmptyMountPoint(IFileSystem files) => files.List("/boot").All(name => name is "lost+found" or "efi");

    private static IEnumerable<(BootEntry Entry, string Source)> Candidates(IFileSystem files, string folder)
    {
        foreach (string path in (string[])["grub/grub.cfg", "grub2/grub.cfg"])
        {
            if (files.ReadText($"{folder}/{path}") is string text && BootEntry.FromGrub(text) is { } entry)
            {
                yield return (entry, $"{path} says");
            }
        }

        foreach (string name in files.List($"{folder}/loader/entries").Where(name => name.EndsWith(".conf", StringComparison.Ordinal) && !IsRescue(name)).OrderDescending(KernelVersion.Order).Take(32))
        {
            if (files.ReadText($"{folder}/loader/entries/{name}") is string text && BootEntry.FromLoaderEntry(text) is { } entry)
            {
                yield return (entry, $"loader/entries/{name} says");
            }
        }

        HashSet<string> names = [.. files.List(folder + "/")];
        foreach (string name in names.Where(IsKernel).OrderDescending(KernelVersion.Order).Take(32))
        {
            yield return (new BootEntry($"{folder}/{name}", [.. FindInitrd(names, name).Select(initrd => $"{folder}/{initrd}")], string.Empty), "the newest there");
        }
    }

    private static bool IsRescue(string name) => name.Contains("rescue", StringComparison.Ordinal) || name.Contains("kdump", StringComparison.Ordinal);

    private static bool IsKernel(string name) =>
        (name.StartsWith("vmlinuz", StringComparison.Ordinal) || name.StartsWith("bzImage", StringComparison.Ordinal) || name.StartsWith("kernel-", StringComparison.Ordinal))
        && !IsRescue(name) && !name.EndsWith(".old", StringComparison.Ordinal) && !name.EndsWith(".hmac", StringComparison.Ordinal);

    /// <summary>The initial RAM disk that belongs to a kernel, as Debian, Fedora, Arch, Alpine and SUSE name theirs.</summary>
    private static IEnumerable<string> FindInitrd(HashSet<string> names, string kernel)
    {
        int dash = kernel.IndexOf('-', StringComparison.Ordinal);
        string version = dash < 0 ? string.Empty : kernel[dash..];
        return new[] { $"initrd.img{version}", $"initramfs{version}.img", $"initrd{version}", $"initramfs{version}", $"initrd{version}.img" }.Where(names.Contains).Take(1);
    }

    private static string? Locate(IFileSystem files, string folder, string path) =>
        files.Find(path) == FileKind.File ? path : folder.Length > 0 && files.Find(folder + path) == FileKind.File ? folder + path : null;

    /// <summary>Null where one is missing: a kernel without what it needs would only panic.</summary>
    private static List<string>? LocateAll(IFileSystem files, string folder, IReadOnlyList<string> paths)
    {
        List<string> found = [];
        foreach (string path in paths)
        {
            if (Locate(files, folder, path) is not string there)
            {
                return null;
            }

            found.Add(there);
        }

        return found;
    }

    /// <summary>One behind the other, as the kernel unpacks them: each at a multiple of 4.</summary>
    private static byte[] ReadInitrds(IFileSystem files, List<string> paths)
    {
        if (paths.Count == 1)
        {
            return files.ReadWhole(paths[0], MaxInitrd) ?? [];
        }

        long[] lengths = [.. paths.Select(path => files.Measure(path) ?? 0)];
        long whole = lengths.Aggregate(0L, (sum, length) => length <= MaxInitrd ? sum + Align(length) : long.MaxValue / 2);
        if (whole > MaxInitrd)
        {
            throw new ImageException($"The initial RAM disks on the disk are larger than {MaxInitrd >> 20} MiB.");
        }

        files.Budget.TakeFile("The initial RAM disks", whole);
        byte[] joined = new byte[whole];
        long at = 0;
        for (int i = 0; i < lengths.Length; i++)
        {
            files.TryRead(paths[i], joined.AsSpan((int)at, (int)lengths[i]));
            at += Align(lengths[i]);
        }

        return joined;
    }

    private static long Align(long length) => (length + 3) & ~3L;

    /// <summary>Says where the root is, if the boot loader does not, and sends the console to the serial port. What is there stays, "quiet" included.</summary>
    private static string Complete(string options, Volume boot, List<Volume> volumes, bool hasInitrd)
    {
        List<string> words = [.. options.Split(' ', StringSplitOptions.RemoveEmptyEntries)];
        if (!words.Exists(word => word.StartsWith("root=", StringComparison.Ordinal)))
        {
            Volume root = volumes.Find(IsRoot) ?? (volumes.Count == 1 ? boot : throw new ImageException("a kernel is there, but not the root file system that it is to start"));

            // Only an initial RAM disk can look for a file system's number; the kernel itself knows partitions'.
            words.Insert(0, hasInitrd ? $"root=UUID={root.Files.Uuid}" : root.Partition.Id is { } id ? $"root=PARTUUID={id}" : "root=/dev/vda");
            words.Insert(1, "ro");
        }

        if (!words.Exists(word => word.StartsWith("console=ttyS0", StringComparison.Ordinal) || word.StartsWith("console=hvc0", StringComparison.Ordinal)))
        {
            words.Add("console=ttyS0,115200n8r");
        }

        return string.Join(' ', words);
    }

    private static bool IsRoot(Volume volume) => volume.Files.Find("/etc") == FileKind.Folder && volume.Files.Find("/usr") == FileKind.Folder;
}
