using System.Buffers.Binary;

namespace Tutti.Cpu.Translator.Tests.Kernel;

/// <summary>
/// A page of small functions with the same entries in all pages, which give EAX a constant of theirs. The first begins in the page before: its
/// constant crosses the border. What a program changes there are the constants.
/// </summary>
internal static class FunctionPage
{
    /// <summary>Offset of the function that goes on in the next page.</summary>
    public const int Crossing = KernelLayout.PageSize - 2;

    private const int First = 0x10;
    private const int Distance = 0x20;

    /// <summary>Functions within the page.</summary>
    public const int Count = (Crossing - First) / Distance;

    /// <summary>Offset of a function, or of <see cref="Crossing"/> for -1.</summary>
    public static int EntryOf(int index) => index < 0 ? Crossing : First + (index * Distance);

    public static void Write(Span<byte> page, uint mark)
    {
        page.Fill(0x90);

        // The end of the function before: three bytes of its constant, and RET.
        BinaryPrimitives.WriteUInt32LittleEndian(page, (mark & 0xFF_FFFF) | 0xC300_0000);
        for (int i = 0; i < Count; i++)
        {
            int at = EntryOf(i);
            page[at] = 0xB8; // MOV EAX, imm32
            BinaryPrimitives.WriteUInt32LittleEndian(page[(at + 1)..], mark + (uint)i);
            ReadOnlySpan<byte> rest = (i % 4) switch
            {
                0 => [0xC3], // RET
                1 => [0x01, 0xC2, 0xC3], // ADD EDX, EAX; RET
                2 => [0x83, 0xFA, 0x05, 0x75, 0x02, 0x31, 0xD2, 0xF9, 0xC3], // CMP EDX, 5; JNE +2; XOR EDX, EDX; STC; RET
                _ => [0xEB, 0x03, 0x0F, 0x0B, 0xCC, 0x8D, 0x50, 0x07, 0xC3], // JMP +3; UD2; INT3; LEA EDX, [RAX+7]; RET
            };
            rest.CopyTo(page[(at + 5)..]);
        }

        page[Crossing] = 0xB8;
        page[Crossing + 1] = (byte)mark;
    }
}
