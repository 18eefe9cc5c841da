using System.Text;

namespace Tutti.Guests.Disks;

/// <summary>Tells what a partition holds that Tutti cannot look into, so that an error can name it.</summary>
internal static class FileSystemSignature
{
    private static readonly (int Offset, byte[] Bytes, string Name)[] s_known =
    [
        (0, "XFSB"u8.ToArray(), "XFS, which Tutti cannot read"),
        (0x1_0040, "_BHRfS_M"u8.ToArray(), "btrfs, which Tutti cannot read"),
        (0, [(byte)'L', (byte)'U', (byte)'K', (byte)'S', 0xBA, 0xBE], "encrypted with LUKS"),
        (512, "LABELONE"u8.ToArray(), "an LVM volume, which Tutti cannot read"),
        (0, "LABELONE"u8.ToArray(), "an LVM volume, which Tutti cannot read"),
        (1024, "LABELONE"u8.ToArray(), "an LVM volume, which Tutti cannot read"),
        (1536, "LABELONE"u8.ToArray(), "an LVM volume, which Tutti cannot read"),

        // Of the versions 0.90 and 1.0 the superblock is at the end: what is in such a mirror begins where the partition does, and is read.
        (4096, [0xFC, 0x4E, 0x2B, 0xA9, 1, 0, 0, 0], "a part of a RAID (mdadm), which Tutti cannot read"),
        (0, [0xFC, 0x4E, 0x2B, 0xA9, 1, 0, 0, 0], "a part of a RAID (mdadm), which Tutti cannot read"),
        (4120, [0xC6, 0x85, 0x73, 0xF6, 0x66, 0xCE, 0x90, 0xA9, 0xD9, 0x6A, 0x60, 0xCF, 0x80, 0x3D, 0xF7, 0xEF], "bcachefs, which Tutti cannot read"),
        (4120, [0xC6, 0x85, 0x73, 0xF6, 0x4E, 0x1A, 0x45, 0xCA, 0x82, 0x65, 0xF5, 0x7F, 0x48, 0xBA, 0x6D, 0x81], "bcache or bcachefs, which Tutti cannot read"),

        // The first pair of a ZFS label's list.
        (0x4014, [0, 0, 0, 7, .. "version\0"u8], "ZFS, which Tutti cannot read"),
        (0x8000, "JFS1"u8.ToArray(), "JFS, which Tutti cannot read"),
        (0x1_0034, "ReIsEr"u8.ToArray(), "ReiserFS, which Tutti cannot read"),
        (1024, [0xE2, 0xE1, 0xF5, 0xE0], "EROFS, which Tutti cannot read"),
        (0, "hsqs"u8.ToArray(), "squashfs, which Tutti cannot read"),
        (3, "EXFAT   "u8.ToArray(), "exFAT, which holds no Linux"),
        (1024, [0x10, 0x20, 0xF5, 0xF2], "F2FS, which Tutti cannot read"),
        (3, "NTFS    "u8.ToArray(), "NTFS, which holds no Linux"),
        (3, "-FVE-FS-"u8.ToArray(), "encrypted with BitLocker"),
        (0x8001, "CD001"u8.ToArray(), "an ISO 9660 image, which needs firmware to start"),
    ];

    /// <summary>What is there, or null for nothing that is known; swap and empty parts are nothing to speak of.</summary>
    public static (string Name, string Uuid, string Label)? Read(DiskPart part)
    {
        foreach ((int offset, byte[] bytes, string name) in s_known)
        {
            if (offset <= part.Size - bytes.Length && ReadBytes(part, offset, bytes.Length).AsSpan().SequenceEqual(bytes))
            {
                // Where the file system itself says what /dev/disk calls it: boot loaders look for that.
                return offset switch
                {
                    0 when name.StartsWith("XFS", StringComparison.Ordinal) => (name, ReadUuid(part, 32), ReadLabel(part, 108, 12)),
                    0x1_0040 => (name, ReadUuid(part, 0x1_0020), ReadLabel(part, 0x1_012B, 256)),
                    _ => (name, string.Empty, string.Empty),
                };
            }
        }

        return null;
    }

    private static string ReadUuid(DiskPart part, long offset) => new Guid(ReadBytes(part, offset, 16), bigEndian: true).ToString("D");

    private static string ReadLabel(DiskPart part, long offset, int length) => Encoding.UTF8.GetString(ReadBytes(part, offset, length)).Split('\0')[0];

    private static byte[] ReadBytes(DiskPart part, long offset, int length)
    {
        byte[] bytes = new byte[length];
        part.Read(offset, bytes);
        return bytes;
    }
}
