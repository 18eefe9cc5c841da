namespace Tutti.Guests.Disks;

/// <summary>A partition, or a disk without partitions, and what lies there.</summary>
/// <param name="Partition">Where.</param>
/// <param name="Files">Its files; null where Tutti cannot read them.</param>
/// <param name="Uuid">What /dev/disk/by-uuid calls it; empty where that is not known.</param>
/// <param name="Label">What /dev/disk/by-label calls it; empty for none.</param>
/// <param name="Unread">Its name and why its files cannot be read, for people; empty for nothing to speak of.</param>
internal sealed record DiskVolume(DiskPartition Partition, IFileSystem? Files, string Uuid, string Label, string Unread)
{
    private bool? _isRoot;

    /// <summary>For people.</summary>
    public string Name => Partition.Name;

    /// <summary>Whether a system starts from here: its folders are there, which no boot partition has.</summary>
    public bool IsRoot => _isRoot ??= Files is not (null or FatFileSystem)
        && Files.Find("/etc") == FileKind.Folder
        && Array.Exists(["/usr", "/bin", "/sbin", "/lib"], folder => Files.Find(folder) == FileKind.Folder);

    /// <summary>The machine's number there (machine-id(5)); empty for none.</summary>
    public string MachineId => Files?.ReadText("/etc/machine-id")?.Trim() ?? string.Empty;

    /// <summary>All of a disk. What is damaged can't be read; that does not hide the others.</summary>
    /// <exception cref="ImageException">The disk itself cannot be read, or costs more than its budget.</exception>
    public static List<DiskVolume> Open(DiskPart disk)
    {
        List<DiskVolume> volumes = [];
        foreach (DiskPartition partition in PartitionTable.Read(disk))
        {
            try
            {
                volumes.Add(Open(partition, disk.Slice(partition.Offset, partition.Size)));
            }
            catch (ImageException e) when (e is not ReadBudgetException)
            {
                volumes.Add(new DiskVolume(partition, null, string.Empty, string.Empty, $"{partition.Name}: {e.Message.TrimEnd('.')}"));
            }
        }

        return volumes;
    }

    private static DiskVolume Open(DiskPartition partition, DiskPart part)
    {
        IFileSystem? files = (IFileSystem?)ExtFileSystem.TryOpen(part) ?? FatFileSystem.TryOpen(part);
        return files != null
            ? new DiskVolume(partition, files, files.Uuid, files.Label, string.Empty)
            : FileSystemSignature.Read(part) is { } sign
            ? new DiskVolume(partition, null, sign.Uuid, sign.Label, $"{partition.Name} is {sign.Name}")
            : new DiskVolume(partition, null, string.Empty, string.Empty, string.Empty);
    }
}

/// <summary>A file of one of a disk's volumes.</summary>
/// <param name="Volume">Null for a device that is no partition of this disk.</param>
/// <param name="Path">From the volume's root.</param>
internal readonly record struct VolumeFile(DiskVolume? Volume, string Path);
