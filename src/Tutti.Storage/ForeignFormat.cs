using Tutti.Storage.Files;

namespace Tutti.Storage;

/// <summary>
/// Image formats, compressed files and archives that are known by sight, so that nobody takes them for a disk's bytes: the guest would see no disk, and
/// its first write would destroy them.
/// </summary>
internal sealed class ForeignFormat
{
    private const int HeaderLength = 1024;
    private const int FooterLength = 512;
    private const string Convert = "convert it with 'qemu-img convert -O qcow2'";
    private const string TakeOut = "it holds files: take the disk out of it";

    /// <summary>Bytes at an offset from the start, or from the end where that is negative.</summary>
    private static readonly (int Offset, byte[] Bytes, ForeignFormat Format)[] s_known =
    [
        (0, "KDMV"u8.ToArray(), new("vmdk", "a VMDK image (VMware)", Convert)),
        (0, "COWD"u8.ToArray(), new("vmdk", "a VMDK image (VMware ESX)", Convert)),
        (0x40, [0x7F, 0x10, 0xDA, 0xBE], new("vdi", "a VDI image (VirtualBox)", Convert)),
        (0, "vhdxfile"u8.ToArray(), new("vhdx", "a VHDX image (Hyper-V)", Convert)),
        (0, "conectix"u8.ToArray(), new("vhd", "a VHD image (Virtual PC, Hyper-V, Azure)", Convert)),
        // A fixed one is a disk's bytes with a footer behind; old programs wrote a byte less.
        (-512, "conectix"u8.ToArray(), new("vhd", "a VHD image (Virtual PC, Hyper-V, Azure)", Convert)),
        (-511, "conectix"u8.ToArray(), new("vhd", "a VHD image (Virtual PC, Hyper-V, Azure)", Convert)),
        (0, "QED\0"u8.ToArray(), new("qed", "a QED image (QEMU)", Convert)),
        (0, "WithoutFreeSpace"u8.ToArray(), new("parallels", "a Parallels image", Convert)),
        (0, "WithouFreSpacExt"u8.ToArray(), new("parallels", "a Parallels image", Convert)),
        (-512, "koly"u8.ToArray(), new("dmg", "a DMG image (Apple)", Convert)),
        (0, "sprs"u8.ToArray(), new("sparseimage", "a sparse image of Apple's", "convert it there with 'hdiutil convert -format UDTO'")),
        (0, "shdw"u8.ToArray(), new("asif", "an ASIF image (Apple)", "convert it there with 'diskutil image create from'")),
        (0, "Bochs Virtual HD Image"u8.ToArray(), new("bochs", "a Bochs image", Convert)),
        (0, "#!/bin/sh\n#V2.0 Format\n"u8.ToArray(), new("cloop", "a cloop image", Convert)),
        (0, [0x3A, 0xFF, 0x26, 0xED], new("simg", "a sparse image of Android's", "convert it with 'simg2img'")),
        (0, [(byte)'E', (byte)'V', (byte)'F', 9, 13, 10, 0xFF, 0], new("ewf", "an EWF image (EnCase)", "convert it with 'ewfexport -f raw'")),
        (0, "MSWIM\0\0\0"u8.ToArray(), new("wim", "a WIM archive (Windows)", TakeOut)),
        (0, "VMA\0"u8.ToArray(), new("vma", "a VMA archive (Proxmox)", "take the disk out of it with 'vma extract'")),
        (0, [0xFD, (byte)'7', (byte)'z', (byte)'X', (byte)'Z', 0], Compressed("xz", "xz -d")),
        (0, [0x1F, 0x8B, 8], Compressed("gzip", "gzip -d")),
        (0, [0x28, 0xB5, 0x2F, 0xFD], Compressed("zstd", "zstd -d")),
        (0, [0x04, 0x22, 0x4D, 0x18], Compressed("lz4", "lz4 -d")),
        (0, "LZIP"u8.ToArray(), Compressed("lzip", "lzip -d")),
        (0, [(byte)'7', (byte)'z', 0xBC, 0xAF, 0x27, 0x1C], new("7z", "a 7z archive", TakeOut)),
        (0, "Rar!\x1A\x07"u8.ToArray(), new("rar", "a RAR archive", TakeOut)),
        (0, "PK\x03\x04"u8.ToArray(), new("zip", "a ZIP archive", "unpack it first, with 'unzip'")),
    ];

    private static readonly ForeignFormat s_bzip2 = Compressed("bzip2", "bzip2 -d");
    private static readonly ForeignFormat s_descriptor = new("vmdk", "a VMDK image (VMware), whose bytes are in other files", Convert);
    private static readonly ForeignFormat s_ova = new("ova", "an OVA archive", "take the disk out of it with 'tar -xf', then convert that with 'qemu-img convert -O qcow2'");

    private ForeignFormat(string name, string description, string advice) => (Name, Description, Advice) = (name, description, advice);

    /// <summary>A short name, QEMU's where it has one.</summary>
    public string Name { get; }

    /// <summary>What it is, with its article.</summary>
    public string Description { get; }

    /// <summary>What to do with it.</summary>
    public string Advice { get; }

    /// <summary>What a file is by its first and last bytes, if it is of a kind that is known here; null for all others.</summary>
    /// <exception cref="Host.HostException">The storage fails.</exception>
    public static ForeignFormat? Find(BlockFile file)
    {
        byte[] header = new byte[HeaderLength];
        byte[] footer = new byte[FooterLength];
        long length = file.Length;
        file.Read(header, 0);
        if (length >= FooterLength)
        {
            file.Read(footer, length - FooterLength);
        }

        return Find(header, footer);
    }

    /// <summary>The same for the bytes.</summary>
    /// <param name="header">The first 1024 bytes; zeroes behind the end.</param>
    /// <param name="footer">The last 512 bytes; zeroes where there are fewer.</param>
    internal static ForeignFormat? Find(ReadOnlySpan<byte> header, ReadOnlySpan<byte> footer)
    {
        foreach ((int offset, byte[] bytes, ForeignFormat format) in s_known)
        {
            ReadOnlySpan<byte> there = offset >= 0 ? header[offset..] : footer[(footer.Length + offset)..];
            if (there.StartsWith(bytes))
            {
                return format;
            }
        }

        return IsBzip2(header) ? s_bzip2 : IsDescriptor(header) ? s_descriptor : IsOva(header) ? s_ova : null;
    }

    /// <summary>Why a file of this format is not used, and what to do, in one line.</summary>
    public DiskException Refuse(string path) => new($"disk '{path}' is {Description}, which is not supported: {Advice}; if its bytes are the disk, say format=raw");

    private static ForeignFormat Compressed(string name, string program) => new(name, $"compressed with {name}", $"unpack it first, with '{program}'");

    /// <summary>"BZh", a digit, and the number that begins a block, or the one that ends an empty file.</summary>
    private static bool IsBzip2(ReadOnlySpan<byte> header) => header.StartsWith("BZh"u8) && header[3] is >= (byte)'1' and <= (byte)'9'
        && (header[4..].StartsWith((ReadOnlySpan<byte>)[0x31, 0x41, 0x59, 0x26, 0x53, 0x59]) || header[4..].StartsWith((ReadOnlySpan<byte>)[0x17, 0x72, 0x45, 0x38, 0x50, 0x90]));

    /// <summary>The text that names the files of a VMDK, behind blank lines and comments.</summary>
    private static bool IsDescriptor(ReadOnlySpan<byte> header)
    {
        foreach (Range range in header.Split((byte)'\n'))
        {
            ReadOnlySpan<byte> line = header[range].Trim(" \t\r"u8);
            if (!line.IsEmpty && line[0] != '#')
            {
                return false;
            }

            if (System.Text.Ascii.EqualsIgnoreCase(line, "# Disk DescriptorFile"u8))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>A tar archive whose first file describes a machine. Other archives are left alone: guests write them to bare disks.</summary>
    private static bool IsOva(ReadOnlySpan<byte> header) =>
        header[257..].StartsWith("ustar"u8) && header[..Math.Max(0, header[..100].IndexOf((byte)0))].EndsWith(".ovf"u8);
}
