using Iced.Intel;

namespace Tutti.Cpu.Interpreter.Tests.Oracle.Sweep;

/// <summary>Where the opcode of an encoding lies behind its legacy and REX prefixes.</summary>
internal enum SweptMap
{
    OneByte,
    Escape0F,
    Escape0F38,
    Escape0F3A,
    Vex,
    Evex,
    Xop,
}

/// <summary>
/// Bytes to run, and what is known of them without asking an engine: a reading of the prefixes of our own, since what must not run on the host
/// is decided by it, and the decoder's, for names and for the length to try first.
/// </summary>
internal sealed class SweptEncoding
{
    /// <summary>Bytes of every encoding: more than an instruction may have, so that a length is never cut by them.</summary>
    public const int Size = 20;

    private SweptEncoding(byte[] bytes, int bits, Instruction instruction)
    {
        Bytes = bytes;
        Bits = bits;
        Instruction = instruction;
    }

    public byte[] Bytes { get; }

    public int Bits { get; }

    /// <summary>As decoded with all that the decoder knows.</summary>
    public Instruction Instruction { get; }

    public SweptMap Map { get; private set; }

    public byte Opcode { get; private set; }

    /// <summary>The byte behind the opcode: ModRM where the opcode has one.</summary>
    public byte ModRm { get; private set; }

    public int Reg => (ModRm >> 3) & 7;

    public bool IsMemory => ModRm < 0xC0;

    /// <summary>F2 or F3, whichever stands last; 0 for none.</summary>
    public byte Repeat { get; private set; }

    /// <summary>66.</summary>
    public bool OperandSize { get; private set; }

    public bool HasLock { get; private set; }

    /// <summary>0F 0D and 0F 18 to 0F 1F: prefetches, hints, and what processors without CET, MPX or CLDEMOTE do nothing for.</summary>
    public bool IsHint => Map == SweptMap.Escape0F && Opcode is 0x0D or (>= 0x18 and <= 0x1F);

    /// <summary>Takes apart an encoding of which <paramref name="stem"/> are the first bytes; displacements and immediates follow.</summary>
    public static SweptEncoding Of(ReadOnlySpan<byte> stem, int bits)
    {
        byte[] bytes = new byte[Size];
        for (int i = 0; i < Size; i++)
        {
            // Whatever of it is a displacement or an immediate has the value 10h, or keeps its access aligned to 16 bytes.
            bytes[i] = i < stem.Length ? stem[i] : (i - stem.Length) % 4 == 0 ? (byte)0x10 : (byte)0;
        }

        var decoder = Decoder.Create(bits, bytes);
        decoder.Decode(out Instruction instruction);
        var encoding = new SweptEncoding(bytes, bits, instruction);
        encoding.Parse();
        return encoding;
    }

    public override string ToString() => $"{Convert.ToHexString(Bytes)} ({Bits} bits: {(Instruction.IsInvalid ? "no instruction" : Instruction.ToString())})";

    private void Parse()
    {
        int at = 0;
        for (; at < Size - 4; at++)
        {
            byte prefix = Bytes[at];
            Repeat = prefix is 0xF2 or 0xF3 ? prefix : Repeat;
            OperandSize |= prefix == 0x66;
            HasLock |= prefix == 0xF0;
            bool isRex = Bits == 64 && (prefix & 0xF0) == 0x40;
            if (!isRex && prefix is not (0x66 or 0x67 or 0xF0 or 0xF2 or 0xF3 or 0x26 or 0x2E or 0x36 or 0x3E or 0x64 or 0x65))
            {
                break;
            }
        }

        byte first = Bytes[at++];
        byte second = Bytes[at];
        bool isLongForm = Bits == 64 || second >= 0xC0;
        (Map, int skipped) = first switch
        {
            0xC5 when isLongForm => (SweptMap.Vex, 1),
            0xC4 when isLongForm => (SweptMap.Vex, 2),
            0x62 when isLongForm => (SweptMap.Evex, 3),
            0x8F when (second & 0x1F) >= 8 => (SweptMap.Xop, 2),
            0x0F when second == 0x38 => (SweptMap.Escape0F38, 1),
            0x0F when second == 0x3A => (SweptMap.Escape0F3A, 1),
            0x0F => (SweptMap.Escape0F, 0),
            _ => (SweptMap.OneByte, -1),
        };
        Opcode = Bytes[at + skipped];
        ModRm = Bytes[at + skipped + 1];
    }
}
