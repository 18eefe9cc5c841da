using System.Buffers.Binary;
using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Guest.Tests;

/// <summary>
/// A program for the guest: fills all sixteen YMM registers with numbers made from its process ID, yields many times, and ends
/// with status 0 when every register still has its number in all four quadwords, else with the number, from 1, of the first that has not.
/// </summary>
internal static class YmmKeeper
{
    private const ulong Base = 0x40_0000;
    private const int HeaderSize = 64 + 56;
    private const int Yields = 1000;

    // System call numbers of Linux on x86-64.
    private const int SchedYield = 24;
    private const int GetPid = 39;
    private const int Exit = 60;

    private static readonly AssemblerRegisterYMM[] Registers =
        [ymm0, ymm1, ymm2, ymm3, ymm4, ymm5, ymm6, ymm7, ymm8, ymm9, ymm10, ymm11, ymm12, ymm13, ymm14, ymm15];

    /// <summary>The program as a static ELF file. Source: System V ABI, "Object Files".</summary>
    public static byte[] Program()
    {
        byte[] code = Code();
        byte[] file = new byte[HeaderSize + code.Length];
        Span<byte> header = file;
        "\u007fELF\u0002\u0001\u0001"u8.CopyTo(header);
        BinaryPrimitives.WriteUInt16LittleEndian(header[16..], 2); // ET_EXEC
        BinaryPrimitives.WriteUInt16LittleEndian(header[18..], 62); // EM_X86_64
        BinaryPrimitives.WriteUInt32LittleEndian(header[20..], 1);
        BinaryPrimitives.WriteUInt64LittleEndian(header[24..], Base + HeaderSize); // e_entry
        BinaryPrimitives.WriteUInt64LittleEndian(header[32..], 64); // e_phoff
        BinaryPrimitives.WriteUInt16LittleEndian(header[52..], 64);
        BinaryPrimitives.WriteUInt16LittleEndian(header[54..], 56);
        BinaryPrimitives.WriteUInt16LittleEndian(header[56..], 1);
        Span<byte> segment = header[64..];
        BinaryPrimitives.WriteUInt32LittleEndian(segment, 1); // PT_LOAD
        BinaryPrimitives.WriteUInt32LittleEndian(segment[4..], 5); // readable, executable
        BinaryPrimitives.WriteUInt64LittleEndian(segment[16..], Base);
        BinaryPrimitives.WriteUInt64LittleEndian(segment[24..], Base);
        BinaryPrimitives.WriteUInt64LittleEndian(segment[32..], (ulong)file.Length);
        BinaryPrimitives.WriteUInt64LittleEndian(segment[40..], (ulong)file.Length);
        BinaryPrimitives.WriteUInt64LittleEndian(segment[48..], 0x1000);
        code.CopyTo(header[HeaderSize..]);
        return file;
    }

    private static byte[] Code()
    {
        var c = new Assembler(64);
        Label lost = c.CreateLabel();
        Label yield = c.CreateLabel();
        c.mov(eax, GetPid);
        c.syscall();
        c.mov(rbx, rax);
        for (int i = 0; i < Registers.Length; i++)
        {
            c.lea(rax, __[rbx + (i << 20)]);
            c.push(rax);
            c.vpbroadcastq(Registers[i], __qword_ptr[rsp]);
        }

        c.mov(ebp, Yields);
        c.Label(ref yield);
        c.mov(eax, SchedYield);
        c.syscall();
        c.dec(ebp);
        c.jnz(yield);
        for (int i = 0; i < Registers.Length; i++)
        {
            c.mov(edi, i + 1);
            c.lea(rax, __[rbx + (i << 20)]);
            c.vmovdqu(__ymmword_ptr[rsp - 64], Registers[i]);
            for (int quadword = 0; quadword < 4; quadword++)
            {
                c.cmp(__qword_ptr[rsp - 64 + (8 * quadword)], rax);
                c.jne(lost);
            }
        }

        c.xor(edi, edi);
        c.Label(ref lost);
        c.mov(eax, Exit);
        c.syscall();
        using var stream = new MemoryStream();
        c.Assemble(new StreamCodeWriter(stream), Base + HeaderSize);
        return stream.ToArray();
    }
}
