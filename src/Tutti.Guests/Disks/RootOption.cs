using System.Globalization;
using System.Text.RegularExpressions;

namespace Tutti.Guests.Disks;

/// <summary>
/// Makes a boot entry's words the kernel's command line: adds where the root is, if they do not say so and it is known, and a console on the first
/// serial port. What is there stays, "quiet" included.
/// </summary>
internal static partial class RootOption
{
    /// <summary>Root partition of x86-64 (Discoverable Partitions Specification, UAPI.2), which systemd finds with the firmware's help that is not here.</summary>
    private static readonly Guid s_rootType = new("4f68bce3-e8cd-4db1-96e7-fbcaf984b709");

    /// <summary>Words of RAM disks that know or find their root without root=: NixOS's, live systems', and one that verity protects.</summary>
    private static readonly string[] s_otherways = ["init=/nix/store/", "boot=live", "boot=casper", "roothash=", "netroot="];

    /// <param name="entry">What is started.</param>
    /// <param name="source">Where it was found, for people.</param>
    /// <param name="volumes">The disk's.</param>
    /// <param name="hasInitrd">Whether there is a RAM disk.</param>
    /// <param name="append">The user's own words, which come behind all this.</param>
    /// <exception cref="ImageException">Nobody says where the root is, and it cannot be known; the message asks the user.</exception>
    public static string Complete(BootEntry entry, string source, IReadOnlyList<DiskVolume> volumes, bool hasInitrd, string append)
    {
        List<string> words = Split(entry.Options);
        bool isUsers = HasRoot(Split(append));
        if (!HasRoot(words) && !isUsers)
        {
            AddRoot(words, entry, source, volumes, hasInitrd);
        }
        else if (!isUsers)
        {
            RenameDisk(words, volumes);
        }

        if (!words.Exists(word => word.StartsWith("console=ttyS0", StringComparison.Ordinal) || word.StartsWith("console=hvc0", StringComparison.Ordinal)))
        {
            // What stands behind "--" is init's.
            int end = words.IndexOf("--");
            words.Insert(end < 0 ? words.Count : end, "console=ttyS0,115200n8r");
        }

        return string.Join(' ', words);
    }

    [GeneratedRegex("^/dev/((([sh]|xv)da|nvme0n1p|mmcblk0p|(mapper/)?loop[0-9]{1,3}p|nbd[0-9]{1,3}p)[0-9]{1,4}|([sh]|xv)da|nvme0n1|mmcblk0)$", RegexOptions.CultureInvariant)]
    private static partial Regex FirstDisk();

    /// <summary>At blanks, as the kernel does: those between double quotes part nothing.</summary>
    private static List<string> Split(string text)
    {
        List<string> words = [];
        int start = 0;
        bool isQuoted = false;
        for (int i = 0; i <= text.Length; i++)
        {
            if (i < text.Length && (isQuoted || text[i] is not (' ' or '\t' or '\n' or '\r')))
            {
                isQuoted ^= text[i] == '"';
                continue;
            }

            if (i > start)
            {
                words.Add(text[start..i]);
            }

            start = i + 1;
        }

        return words;
    }

    private static bool HasRoot(List<string> words) =>
        words.Exists(word => word.Length > 5 && word.StartsWith("root=", StringComparison.Ordinal))
        || words.Exists(word => Array.Exists(s_otherways, other => word.StartsWith(other, StringComparison.Ordinal)));

    /// <summary>
    /// A system that was installed on another bus says so: root=/dev/sda1; one whose image was made through a loop device, that. Its only or first
    /// disk is this machine's first, whose name is vda. A partition that is known to be no root stays as it is said.
    /// </summary>
    private static void RenameDisk(List<string> words, IReadOnlyList<DiskVolume> volumes)
    {
        int at = words.FindLastIndex(word => word.StartsWith("root=", StringComparison.Ordinal));
        string device = at < 0 ? string.Empty : words[at][5..];
        if (!FirstDisk().IsMatch(device))
        {
            return;
        }

        string part = device[(device.AsSpan().LastIndexOfAnyExceptInRange('0', '9') + 1)..];
        part = device.EndsWith("/nvme0n1", StringComparison.Ordinal) || device.EndsWith("/mmcblk0", StringComparison.Ordinal) ? string.Empty : part;
        if (int.TryParse(part.Length == 0 ? "0" : part, NumberStyles.None, CultureInfo.InvariantCulture, out int number)
            && volumes.FirstOrDefault(volume => volume.Partition.Number == number) is { } root && (root.IsRoot || root.Files == null))
        {
            words[at] = "root=/dev/vda" + part;
        }
    }

    private static void AddRoot(List<string> words, BootEntry entry, string source, IReadOnlyList<DiskVolume> volumes, bool hasInitrd)
    {
        string access = "ro";
        string? where = null;
        List<DiskVolume> roots = [.. volumes.Where(volume => volume.IsRoot)];
        List<DiskPartition> marked = [.. volumes.Where(volume => volume.Partition.Type == s_rootType).Select(volume => volume.Partition)];
        if ((roots.Find(root => root == entry.Kernel.Volume) ?? (roots.Count == 1 ? roots[0] : null)) is { } root)
        {
            // Only an initial RAM disk can look for a file system's number; the kernel itself knows partitions'.
            where = hasInitrd && root.Uuid.Length > 0 ? $"UUID={root.Uuid}" : root.Partition.Id is { } id ? $"PARTUUID={id}" : "/dev/vda";
        }
        else if (roots.Count == 0 && marked.Count == 1)
        {
            // systemd mounts such a root for writing, as nothing else would.
            (where, access) = ($"PARTUUID={marked[0].Id}", "rw");
        }

        if (where == null)
        {
            throw new ImageException(
                $"Where the root file system is, nobody says: not the disk's boot entry '{entry.Title}' ({source}), and {Describe(roots, volumes)}. Name it with --append root=...{Suggest(roots, volumes)}");
        }

        words.RemoveAll(word => word == "root=");
        words.Insert(0, "root=" + where);
        if (!words.Contains("ro") && !words.Contains("rw"))
        {
            words.Insert(1, access);
        }
    }

    private static string Describe(List<DiskVolume> roots, IReadOnlyList<DiskVolume> volumes)
    {
        if (roots.Count > 1)
        {
            return $"there are several systems: {string.Join(", ", roots.Take(4).Select(root => root.Name))}";
        }

        List<string> unread = [.. volumes.Where(volume => volume.Unread.Length > 0).Take(4).Select(volume => volume.Unread)];
        return unread.Count > 0 ? string.Join(", ", unread) : "no file system of the disk holds a system";
    }

    /// <summary>How the root could be named, where partitions have names.</summary>
    private static string Suggest(List<DiskVolume> roots, IReadOnlyList<DiskVolume> volumes)
    {
        List<string> names = [.. (roots.Count > 1 ? roots : volumes.Where(volume => volume.Files == null)).Where(volume => volume.Uuid.Length > 0).Take(4)
            .Select(volume => string.Create(CultureInfo.InvariantCulture, $"root=UUID={volume.Uuid} for {volume.Name}"))];
        return names.Count > 0 ? $" ({string.Join(", ", names)})." : string.Empty;
    }
}
