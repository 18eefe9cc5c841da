using System.Buffers.Binary;
using System.Text;

namespace Tutti.Boot.Tests;

/// <summary>Kernel files of the shape that real ones have, written field by field.</summary>
internal static class KernelFiles
{
    public const ulong PreferredAddress = 0x100_0000;
    public const uint InitSize = 0x80_0000;
    public const int PayloadSize = 0x4000;
    public const int SetupSectors = 7;
    public const uint PvhEntry = 0x100_0400;

    /// <summary>Boot protocol 2.15, 64-bit entry, loadable above 4 GiB, like Debian's cloud kernel but small.</summary>
    public static byte[] BzImage()
    {
        byte[] file = new byte[((SetupSectors + 1) * 512) + PayloadSize];
        Span<byte> f = file;
        f[0x1F1] = SetupSectors;
        BinaryPrimitives.WriteUInt32LittleEndian(f[0x1F4..], PayloadSize / 16);
        f[0x1FE] = 0x55;
        f[0x1FF] = 0xAA;
        f[0x200] = 0xEB;
        f[0x201] = 0x6A;
        "HdrS"u8.CopyTo(f[0x202..]);
        BinaryPrimitives.WriteUInt16LittleEndian(f[0x206..], 0x20F);
        f[0x211] = 1; // LOADED_HIGH
        BinaryPrimitives.WriteUInt32LittleEndian(f[0x22C..], 0x7FFF_FFFF);
        BinaryPrimitives.WriteUInt32LittleEndian(f[0x230..], 0x20_0000);
        f[0x234] = 1;
        f[0x235] = 21;
        BinaryPrimitives.WriteUInt16LittleEndian(f[0x236..], 0x7F);
        BinaryPrimitives.WriteUInt32LittleEndian(f[0x238..], 2047);
        BinaryPrimitives.WriteUInt64LittleEndian(f[0x250..], 0xDEAD_BEEF); // a list of nonsense that must not reach the guest
        BinaryPrimitives.WriteUInt64LittleEndian(f[0x258..], PreferredAddress);
        BinaryPrimitives.WriteUInt32LittleEndian(f[0x260..], InitSize);
        for (int i = (SetupSectors + 1) * 512; i < file.Length; i++)
        {
            file[i] = (byte)(i * 7);
        }

        return file;
    }

    /// <summary>ELF64 for x86-64 with one segment at 16 MiB (0x800 bytes in the file, 0x2000 in memory) and a PVH note.</summary>
    public static byte[] Vmlinux()
    {
        byte[] file = new byte[0x2000];
        Span<byte> f = file;
        ReadOnlySpan<byte> ident = [0x7F, (byte)'E', (byte)'L', (byte)'F', 2, 1, 1];
        ident.CopyTo(f);
        BinaryPrimitives.WriteUInt16LittleEndian(f[16..], 2);
        BinaryPrimitives.WriteUInt16LittleEndian(f[18..], 62);
        BinaryPrimitives.WriteUInt64LittleEndian(f[24..], 0xFFFF_FFFF_8100_0000);
        BinaryPrimitives.WriteUInt64LittleEndian(f[32..], 64);
        BinaryPrimitives.WriteUInt16LittleEndian(f[54..], 56);
        BinaryPrimitives.WriteUInt16LittleEndian(f[56..], 2);
        ProgramHeader(f[64..], 1, 0x1000, PreferredAddress, 0x800, 0x2000, 0x1000);
        ProgramHeader(f[120..], 4, 0x400, 0, 20 + 20, 20 + 20, 4);

        // A note of somebody else first: the search must walk on.
        Note(f[0x400..], "GNU\0", 3, 0x1234_5678);
        Note(f[0x414..], "Xen\0", 18, PvhEntry);
        f.Slice(0x1000, 0x800).Fill(0xC3);
        return file;
    }

    public static void ProgramHeader(Span<byte> header, uint type, ulong offset, ulong address, ulong fileSize, ulong memorySize, ulong alignment)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(header, type);
        BinaryPrimitives.WriteUInt64LittleEndian(header[8..], offset);
        BinaryPrimitives.WriteUInt64LittleEndian(header[24..], address);
        BinaryPrimitives.WriteUInt64LittleEndian(header[32..], fileSize);
        BinaryPrimitives.WriteUInt64LittleEndian(header[40..], memorySize);
        BinaryPrimitives.WriteUInt64LittleEndian(header[48..], alignment);
    }

    private static void Note(Span<byte> note, string name, uint type, uint value)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(note, 4);
        BinaryPrimitives.WriteUInt32LittleEndian(note[4..], 4);
        BinaryPrimitives.WriteUInt32LittleEndian(note[8..], type);
        Encoding.ASCII.GetBytes(name, note[12..]);
        BinaryPrimitives.WriteUInt32LittleEndian(note[16..], value);
    }
}
