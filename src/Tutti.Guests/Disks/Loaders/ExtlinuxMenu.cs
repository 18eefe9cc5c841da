using System.Globalization;

namespace Tutti.Guests.Disks.Loaders;

/// <summary>
/// The menu of extlinux and syslinux, which U-Boot reads, too. Source: the Syslinux Project's doc/syslinux.txt and doc/menu.txt. Keywords are in any
/// case; a path without a slash before it begins at the file's folder.
/// </summary>
internal sealed class ExtlinuxMenu : BootMenu
{
    private const int MaxEntries = 256;
    private const int MaxIncludes = 8;

    private static readonly string[] s_files =
    [
        "/boot/extlinux/extlinux.conf", "/extlinux/extlinux.conf", "/boot/extlinux.conf", "/extlinux.conf", "/boot/syslinux/syslinux.cfg",
        "/boot/syslinux/extlinux.conf", "/syslinux/extlinux.conf", "/syslinux/syslinux.cfg", "/boot/syslinux.cfg", "/syslinux.cfg",
    ];

    private readonly List<Label> _labels = [];
    private readonly DiskVolume _volume;
    private readonly string _folder;
    private string _default = string.Empty;
    private string _append = string.Empty;
    private Label? _chosen;
    private int _includes;

    private ExtlinuxMenu(DiskVolume volume, string path, string text)
    {
        _volume = volume;
        _folder = path[..path.LastIndexOf('/')];
        Source = $"{path} of {volume.Name}";
        Read(text);
    }

    public override string Source { get; }

    public override IReadOnlyList<string> Names => [.. _labels.Select(label => label.Name)];

    private sealed class Label
    {
        public required string Name { get; init; }

        public required string Title { get; set; }

        public string? Kernel { get; set; }

        public string? Append { get; set; }

        public List<string> Initrds { get; } = [];
    }

    /// <summary>The menus of a disk, in the order in which they are looked for.</summary>
    /// <exception cref="ImageException">A file system is damaged.</exception>
    public static IEnumerable<ExtlinuxMenu> FindAll(IReadOnlyList<DiskVolume> volumes)
    {
        foreach (DiskVolume volume in volumes)
        {
            foreach (string path in s_files)
            {
                if (volume.Files?.ReadText(path) is { } text)
                {
                    yield return new ExtlinuxMenu(volume, path, text);
                }
            }
        }
    }

    public override BootEntry Choose(string? wanted)
    {
        Label? label = wanted == null
            ? _labels.Find(label => label.Name.Equals(_default, StringComparison.OrdinalIgnoreCase)) ?? _chosen ?? _labels[0]
            : int.TryParse(wanted, NumberStyles.None, CultureInfo.InvariantCulture, out int number) ? number < _labels.Count ? _labels[number] : null
            : _labels.Find(label => label.Name == wanted || label.Title == wanted);
        if (label == null)
        {
            throw new ImageException($"The disk's boot menu ({Source}) has no entry '{wanted}'; it has {ListNames()}.");
        }

        if (label.Kernel is not { } kernel || kernel.EndsWith(".c32", StringComparison.OrdinalIgnoreCase))
        {
            throw new ImageException($"The disk's boot entry '{label.Name}' ({Source}) starts no Linux kernel; choose another with --boot-entry: {ListNames()}.");
        }

        // An empty one takes away what is said for all.
        List<string> words = [.. (label.Append ?? _append).Split([' ', '\t'], StringSplitOptions.RemoveEmptyEntries).Where(word => word != "-")];
        foreach (string word in words.Where(word => word.StartsWith("initrd=", StringComparison.Ordinal)))
        {
            label.Initrds.AddRange(word[7..].Split(',', StringSplitOptions.RemoveEmptyEntries));
        }

        words.RemoveAll(word => word.StartsWith("initrd=", StringComparison.Ordinal));
        return new BootEntry(
            label.Title, Locate(kernel), [.. label.Initrds.Distinct().Take(BootEntry.MaxInitrds).Select(Locate)], string.Join(' ', words));
    }

    private VolumeFile Locate(string path) => new(_volume, path.StartsWith('/') ? path : $"{_folder}/{path}");

    private void Read(string text)
    {
        foreach (string line in text.Split('\n'))
        {
            string trimmed = line.Trim();
            int blank = trimmed.AsSpan().IndexOfAny(' ', '\t');
            string value = blank < 0 ? string.Empty : trimmed[(blank + 1)..].Trim();
            string key = (blank < 0 ? trimmed : trimmed[..blank]).ToUpperInvariant();
            if (key == "MENU")
            {
                TakeMenu(value);
            }
            else if (key == "INCLUDE")
            {
                Include(value);
            }
            else
            {
                Take(key, value);
            }
        }
    }

    private void Take(string key, string value)
    {
        Label? label = _labels.Count > 0 ? _labels[^1] : null;
        switch (key)
        {
            case "DEFAULT" or "ONTIMEOUT" when !value.EndsWith(".c32", StringComparison.OrdinalIgnoreCase):
                _default = value;
                break;
            case "LABEL" when _labels.Count < MaxEntries:
                _labels.Add(new Label { Name = value, Title = value });
                break;
            case "KERNEL" or "LINUX" when label != null:
                label.Kernel = value;
                break;
            case "INITRD" when label != null:
                label.Initrds.AddRange(value.Split(',', StringSplitOptions.RemoveEmptyEntries));
                break;
            case "APPEND" when label != null:
                label.Append = value;
                break;
            case "APPEND":
                _append = value;
                break;
        }
    }

    private void TakeMenu(string value)
    {
        string[] words = value.Split([' ', '\t'], 2, StringSplitOptions.RemoveEmptyEntries);
        switch (words)
        {
            case [string key, ..] when key.Equals("default", StringComparison.OrdinalIgnoreCase) && _labels.Count > 0:
                _chosen = _labels[^1];
                break;
            case [string key, string title] when key.Equals("label", StringComparison.OrdinalIgnoreCase) && _labels.Count > 0:
                _labels[^1].Title = title.Replace("^", string.Empty, StringComparison.Ordinal);
                break;
            case [string key, string path] when key.Equals("include", StringComparison.OrdinalIgnoreCase):
                Include(path);
                break;
        }
    }

    private void Include(string path)
    {
        if (++_includes <= MaxIncludes && Locate(path.Trim()) is { Volume.Files: { } files } file && files.ReadText(file.Path) is { } text)
        {
            Read(text);
        }
    }
}
