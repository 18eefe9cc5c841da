using System.Buffers.Binary;
using System.Text;

namespace Tutti.Cli.Tests;

/// <summary>Guests of a few instructions in a PVH ELF file, whose entry is in 32-bit protected mode. Source: Xen's "x86/HVM direct boot ABI".</summary>
internal sealed class TinyKernel
{
    private const uint LoadAddress = 0x10_0000;
    private const int CodeOffset = 0x1000;
    private const int NoteOffset = 0x200;
    private readonly List<byte> _code = [];

    /// <summary>Sends text to the first serial port.</summary>
    public TinyKernel Print(string text)
    {
        MoveDx(0x3F8);
        foreach (byte value in Encoding.ASCII.GetBytes(text))
        {
            _code.AddRange([0xB0, value, 0xEE]); // mov al, value; out dx, al
        }

        return this;
    }

    /// <summary>Sends the command line to the first serial port, a line's end, and the bytes of the RAM disk.</summary>
    public TinyKernel PrintBoot()
    {
        MoveDx(0x3F8);
        _code.AddRange(
        [
            0x8B, 0x73, 0x18, // mov esi, [ebx+24]: cmdline_paddr
            0xAC, 0x84, 0xC0, // next: lodsb; test al, al
            0x74, 0x03,       // jz behind
            0xEE, 0xEB, 0xF8, // out dx, al; jmp next
            0xB0, 0x0A, 0xEE, // mov al, '\n'; out dx, al
            0x8B, 0x73, 0x10, // mov esi, [ebx+16]: modlist_paddr
            0x8B, 0x4E, 0x08, // mov ecx, [esi+8]: its size
            0x8B, 0x36,       // mov esi, [esi]: its address
            0xAC, 0xEE,       // byte: lodsb; out dx, al
            0xE2, 0xFC,       // loop byte
        ]);
        return this;
    }

    /// <summary>Writes S5 and SLP_EN to PM1a_CNT.</summary>
    public TinyKernel PowerOff()
    {
        MoveDx(0x604);
        _code.AddRange([0x66, 0xB8, 0x00, 0x34, 0x66, 0xEF]); // mov ax, 0x3400; out dx, ax
        return Halt();
    }

    public TinyKernel Reset()
    {
        MoveDx(0xCF9);
        _code.AddRange([0xB0, 0x06, 0xEE]);
        return Halt();
    }

    /// <summary>Raises a fault with an empty interrupt descriptor table.</summary>
    public TinyKernel TripleFault()
    {
        _code.AddRange([0x0F, 0x01, 0x1D, 0x00, 0x00, 0x50, 0x00, 0x0F, 0x0B]); // lidt [0x500000], all zero; ud2
        return this;
    }

    /// <summary>Asserts RTS, so that input arrives, and prints each byte of it.</summary>
    public TinyKernel Echo()
    {
        MoveDx(0x3FC);
        _code.AddRange([0xB0, 0x03, 0xEE]);
        byte[] loop =
        [
            0xBA, 0xFD, 0x03, 0x00, 0x00, // again: mov edx, 0x3FD
            0xEC, 0xA8, 0x01,             // in al, dx; test al, 1
            0x74, 0xFB,                   // jz (in al, dx)
            0xBA, 0xF8, 0x03, 0x00, 0x00, // mov edx, 0x3F8
            0xEC, 0xEE,                   // in al, dx; out dx, al
            0xEB, 0xED,                   // jmp again
        ];
        _code.AddRange(loop);
        return this;
    }

    public TinyKernel Halt()
    {
        _code.AddRange([0xFA, 0xF4, 0xEB, 0xFD]); // cli; again: hlt; jmp again
        return this;
    }

    public byte[] ToFile()
    {
        byte[] file = new byte[CodeOffset + _code.Count];
        Span<byte> header = file;
        new byte[] { 0x7F, (byte)'E', (byte)'L', (byte)'F', 2, 1, 1 }.CopyTo(header);
        Put16(header, 16, 2);       // ET_EXEC
        Put16(header, 18, 62);      // EM_X86_64
        Put32(header, 20, 1);
        Put64(header, 24, LoadAddress);
        Put64(header, 32, 64);      // e_phoff
        Put16(header, 52, 64);
        Put16(header, 54, 56);
        Put16(header, 56, 2);       // e_phnum
        ProgramHeader(header[64..], type: 1, CodeOffset, LoadAddress, _code.Count);
        ProgramHeader(header[120..], type: 4, NoteOffset, 0, 20);
        Put32(header, NoteOffset, 4);
        Put32(header, NoteOffset + 4, 4);
        Put32(header, NoteOffset + 8, 18); // XEN_ELFNOTE_PHYS32_ENTRY
        "Xen"u8.CopyTo(header[(NoteOffset + 12)..]);
        Put32(header, NoteOffset + 16, LoadAddress);
        _code.CopyTo(file, CodeOffset);
        return file;
    }

    private void MoveDx(ushort port) => _code.AddRange([0xBA, (byte)port, (byte)(port >> 8), 0, 0]);

    private static void ProgramHeader(Span<byte> at, uint type, ulong offset, ulong address, int size)
    {
        Put32(at, 0, type);
        Put32(at, 4, 7);
        Put64(at, 8, offset);
        Put64(at, 16, address);
        Put64(at, 24, address);
        Put64(at, 32, (ulong)size);
        Put64(at, 40, (ulong)size);
        Put64(at, 48, 4);
    }

    private static void Put16(Span<byte> at, int offset, ushort value) => BinaryPrimitives.WriteUInt16LittleEndian(at[offset..], value);

    private static void Put32(Span<byte> at, int offset, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(at[offset..], value);

    private static void Put64(Span<byte> at, int offset, ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(at[offset..], value);
}
