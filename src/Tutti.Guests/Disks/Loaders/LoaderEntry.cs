using System.Globalization;

namespace Tutti.Guests.Disks.Loaders;

/// <summary>
/// An entry of the Boot Loader Specification (UAPI.1), type 1: a file NAME.conf in loader/entries. Lines are a key and its value; what is not known is
/// passed over, as are Fedora's own keys.
/// </summary>
internal sealed class LoaderEntry
{
    private const int MaxEntries = 256;

    private LoaderEntry(string id) => Id = id;

    /// <summary>The file's name without .conf and without the count of tries.</summary>
    public string Id { get; private init; }

    public string Title { get; private set; } = string.Empty;

    public string Version { get; private set; } = string.Empty;

    public string MachineId { get; private set; } = string.Empty;

    public string SortKey { get; private set; } = string.Empty;

    /// <summary>The kernel's path; null for none.</summary>
    public string? Linux { get; private set; }

    /// <summary>A program of the firmware's; null for none.</summary>
    public string? Efi { get; private set; }

    public List<string> Initrds { get; } = [];

    /// <summary>The words of all its lines of options.</summary>
    public string Options { get; private set; } = string.Empty;

    /// <summary>Whether there is a line of options, be it empty.</summary>
    public bool HasOptions { get; private set; }

    /// <summary>Whether it has been tried in vain as often as it may be (the name's +0).</summary>
    public bool IsBad { get; private init; }

    /// <summary>Whether it is for other processors.</summary>
    public bool IsForeign { get; private set; }

    /// <param name="name">The file's name.</param>
    /// <param name="text">Its contents.</param>
    public static LoaderEntry Parse(string name, string text)
    {
        string id = name.EndsWith(".conf", StringComparison.OrdinalIgnoreCase) ? name[..^5] : name;
        id = TakeTries(id, out bool isBad);
        LoaderEntry entry = new(id) { IsBad = isBad };
        List<string> options = [];
        foreach (string line in text.Split('\n'))
        {
            string trimmed = line.Trim();
            int blank = trimmed.AsSpan().IndexOfAny(' ', '\t');
            if (blank > 0 && trimmed[0] != '#')
            {
                entry.Take(trimmed[..blank], trimmed[(blank + 1)..].Trim(), options);
            }
            else
            {
                entry.HasOptions |= trimmed == "options";
            }
        }

        entry.Options = string.Join(' ', options);
        entry.Title = entry.Title.Length > 0 ? entry.Title : id;
        return entry;
    }

    /// <summary>All of a folder, in no order.</summary>
    /// <exception cref="ImageException">The file system is damaged.</exception>
    public static List<LoaderEntry> ReadAll(DiskVolume volume, string folder)
    {
        List<LoaderEntry> entries = [];
        foreach (string name in volume.Files?.List(folder).Where(name => name.EndsWith(".conf", StringComparison.OrdinalIgnoreCase)).Order(StringComparer.Ordinal).Take(MaxEntries) ?? [])
        {
            if (volume.Files!.ReadText($"{folder}/{name}") is { } text)
            {
                entries.Add(Parse(name, text));
            }
        }

        return entries;
    }

    /// <summary>As Fedora's GRUB: by name, version and release of the file's name, the newest first; the machine's own before others', and what rescues last.</summary>
    public static IEnumerable<LoaderEntry> InGrubsOrder(IEnumerable<LoaderEntry> entries, IReadOnlyList<DiskVolume> volumes)
    {
        string[] machines = OwnMachines(volumes);
        return entries
            .OrderBy(entry => entry.Id.Contains("rescue", StringComparison.Ordinal))
            .ThenByDescending(entry => IsOwn(entry, machines))
            .ThenByDescending(entry => entry.Id, Comparer<string>.Create(ComparePackages));
    }

    /// <summary>Numbers of the machines whose systems are on the disk.</summary>
    public static string[] OwnMachines(IReadOnlyList<DiskVolume> volumes) =>
        [.. volumes.Where(volume => volume.IsRoot).Select(volume => volume.MachineId).Where(id => id.Length == 32)];

    public static bool IsOwn(LoaderEntry entry, string[] machines) =>
        Array.Exists(machines, id => entry.MachineId == id || entry.Id.StartsWith(id, StringComparison.Ordinal));

    /// <summary>Compares NAME-VERSION-RELEASE, part for part.</summary>
    internal static int ComparePackages(string left, string right)
    {
        (string leftName, string leftVersion, string leftRelease) = SplitPackage(left);
        (string rightName, string rightVersion, string rightRelease) = SplitPackage(right);
        int order = RpmVersion.Order.Compare(leftName, rightName);
        order = order != 0 ? order : RpmVersion.Order.Compare(leftVersion, rightVersion);
        return order != 0 ? order : RpmVersion.Order.Compare(leftRelease, rightRelease);
    }

    private static (string Name, string Version, string Release) SplitPackage(string text)
    {
        int last = text.LastIndexOf('-');
        int second = last > 0 ? text.LastIndexOf('-', last - 1) : -1;
        return second < 0
            ? (last < 0 ? text : text[..last], string.Empty, last < 0 ? string.Empty : text[(last + 1)..])
            : (text[..second], text[(second + 1)..last], text[(last + 1)..]);
    }

    /// <summary>Takes the count of tries off a name: NAME+LEFT or NAME+LEFT-DONE.</summary>
    internal static string TakeTries(string id, out bool isBad)
    {
        int plus = id.LastIndexOf('+');
        string count = plus > 0 ? id[(plus + 1)..] : string.Empty;
        int dash = count.IndexOf('-', StringComparison.Ordinal);
        bool isCount = int.TryParse(dash < 0 ? count : count[..dash], NumberStyles.None, CultureInfo.InvariantCulture, out int left)
            && (dash < 0 || int.TryParse(count[(dash + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out _));
        isBad = isCount && left == 0;
        return isCount ? id[..plus] : id;
    }

    private void Take(string key, string value, List<string> options)
    {
        switch (key)
        {
            case "title":
                Title = value;
                break;
            case "version":
                Version = value;
                break;
            case "machine-id":
                MachineId = value;
                break;
            case "sort-key":
                SortKey = value;
                break;
            case "linux":
                Linux = ToPath(value);
                break;
            case "efi" or "uki":
                Efi = ToPath(value);
                break;
            case "initrd":
                // Fedora writes several into a line.
                Initrds.AddRange(value.Split([' ', '\t'], StringSplitOptions.RemoveEmptyEntries).Take(BootEntry.MaxInitrds - Initrds.Count).Select(ToPath));
                break;
            case "options":
                options.Add(value);
                HasOptions = true;
                break;
            case "architecture":
                IsForeign = !value.Equals("x64", StringComparison.OrdinalIgnoreCase) && !value.Equals("x86-64", StringComparison.OrdinalIgnoreCase);
                break;
        }
    }

    private static string ToPath(string value) => value.StartsWith('$') ? value : "/" + value.Replace('\\', '/').TrimStart('/');
}
