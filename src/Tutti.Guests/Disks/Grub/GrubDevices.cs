using System.Globalization;

namespace Tutti.Guests.Disks.Grub;

/// <summary>What GRUB calls a disk's partitions: (hd0,gpt2), (hd0,msdos1), (hd0,1), or (hd0) for a disk without any.</summary>
internal sealed class GrubDevices(IReadOnlyList<DiskVolume> volumes)
{
    public IReadOnlyList<DiskVolume> Volumes => volumes;

    public static string Name(DiskVolume volume) =>
        volume.Partition.Number == 0 ? "hd0" : string.Create(CultureInfo.InvariantCulture, $"hd0,{volume.Partition.Number}");

    /// <summary>The volume of a name without its brackets; null for another disk, for LVM, and for what is not there.</summary>
    public DiskVolume? Find(string device)
    {
        int comma = device.IndexOf(',', StringComparison.Ordinal);
        string disk = comma < 0 ? device : device[..comma];
        ReadOnlySpan<char> part = comma < 0 ? "0" : device.AsSpan(comma + 1).TrimStart("abcdefghijklmnopqrstuvwxyz");
        return disk == "hd0" && int.TryParse(part, NumberStyles.None, CultureInfo.InvariantCulture, out int number)
            ? volumes.FirstOrDefault(volume => volume.Partition.Number == number)
            : null;
    }

    /// <summary>The file of a path that may begin with a device: (hd0,1)/vmlinuz.</summary>
    /// <param name="path">As the script has it.</param>
    /// <param name="root">The device of a path without one.</param>
    public VolumeFile Locate(string path, string root)
    {
        string device = root;
        if (path.StartsWith('(') && path.IndexOf(')', StringComparison.Ordinal) is int end and > 0)
        {
            (device, path) = (path[1..end], path[(end + 1)..]);
        }

        return new VolumeFile(Find(device), path);
    }

    /// <summary>The first volume that is wanted; a partition that cannot be read can be named, too.</summary>
    public DiskVolume? Search(GrubSearchKind kind, string wanted) => volumes.FirstOrDefault(volume => kind switch
    {
        GrubSearchKind.Uuid => wanted.Length > 0 && volume.Uuid.Equals(wanted, StringComparison.OrdinalIgnoreCase),
        GrubSearchKind.Label => wanted.Length > 0 && volume.Label == wanted,
        _ => volume.Files?.Find(wanted) != null,
    });
}

/// <summary>What search looks for.</summary>
internal enum GrubSearchKind
{
    File,
    Label,
    Uuid,
}
