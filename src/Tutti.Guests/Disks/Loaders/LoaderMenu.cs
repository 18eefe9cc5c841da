using System.Globalization;
using Tutti.Guests.Disks.Grub;

namespace Tutti.Guests.Disks.Loaders;

/// <summary>
/// The menu of systemd-boot: entries of loader/entries and unified kernel images in EFI/Linux, of all partitions that have some. What a person chose at
/// the menu, it keeps in the firmware, which is not here. Source: systemd-boot(7), loader.conf(5), UAPI.1 "Sorting".
/// </summary>
internal sealed class LoaderMenu : BootMenu
{
    private const int MaxImages = 64;
    private readonly List<Item> _items;
    private readonly IReadOnlyList<DiskVolume> _volumes;
    private readonly string _default;

    private LoaderMenu(List<Item> items, IReadOnlyList<DiskVolume> volumes, string chosen, string source) =>
        (_items, _volumes, _default, Source, Names) = (items, volumes, chosen, source, [.. items.Select(item => item.Id)]);

    public override string Source { get; }

    public override IReadOnlyList<string> Names { get; }

    private sealed record Item(DiskVolume Volume, string Id, string Title, string SortKey, string MachineId, string Version, bool IsBad, LoaderEntry? Entry, string? Image);

    /// <summary>The menu; without entries where no partition has any.</summary>
    /// <exception cref="ImageException">A file system is damaged.</exception>
    public static LoaderMenu Read(IReadOnlyList<DiskVolume> volumes)
    {
        List<Item> items = [];
        string chosen = string.Empty;
        string source = string.Empty;
        foreach (DiskVolume volume in volumes.Where(volume => volume.Files != null))
        {
            foreach (string folder in (string[])[string.Empty, "/boot"])
            {
                int before = items.Count;
                AddEntries(items, volume, folder);
                AddImages(items, volume, folder);
                source = source.Length == 0 && items.Count > before ? $"{(items[before].Entry != null ? $"{folder}/loader/entries" : $"{folder}/EFI/Linux")} of {volume.Name}" : source;
                chosen = chosen.Length == 0 && volume.Files!.ReadText($"{folder}/loader/loader.conf") is { } text ? ReadDefault(text) : chosen;
            }
        }

        if (items.Count == 0)
        {
            AddFallback(items, volumes, ref source);
        }

        string[] machines = LoaderEntry.OwnMachines(volumes);
        items = [.. items
            .OrderBy(item => item.IsBad)
            .ThenByDescending(item => item.Entry != null && LoaderEntry.IsOwn(item.Entry, machines))
            .ThenBy(item => item.SortKey.Length == 0)
            .ThenBy(item => item.SortKey, StringComparer.Ordinal)
            .ThenBy(item => item.SortKey.Length == 0 ? string.Empty : item.MachineId, StringComparer.Ordinal)
            .ThenByDescending(item => item.SortKey.Length == 0 ? string.Empty : item.Version, KernelVersion.Order)
            .ThenByDescending(item => item.Id, KernelVersion.Order)];
        return new LoaderMenu(items, volumes, chosen, source);
    }

    public override BootEntry Choose(string? wanted)
    {
        if (wanted != null)
        {
            Item? named = int.TryParse(wanted, NumberStyles.None, CultureInfo.InvariantCulture, out int number)
                ? number < _items.Count ? _items[number] : null
                : _items.Find(item => item.Id == wanted || item.Title == wanted || item.Id == wanted + ".conf");
            return Make(named ?? throw new ImageException($"The disk's boot menu ({Source}) has no entry '{wanted}'; it has {ListNames()}."));
        }

        // A pattern, or a name; old tools left the .conf out.
        Item? chosen = _default.Length > 0 && _default[0] != '@'
            ? _items.Find(item => FilePattern.Matches(_default, item.Id, ignoreCase: true) || FilePattern.Matches(_default + ".conf", item.Id, ignoreCase: true))
            : null;
        return Make(chosen ?? _items[0]);
    }

    private BootEntry Make(Item item)
    {
        if (item.Entry == null)
        {
            return new BootEntry(item.Title, new VolumeFile(item.Volume, item.Image!), [], string.Empty) { IsChained = true };
        }

        GrubExpansion expansion = new(ReadVariables(item).Get, new GrubLimits(item.Volume.Files!.Budget.Check));
        List<string> initrds = [];
        foreach (string path in item.Entry.Initrds)
        {
            expansion.Split(path, initrds);
        }

        string kernel = item.Entry.Linux ?? item.Entry.Efi!;
        string options = item.Entry.Options.Contains('$', StringComparison.Ordinal) ? string.Join(' ', expansion.Join(item.Entry.Options).Split(' ', StringSplitOptions.RemoveEmptyEntries)) : item.Entry.Options;
        return new BootEntry(item.Title, new VolumeFile(item.Volume, kernel), [.. initrds.Select(path => new VolumeFile(item.Volume, path))], options)
        {
            IsChained = item.Entry.Linux == null,
        };
    }

    /// <summary>Fedora's entries have variables of GRUB's, also where its configuration is not to be found: then grubenv alone says what they are.</summary>
    private Variables ReadVariables(Item item)
    {
        GrubVariables variables = new();
        if (item.Entry!.Options.Contains('$', StringComparison.Ordinal))
        {
            foreach (DiskVolume volume in _volumes.OrderBy(volume => volume != item.Volume))
            {
                IEnumerable<string> vendors = volume.Files is FatFileSystem fat ? fat.List("/EFI").Take(32).Select(name => $"/EFI/{name}") : [];
                foreach (string folder in ((string[])["/grub2", "/boot/grub2", "/grub", "/boot/grub"]).Concat(vendors))
                {
                    if (volume.Files?.ReadText($"{folder}/grubenv") is { } text)
                    {
                        variables.Load(text, new HashSet<string>());
                        return new Variables(variables);
                    }
                }
            }
        }

        return new Variables(variables);
    }

    private sealed record Variables(GrubVariables Values)
    {
        public string Get(string name) => Values[name];
    }

    private static void AddEntries(List<Item> items, DiskVolume volume, string folder)
    {
        foreach (LoaderEntry entry in LoaderEntry.ReadAll(volume, folder + "/loader/entries"))
        {
            if (!entry.IsForeign && (entry.Linux ?? entry.Efi) != null)
            {
                items.Add(new Item(volume, entry.Id + ".conf", entry.Title, entry.SortKey, entry.MachineId, entry.Version, entry.IsBad, entry, null));
            }
        }
    }

    private static void AddImages(List<Item> items, DiskVolume volume, string folder)
    {
        byte[]? head = null;
        foreach (string name in volume.Files!.List(folder + "/EFI/Linux").Where(name => name.EndsWith(".efi", StringComparison.OrdinalIgnoreCase)).Order(StringComparer.Ordinal).Take(MaxImages))
        {
            head ??= UnifiedKernelImage.MakeHead(volume.Files.Budget);
            AddImage(items, volume, $"{folder}/EFI/Linux/{name}", name, head);
        }
    }

    private static bool AddImage(List<Item> items, DiskVolume volume, string path, string name, byte[] head)
    {
        if (UnifiedKernelImage.TryReadHead(volume.Files!, path, head) is not { } image)
        {
            return false;
        }

        string release = image.Text(".osrel", head);
        string id = LoaderEntry.TakeTries(name[..^4], out bool isBad) + name[^4..];
        string title = UnifiedKernelImage.OsRelease(release, "PRETTY_NAME", "IMAGE_ID", "NAME", "ID");
        items.Add(new Item(
            volume, id, title.Length > 0 ? title : id, UnifiedKernelImage.OsRelease(release, "IMAGE_ID", "ID"), string.Empty,
            UnifiedKernelImage.OsRelease(release, "IMAGE_VERSION", "VERSION", "VERSION_ID", "BUILD_ID"), isBad, null, path));
        return true;
    }

    /// <summary>What firmware starts of a disk that it knows nothing of may be such an image itself.</summary>
    private static void AddFallback(List<Item> items, IReadOnlyList<DiskVolume> volumes, ref string source)
    {
        const string Path = "/EFI/BOOT/BOOTX64.EFI";
        foreach (DiskVolume volume in volumes)
        {
            if (volume.Files is FatFileSystem files && files.Find(Path) == FileKind.File && AddImage(items, volume, Path, "BOOTX64.EFI", UnifiedKernelImage.MakeHead(files.Budget)))
            {
                source = $"{Path} of {volume.Name}";
                return;
            }
        }
    }

    private static string ReadDefault(string text)
    {
        foreach (string line in text.Split('\n'))
        {
            string[] words = line.Split([' ', '\t', '\r'], StringSplitOptions.RemoveEmptyEntries);
            if (words is ["default", string value, ..])
            {
                return value;
            }
        }

        return string.Empty;
    }
}
