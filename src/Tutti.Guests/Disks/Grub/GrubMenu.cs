using System.Globalization;

namespace Tutti.Guests.Disks.Grub;

/// <summary>GRUB's menu, as its configuration file makes it on this disk.</summary>
internal sealed class GrubMenu : BootMenu
{
    private const int MaxDepth = 8;
    private const int MaxSubmenus = 16;

    /// <summary>Names are shown to people: so many, and so much of each title.</summary>
    private const int MaxNames = 1000;
    private const int MaxTitle = 100;
    private readonly GrubShell _shell;
    private readonly GrubDevices _devices;
    private IReadOnlyList<string>? _names;

    private GrubMenu(GrubDevices devices, VolumeFile file, ReadBudget budget)
    {
        _devices = devices;
        _shell = new GrubShell(devices, new GrubLimits(budget.Check));
        bool isEfi = devices.Volumes.Any(volume => volume.Partition.IsEfiSystem);
        string device = GrubDevices.Name(file.Volume!);
        _shell.Variables["root"] = device;
        _shell.Variables["prefix"] = $"({device}){file.Path[..Math.Max(file.Path.LastIndexOf('/'), 0)]}";
        _shell.Variables["grub_platform"] = isEfi ? "efi" : "pc";
        _shell.Variables["grub_cpu"] = isEfi ? "x86_64" : "i386";
        Source = $"{file.Path} of {file.Volume!.Name}";
        _shell.Configure(file);
    }

    public override string Source { get; }

    /// <summary>Why the menu can't be trusted; null if it can.</summary>
    public string? Problem => _shell.Problem;

    public override IReadOnlyList<string> Names => _names ??= ListNames(_shell);

    /// <summary>The menus of a disk, in the order in which they are looked for: that of a system's own before those of the firmware's partition.</summary>
    public static IEnumerable<GrubMenu> FindAll(IReadOnlyList<DiskVolume> volumes, ReadBudget budget)
    {
        GrubDevices devices = new(volumes);
        foreach (DiskVolume volume in volumes.Where(volume => volume.Files != null).OrderBy(volume => volume.Files is FatFileSystem))
        {
            foreach (string path in FindConfigurations(volume.Files!))
            {
                yield return new GrubMenu(devices, new VolumeFile(volume, path), budget);
            }
        }
    }

    public override BootEntry Choose(string? wanted)
    {
        string? problem = _shell.Problem;
        if (problem != null && wanted == null)
        {
            throw Beyond(problem);
        }

        GrubShell shell = _shell.Fork();
        string rest = wanted ?? shell.Variables["default"];
        bool isOwnChoice = wanted == null;
        for (int depth = 0; depth < MaxDepth; depth++)
        {
            string name = TakeName(ref rest);
            GrubMenuEntry? entry = Find(shell.Menu, name) ?? (isOwnChoice ? shell.Menu.FirstOrDefault() : null);
            if (entry == null)
            {
                throw new ImageException($"The disk's boot menu ({Source}) has no entry '{wanted}'; it has {ListNames()}.");
            }

            List<GrubMenuEntry> menu = shell.Menu;
            shell.Choose(entry);
            if (shell.Problem is { } trouble && trouble != problem)
            {
                throw Beyond(trouble);
            }

            if (!entry.IsSubmenu && shell.Menu == menu)
            {
                return Take(shell, shell.Load, entry.Title);
            }

            if (!entry.IsSubmenu && rest.Length == 0)
            {
                // Another file's menu, which has a choice of its own.
                rest = shell.Variables["default"];
                isOwnChoice = true;
            }
        }

        throw Beyond("its submenus have no end");
    }

    private BootEntry Take(GrubShell shell, GrubLoad load, string title) => load.Command switch
    {
        "linux" or "chainloader" when load.Kernel.Volume?.Files != null =>
            new BootEntry(title, load.Kernel, load.Initrds, load.Options) { IsChained = load.Command == "chainloader" },
        "linux" => throw new ImageException($"The kernel of the disk's boot entry '{title}' ({Source}) lies on {shell.DescribePlace(load.Written, load.Kernel)}: {DiskKernel.Instead}."),
        null => throw new ImageException($"The disk's boot entry '{title}' ({Source}) loads no kernel; choose another with --boot-entry: {ListNames()}."),
        _ => throw new ImageException($"The disk's boot entry '{title}' ({Source}) starts no Linux kernel, but {load.Command} {load.Kernel.Path}; choose another with --boot-entry: {ListNames()}."),
    };

    private ImageException Beyond(string problem) =>
        new($"What the disk's boot loader would start is not clear ({Source}: {problem}): {(Names.Count > 0 ? $"choose with --boot-entry: {ListNames()}" : DiskKernel.Instead)}.");

    private static IEnumerable<string> FindConfigurations(IFileSystem files)
    {
        IEnumerable<string> vendors = files is FatFileSystem ? files.List("/EFI").Take(32).Select(name => $"/EFI/{name}") : [];
        return ((string[])["/boot/grub", "/boot/grub2", "/grub", "/grub2"]).Concat(vendors).Select(folder => folder + "/grub.cfg").Where(path => files.Find(path) == FileKind.File);
    }

    /// <summary>An entry by number, title or identifier; numbers go first, as in GRUB.</summary>
    private static GrubMenuEntry? Find(List<GrubMenuEntry> menu, string name) =>
        int.TryParse(name, NumberStyles.None, CultureInfo.InvariantCulture, out int number)
            ? number < menu.Count ? menu[number] : null
            : menu.Find(entry => name.Length > 0 && (entry.Title == name || entry.Id == name));

    /// <summary>Takes the first of the names that ">" holds apart; ">>" is a sign of a name.</summary>
    private static string TakeName(ref string path)
    {
        for (int i = 0; i < path.Length; i++)
        {
            if (path[i] == '>')
            {
                if (i + 1 < path.Length && path[i + 1] == '>')
                {
                    i++;
                    continue;
                }

                string first = path[..i];
                path = path[(i + 1)..];
                return first.Replace(">>", ">", StringComparison.Ordinal);
            }
        }

        string name = path.Replace(">>", ">", StringComparison.Ordinal);
        path = string.Empty;
        return name;
    }

    private static List<string> ListNames(GrubShell shell)
    {
        List<string> names = [];
        AddNames(names, shell, string.Empty, 0);
        return names;
    }

    private static void AddNames(List<string> names, GrubShell shell, string before, int depth)
    {
        int submenus = 0;
        foreach (GrubMenuEntry entry in shell.Menu.TakeWhile(_ => names.Count < MaxNames))
        {
            string title = entry.Title.Length > MaxTitle ? entry.Title[..MaxTitle] : entry.Title;
            string name = before + title.Replace(">", ">>", StringComparison.Ordinal);
            if (!entry.IsSubmenu)
            {
                names.Add(name);
            }
            else if (depth < 2 && submenus++ < MaxSubmenus)
            {
                GrubShell inner = shell.Fork();
                inner.Choose(entry);
                AddNames(names, inner, name + ">", depth + 1);
            }
        }
    }
}
