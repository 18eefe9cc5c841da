using Tutti.Guests.Disks.Grub;
using Tutti.Guests.Disks.Loaders;

namespace Tutti.Guests.Disks;

/// <summary>
/// A kernel that was found on a disk, as its boot loader would start it. Everything on the disk may be a guest's doing: all that is read and
/// kept is charged to a <see cref="ReadBudget"/>, and nothing of it is trusted but to be given to that guest again.
/// </summary>
public sealed record DiskKernel
{
    private const int MaxKernel = 256 << 20;
    private const int MaxInitrd = 512 << 20;
    private const int MaxMessage = 2000;
    internal const string Instead = "give its kernel with --kernel, its initial RAM disk with --initrd and root= with --append";

    /// <summary>The kernel file's bytes.</summary>
    public required ReadOnlyMemory<byte> Kernel { get; init; }

    /// <summary>The initial RAM disk's; empty for none. Several are joined, as a boot loader does.</summary>
    public required ReadOnlyMemory<byte> Initrd { get; init; }

    /// <summary>With a console on the first serial port; the user's own words are not in it.</summary>
    public required string CommandLine { get; init; }

    /// <summary>Where it was found, for people.</summary>
    public required string Description { get; init; }

    /// <summary>Looks through a disk's partitions and file systems.</summary>
    /// <param name="disk">The disk.</param>
    /// <param name="budget">What that may cost; for this disk alone.</param>
    /// <param name="append">The user's words, which come behind the command line: with root= in them the disk need not say where its root is.</param>
    /// <param name="bootEntry">Which entry of the boot loader's menu: a name or a number; null for the one that it would start by itself.</param>
    /// <exception cref="ImageException">There is no kernel that can be read; the message is a line that says why and what to do.</exception>
    /// <exception cref="OperationCanceledException">The budget's owner has cancelled it.</exception>
    public static DiskKernel Find(IDiskReader disk, ReadBudget budget, string append = "", string? bootEntry = null)
    {
        ArgumentNullException.ThrowIfNull(disk);
        ArgumentNullException.ThrowIfNull(budget);
        ArgumentNullException.ThrowIfNull(append);
        try
        {
            DiskKernel found = Find(new DiskPart(disk, budget), append, bootEntry);
            return found with { Description = Clean(found.Description) };
        }
        catch (ImageException e) when (Clean(e.Message) is var clean && clean != e.Message)
        {
            throw new ImageException(clean);
        }
    }

    /// <summary>Text with words of the disk's, as a line that a terminal does nothing with but show it.</summary>
    private static string Clean(string text) => string.Concat(text.Take(MaxMessage).Select(letter => char.IsControl(letter) ? ' ' : letter));

    private static DiskKernel Find(DiskPart disk, string append, string? bootEntry)
    {
        List<DiskVolume> volumes = DiskVolume.Open(disk);
        List<string> obstacles = [.. volumes.Where(volume => volume.Unread.Length > 0).Select(volume => volume.Unread)];
        if (FindMenu(volumes, disk.Budget, obstacles) is { } menu)
        {
            return Load(menu.Choose(bootEntry), menu, volumes, append);
        }

        if (obstacles.Count == 0 && volumes.Exists(volume => volume.Partition.Number != 0) && FileSystemSignature.Read(disk) is { } whole)
        {
            // An image for a memory stick is both.
            obstacles.Add($"the disk is {whole.Name}");
        }

        string reason = obstacles.Count > 0 ? string.Join("; ", obstacles.Take(4)) : disk.Size < PartitionTable.LeastDisk ? "it is empty" : volumes.Exists(volume => volume.Files != null) ? "its file systems have none in /boot" : "it has no file system that Tutti knows";
        throw new ImageException($"No kernel was found on the disk ({reason}): {Instead}.");
    }

    /// <summary>
    /// The menu of the boot loader that the disk starts with. Which that is, firmware knows; a disk with GRUB's is taken to start with that. Kernels
    /// without a menu count only where there is no loader: with one, they may be others than it starts.
    /// </summary>
    private static BootMenu? FindMenu(List<DiskVolume> volumes, ReadBudget budget, List<string> obstacles)
    {
        IEnumerable<IEnumerable<BootMenu>> kinds = [GrubMenu.FindAll(volumes, budget), Loader(volumes), ExtlinuxMenu.FindAll(volumes), KernelFolder.FindAll(volumes)];
        int before = obstacles.Count;
        foreach (IEnumerable<BootMenu> menus in kinds)
        {
            if (obstacles.Count > before && menus is IEnumerable<KernelFolder>)
            {
                break;
            }

            try
            {
                foreach (BootMenu menu in menus)
                {
                    if (menu.Names.Count > 0)
                    {
                        return menu;
                    }

                    if (menu is GrubMenu { Problem: { } problem })
                    {
                        obstacles.Add($"{menu.Source}: {problem}");
                    }
                }
            }
            catch (ImageException e) when (e is not ReadBudgetException)
            {
                obstacles.Add(e.Message.TrimEnd('.'));
            }
        }

        return null;

        static IEnumerable<BootMenu> Loader(List<DiskVolume> volumes)
        {
            yield return LoaderMenu.Read(volumes);
        }
    }

    private static DiskKernel Load(BootEntry entry, BootMenu menu, List<DiskVolume> volumes, string append)
    {
        VolumeFile kernel = Locate(entry.Kernel)
            ?? throw new ImageException($"The disk's boot entry '{entry.Title}' ({menu.Source}) starts {entry.Kernel.Path}, which is not there; choose another with --boot-entry: {menu.ListNames()}.");
        List<VolumeFile> initrds = [];
        foreach (VolumeFile file in entry.Initrds)
        {
            // A kernel without what it needs would only panic.
            initrds.Add(Locate(file) ?? throw new ImageException($"The disk's boot entry '{entry.Title}' ({menu.Source}) wants {file.Path}, which is not there; choose another with --boot-entry: {menu.ListNames()}."));
        }

        string description = $"{kernel.Path} of {kernel.Volume!.Name}, as {menu.Source} says";
        IFileSystem files = kernel.Volume.Files!;
        if (UnifiedKernelImage.TryReadHead(files, kernel.Path, UnifiedKernelImage.MakeHead(files.Budget)) != null)
        {
            return LoadUnified(entry, menu, volumes, append, kernel, initrds, description);
        }

        if (entry.IsChained)
        {
            throw new ImageException($"The disk's boot entry '{entry.Title}' ({menu.Source}) starts {kernel.Path}, which is no Linux kernel; choose another with --boot-entry: {menu.ListNames()}.");
        }

        byte[] bytes = files.ReadWhole(kernel.Path, MaxKernel) ?? [];
        ReadOnlyMemory<byte> initrd = Join([], initrds, files.Budget);
        return new DiskKernel
        {
            Kernel = bytes,
            Initrd = initrd,
            CommandLine = RootOption.Complete(entry, menu.Source, volumes, initrd.Length > 0, append),
            Description = description,
        };
    }

    private static DiskKernel LoadUnified(
        BootEntry entry, BootMenu menu, List<DiskVolume> volumes, string append, VolumeFile kernel, List<VolumeFile> initrds, string description)
    {
        IFileSystem files = kernel.Volume!.Files!;
        byte[] bytes = files.ReadWhole(kernel.Path, MaxKernel + MaxInitrd) ?? [];
        UnifiedKernel image = UnifiedKernel.TryRead(bytes) ?? throw new ImageException($"{kernel.Path} on the disk changed while it was read.");
        ReadOnlyMemory<byte> initrd = Join(image.Initrds, initrds, files.Budget);
        BootEntry complete = entry.Options.Length > 0 ? entry : entry with { Options = image.CommandLine };
        return new DiskKernel
        {
            Kernel = image.Kernel,
            Initrd = initrd,
            CommandLine = RootOption.Complete(complete, menu.Source, volumes, initrd.Length > 0, append),
            Description = description,
        };
    }

    /// <summary>Paths are said as the boot loader sees them, with or without the folder where the file system is mounted.</summary>
    private static VolumeFile? Locate(VolumeFile file)
    {
        foreach (string path in (string[])[file.Path, "/boot" + (file.Path.StartsWith('/') ? file.Path : "/" + file.Path)])
        {
            if (file.Volume?.Files?.Measure(path) is > 0)
            {
                return file with { Path = path };
            }
        }

        return null;
    }

    /// <summary>One behind the other, as the kernel unpacks them: each at a multiple of 4.</summary>
    private static ReadOnlyMemory<byte> Join(IReadOnlyList<ReadOnlyMemory<byte>> parts, List<VolumeFile> files, ReadBudget budget)
    {
        if (parts.Count + files.Count <= 1)
        {
            return parts.Count == 1 ? parts[0] : files.Count == 1 ? files[0].Volume!.Files!.ReadWhole(files[0].Path, MaxInitrd) ?? [] : default;
        }

        long[] lengths = [.. files.Select(file => file.Volume!.Files!.Measure(file.Path) ?? 0)];
        long whole = parts.Sum(part => Align(part.Length)) + lengths.Aggregate(0L, (sum, length) => length <= MaxInitrd ? sum + Align(length) : long.MaxValue / 2);
        if (whole > MaxInitrd)
        {
            throw new ImageException($"The initial RAM disks on the disk are larger than {MaxInitrd >> 20} MiB.");
        }

        budget.TakeFile("The initial RAM disks", whole);
        byte[] joined = new byte[whole];
        long at = 0;
        foreach (ReadOnlyMemory<byte> part in parts)
        {
            part.CopyTo(joined.AsMemory((int)at));
            at += Align(part.Length);
        }

        for (int i = 0; i < lengths.Length; i++)
        {
            files[i].Volume!.Files!.TryRead(files[i].Path, joined.AsSpan((int)at, (int)lengths[i]));
            at += Align(lengths[i]);
        }

        return joined;
    }

    private static long Align(long length) => (length + 3) & ~3L;
}
