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
        (1024, [0x10, 0x20, 0xF5, 0xF2], "F2FS, which Tutti cannot read"),
        (3, "NTFS    "u8.ToArray(), "NTFS, which holds no Linux"),
        (3, "-FVE-FS-"u8.ToArray(), "encrypted with BitLocker"),
        (0x8001, "CD001"u8.ToArray(), "an ISO 9660 image, which needs firmware to start"),
    ];

    /// <summary>A few words, or null for nothing that is known; FAT, swap and empty parts are nothing to speak of.</summary>
    public static string? Name(DiskPart part)
    {
        foreach ((int offset, byte[] bytes, string name) in s_known)
        {
            byte[] there = new byte[bytes.Length];
            if (offset <= part.Size - there.Length)
            {
                part.Read(offset, there);
                if (there.AsSpan().SequenceEqual(bytes))
                {
                    return name;
                }
            }
        }

        return null;
    }
}
