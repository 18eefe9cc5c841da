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
