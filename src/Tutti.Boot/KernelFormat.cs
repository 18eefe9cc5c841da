using System.Buffers.Binary;

namespace Tutti.Boot;

/// <summary>The kernel files that can be booted.</summary>
public enum KernelFormat
{
    /// <summary>A Linux/x86 image with a setup header: /boot/vmlinuz.</summary>
    BzImage,

    /// <summary>An x86-64 ELF file: vmlinux.</summary>
    Elf,
}

/// <summary>Finds out what a kernel file is.</summary>
public static class KernelFormatDetector
{
    /// <summary>e_machine of x86-64. Source: System V ABI, AMD64 supplement.</summary>
    internal const ushort ElfMachineX64 = 62;

    private const uint ElfMagic = 0x464C_457F;

    /// <summary>File formats that people take for a kernel: first bytes, name, and what to do.</summary>
    private static readonly (byte[] Magic, string Name, string Remedy)[] Lookalikes =
    [
        ([0x1F, 0x8B], "a gzip-compressed file", "unpack it with gunzip first"),
        ([0x28, 0xB5, 0x2F, 0xFD], "a zstd-compressed file", "unpack it with unzstd first"),
        ([0xFD, 0x37, 0x7A, 0x58, 0x5A, 0x00], "an xz-compressed file", "unpack it with unxz first"),
        ([0x42, 0x5A, 0x68], "a bzip2-compressed file", "unpack it with bunzip2 first"),
        ([0x02, 0x21, 0x4C, 0x18], "an lz4-compressed file", "unpack it with unlz4 first"),
        ([0x04, 0x22, 0x4D, 0x18], "an lz4-compressed file", "unpack it with unlz4 first"),
        ("!<arch>\n"u8.ToArray(), "a Debian package", "unpack it with dpkg-deb -x and give its boot/vmlinuz file"),
        ("070701"u8.ToArray(), "a cpio archive", "give it as --initrd, and a kernel as --kernel"),
        ([0x51, 0x46, 0x49, 0xFB], "a qcow2 disk image", "give the kernel from inside it"),
    ];

    /// <summary>Says which loader a file is for.</summary>
    /// <exception cref="BootException">None: the message says what the file is, as far as its first bytes tell, and what to give instead.</exception>
    public static KernelFormat Detect(ReadOnlySpan<byte> file)
    {
        if (file.IsEmpty)
        {
            throw new BootException("The kernel file is empty: give a bzImage (such as /boot/vmlinuz) or a vmlinux.");
        }

        if (file.Length >= 4 && BinaryPrimitives.ReadUInt32LittleEndian(file) == ElfMagic)
        {
            CheckElf(file);
            return KernelFormat.Elf;
        }

        if (BzImage.HasSetupHeader(file))
        {
            return KernelFormat.BzImage;
        }

        throw NotAKernel(file);
    }

    private static void CheckElf(ReadOnlySpan<byte> file)
    {
        if (file.Length < 64)
        {
            throw new BootException($"The kernel is an ELF file that ends after {file.Length} bytes, inside its header: it is truncated, fetch or copy it again.");
        }

        bool bigEndian = file[5] == 2;
        ushort machine = bigEndian ? BinaryPrimitives.ReadUInt16BigEndian(file[18..]) : BinaryPrimitives.ReadUInt16LittleEndian(file[18..]);
        if (bigEndian || machine != ElfMachineX64)
        {
            throw WrongArchitecture(ElfMachineName(machine));
        }

        if (file[4] != 2)
        {
            throw WrongArchitecture("x86-64 in its 32-bit form (x32)");
        }
    }

    private static BootException NotAKernel(ReadOnlySpan<byte> file)
    {
        // Linux, Documentation/arch/arm64/booting: the header's magic number at 56; .../riscv/boot-image-header: at 48 and 56.
        if (HasMagic(file, 56, "ARMd"u8))
        {
            return WrongArchitecture("64-bit ARM (arm64)");
        }

        if (HasMagic(file, 48, "RISCV"u8) || HasMagic(file, 56, "RSC\u0005"u8))
        {
            return WrongArchitecture("RISC-V");
        }

        if (HasMagic(file, 0x24, [0x18, 0x28, 0x6F, 0x01]))
        {
            return WrongArchitecture("32-bit ARM");
        }

        foreach ((byte[] magic, string name, string remedy) in Lookalikes)
        {
            if (file.StartsWith(magic))
            {
                return new BootException($"The kernel file is {name}, not a kernel: {remedy}.");
            }
        }

        return file.Length < BzImage.SmallestHeaderEnd
            ? new BootException($"The kernel file is only {file.Length} bytes long, too short for a kernel: it is truncated or something else, give a bzImage (such as /boot/vmlinuz) or a vmlinux.")
            : new BootException("The kernel file is not a Linux kernel for x86-64: give a bzImage (such as /boot/vmlinuz) or a vmlinux.");
    }

    private static bool HasMagic(ReadOnlySpan<byte> file, int offset, ReadOnlySpan<byte> magic) =>
        file.Length >= offset + magic.Length && file.Slice(offset, magic.Length).SequenceEqual(magic);

    private static BootException WrongArchitecture(string architecture) =>
        new($"The kernel is for another architecture, {architecture}: give one for x86-64 (Debian calls it amd64).");

    private static string ElfMachineName(ushort machine) => machine switch
    {
        2 or 43 => "SPARC",
        3 => "32-bit x86 (i386)",
        8 => "MIPS",
        20 => "32-bit PowerPC",
        21 => "64-bit PowerPC",
        22 => "s390x",
        40 => "32-bit ARM",
        62 => "x86-64 in big-endian form",
        183 => "64-bit ARM (arm64)",
        243 => "RISC-V",
        258 => "LoongArch",
        _ => $"ELF machine number {machine}",
    };
}
