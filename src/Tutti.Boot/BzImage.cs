using System.Buffers.Binary;

namespace Tutti.Boot;

/// <summary>
/// A Linux/x86 kernel image with its setup header, checked. Field names and offsets are those of the Linux kernel's
/// Documentation/arch/x86/boot.rst ("The Real-Mode Kernel Header").
/// </summary>
public sealed class BzImage
{
    /// <summary>Offset of the setup header in the file and in boot_params alike.</summary>
    internal const int SetupHeaderStart = 0x1F1;

    /// <summary>End of kernel_info_offset's predecessor init_size, the last field that loading needs.</summary>
    internal const int SmallestHeaderEnd = 0x264;

    /// <summary>Where a 64-bit entry lies in <see cref="Payload"/>.</summary>
    internal const int EntryOffset64 = 0x200;

    private const int SectorSize = 512;
    private const ushort LoadFlagKernel64 = 1 << 0;
    private const ushort LoadFlagAbove4G = 1 << 1;
    private readonly ReadOnlyMemory<byte> _file;

    private BzImage(ReadOnlyMemory<byte> file, int payloadStart, int headerEnd)
    {
        _file = file;
        Payload = file[payloadStart..];
        SetupHeader = file[SetupHeaderStart..headerEnd];
    }

    /// <summary>Protocol version, major in the high byte.</summary>
    public ushort Version => U16(0x206);

    /// <summary>The setup header, as it goes into boot_params at 0x1F1.</summary>
    public ReadOnlyMemory<byte> SetupHeader { get; }

    /// <summary>XLF_KERNEL_64: the payload has a 64-bit entry at 0x200 besides the 32-bit one at 0.</summary>
    public bool HasEntry64 => (U16(0x236) & LoadFlagKernel64) != 0;

    /// <summary>The part that goes to <see cref="PreferredAddress"/>, its 32-bit entry first.</summary>
    public ReadOnlyMemory<byte> Payload { get; }

    /// <summary>initrd_addr_max: highest address that a byte of the RAM disk may have.</summary>
    public uint InitrdAddressMax => U32(0x22C);

    /// <summary>XLF_CAN_BE_LOADED_ABOVE_4G: the RAM disk may lie anywhere.</summary>
    public bool CanBeLoadedAbove4G => (U16(0x236) & LoadFlagAbove4G) != 0;

    /// <summary>cmdline_size: longest command line in bytes, without its NUL.</summary>
    public uint CommandLineSize => U32(0x238);

    /// <summary>pref_address: where the kernel runs. One that is loaded lower moves itself here, so lower saves nothing.</summary>
    public ulong PreferredAddress => BinaryPrimitives.ReadUInt64LittleEndian(_file.Span[0x258..]);

    /// <summary>init_size: bytes from the load address that the kernel uses before it reads its memory map.</summary>
    public uint InitSize => U32(0x260);

    /// <summary>Whether a file has the marks of a setup header, of any version.</summary>
    public static bool HasSetupHeader(ReadOnlySpan<byte> file) =>
        file.Length >= SmallestHeaderEnd && file[0x1FE] == 0x55 && file[0x1FF] == 0xAA && file.Slice(0x202, 4).SequenceEqual("HdrS"u8);

    /// <summary>Reads and checks a kernel file.</summary>
    /// <exception cref="BootException">It is truncated, too old, or contradicts itself.</exception>
    public static BzImage Parse(ReadOnlyMemory<byte> file)
    {
        ReadOnlySpan<byte> bytes = file.Span;
        if (!HasSetupHeader(bytes))
        {
            throw new BootException("The kernel file has no Linux/x86 setup header: give a bzImage (such as /boot/vmlinuz).");
        }

        ushort version = BinaryPrimitives.ReadUInt16LittleEndian(bytes[0x206..]);
        if (version < 0x20C)
        {
            throw new BootException($"The kernel speaks boot protocol {version >> 8}.{version & 0xFF:D2}, older than 2.12: give Linux 3.8 or newer.");
        }

        // The header ends where the jump over it lands: its offset byte at 0x201 counts from 0x202.
        int headerEnd = 0x202 + bytes[0x201];
        int setupSectors = bytes[SetupHeaderStart] == 0 ? 4 : bytes[SetupHeaderStart];
        int payloadStart = (setupSectors + 1) * SectorSize;
        if (headerEnd < SmallestHeaderEnd || headerEnd > payloadStart)
        {
            throw new BootException("The kernel's setup header has an impossible length: the file is damaged, fetch or copy it again.");
        }

        long payloadSize = BinaryPrimitives.ReadUInt32LittleEndian(bytes[0x1F4..]) * 16L;
        // The header counts 16-byte units, rounded up; not every file is filled up to that.
        if (payloadStart + Math.Max(payloadSize - 15, EntryOffset64 + 1) > bytes.Length)
        {
            throw new BootException($"The kernel file is truncated: its header speaks of {payloadStart + payloadSize} bytes and it has {bytes.Length}, fetch or copy it again.");
        }

        return new BzImage(file, payloadStart, headerEnd);
    }

    private ushort U16(int offset) => BinaryPrimitives.ReadUInt16LittleEndian(_file.Span[offset..]);

    private uint U32(int offset) => BinaryPrimitives.ReadUInt32LittleEndian(_file.Span[offset..]);
}
