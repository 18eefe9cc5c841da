using System.Globalization;
using System.Text;
using Tutti.Guests.Disks;

namespace Tutti.Guests.Tests.Disks;

/// <summary>A disk with partitions that sfdisk makes, and in them what stock tools made.</summary>
internal sealed class DiskLayout : IDisposable
{
    public const string Linux = "0FC63DAF-8483-4772-8E79-3D69D8477DE4";
    public const string Efi = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";
    public const string Root = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709";

    private readonly List<(int Number, string Type, byte[] Bytes)> _parts = [];
    private readonly string _folder = Directory.CreateTempSubdirectory("tutti-layout").FullName;

    public static string? Missing =>
        ExtImage.Missing ?? FatImage.Missing ?? (File.Exists("/usr/sbin/sfdisk") || File.Exists("/sbin/sfdisk") ? null : "sfdisk is not installed (Debian: fdisk)");

    /// <summary>What the kernel calls a partition of these.</summary>
    public static string PartitionId(int number) => string.Create(CultureInfo.InvariantCulture, $"{number:x8}-aaaa-bbbb-cccc-dddddddddddd");

    /// <summary>A partition with ext4.</summary>
    public DiskLayout Ext(int number, string uuid, string type, params (string Path, string Text)[] files)
    {
        using ExtImage image = new();
        foreach ((string path, string text) in files)
        {
            image.Write(path, text);
        }

        image.Make($"-t ext4 -b 1024 -U {uuid}", "6M");
        return Raw(number, type, image.Load().Bytes);
    }

    /// <summary>The firmware's partition.</summary>
    public DiskLayout Fat(int number, params (string Path, byte[] Bytes)[] files)
    {
        using FatImage image = new();
        foreach ((string path, byte[] bytes) in files)
        {
            image.Write(path, bytes);
        }

        image.Make("-F 32 -s 1", 36_000);
        return Raw(number, Efi, image.Load().Bytes);
    }

    public DiskLayout Fat(int number, params (string Path, string Text)[] files) => Fat(number, [.. files.Select(file => (file.Path, Encoding.UTF8.GetBytes(file.Text)))]);

    /// <summary>What Tutti can't read: only what tells its kind, and its number.</summary>
    public DiskLayout Btrfs(int number, string uuid, string type = Linux)
    {
        byte[] part = new byte[1 << 20];
        "_BHRfS_M"u8.CopyTo(part.AsSpan(0x1_0040));
        new Guid(uuid).TryWriteBytes(part.AsSpan(0x1_0020), bigEndian: true, out _);
        return Raw(number, type, part);
    }

    public DiskLayout Xfs(int number, string uuid)
    {
        byte[] part = new byte[1 << 20];
        "XFSB"u8.CopyTo(part);
        new Guid(uuid).TryWriteBytes(part.AsSpan(32), bigEndian: true, out _);
        return Raw(number, Linux, part);
    }

    public DiskLayout Lvm(int number)
    {
        byte[] part = new byte[1 << 20];
        "LABELONE"u8.CopyTo(part.AsSpan(512));
        return Raw(number, "E6D6D379-F507-44C2-A23C-238F2A3DF928", part);
    }

    public DiskLayout Raw(int number, string type, byte[] bytes)
    {
        _parts.Add((number, type, bytes));
        return this;
    }

    /// <summary>Starts it, as `tutti run DISK` would.</summary>
    public DiskKernel Find(string append = "", string? bootEntry = null, bool isMbr = false)
    {
        string file = Path.Combine(_folder, "disk");
        StringBuilder script = new(isMbr ? "label: dos\nlabel-id: 0x0badcafe\n" : "label: gpt\n");
        long at = 2048;
        foreach ((int number, string type, byte[] bytes) in _parts)
        {
            long sectors = (bytes.Length + 511) / 512;
            script.Append(CultureInfo.InvariantCulture, $"{file}{number} : start={at}, size={sectors}, type={(isMbr ? type == Efi ? "ef" : "83" : $"{type}, uuid={PartitionId(number)}")}\n");
            at += (sectors + 2047) / 2048 * 2048;
        }

        using (FileStream disk = File.Create(file))
        {
            disk.SetLength((at + 2048) * 512);
        }

        ExtImage.Run("sfdisk", ["-q", file], script.ToString());
        using (FileStream disk = File.OpenWrite(file))
        {
            at = 2048;
            foreach ((_, _, byte[] bytes) in _parts)
            {
                disk.Position = at * 512;
                disk.Write(bytes);
                at += (((bytes.Length + 511) / 512) + 2047) / 2048 * 2048;
            }
        }

        using RawDiskReader reader = new(file);
        return DiskKernel.Find(reader, new ReadBudget(256 << 20), append, bootEntry);
    }

    /// <summary>The line that asks, where the disk does not say enough.</summary>
    public string Ask(string append = "", string? bootEntry = null, bool isMbr = false)
    {
        string message = Assert.Throws<ImageException>(() => Find(append, bootEntry, isMbr)).Message;
        Assert.DoesNotContain('\n', message);
        return message;
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);
}

[AttributeUsage(AttributeTargets.Method)]
internal sealed class LayoutFactAttribute : FactAttribute
{
    public LayoutFactAttribute() => Skip = DiskLayout.Missing;
}
