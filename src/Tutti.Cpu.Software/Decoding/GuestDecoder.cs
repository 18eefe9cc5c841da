using Iced.Intel;

namespace Tutti.Cpu.Software;

/// <summary>
/// Iced's decoder, made to see what a processor sees that has only what CPUID shows here: encodings whose features came after their
/// opcodes had been given away as hints are NOPs (RDSSP, CLDEMOTE, PREFETCHIT, ENDBR, the prefetches), and what such a processor
/// ignores is no instruction of its own (WBNOINVD). Sources: AMD APM volume 3, appendix A; Intel SDM volume 2, appendix A, "NOP".
/// </summary>
public sealed class GuestDecoder
{
    /// <summary>Bytes of the longest instruction.</summary>
    public const int MaxLength = 15;

    private const DecoderOptions Options = DecoderOptions.ForceReservedNop | DecoderOptions.NoWbnoinvd;

    private readonly Decoder _decoder;
    private readonly CodeWords _reader;

    /// <param name="bitness">16, 32 or 64.</param>
    /// <param name="reader">Where bytes come from; it is started anew before each run of instructions.</param>
    public GuestDecoder(int bitness, CodeWords reader)
    {
        _reader = reader;
        _decoder = Decoder.Create(bitness, reader, Options);
    }

    /// <summary>Address of the next instruction.</summary>
    public ulong IP
    {
        get => _decoder.IP;
        set => _decoder.IP = value;
    }

    /// <summary>Whether the instruction decoded last goes on behind the bytes that there are.</summary>
    public bool HasRunOut => _decoder.LastError == DecoderError.NoMoreBytes;

    /// <summary>Decodes the next instruction; <see cref="Instruction.IsInvalid"/> for what is none.</summary>
    public void Decode(out Instruction instruction)
    {
        _decoder.Decode(out instruction);
        if (instruction.Code is Code.Reservednop_rm16_r16_0F0D or Code.Reservednop_rm32_r32_0F0D or Code.Reservednop_rm64_r64_0F0D
            && instruction.Op0Kind == OpKind.Register)
        {
            // AMD's PREFETCH has no register form; Intel has a NOP there.
            instruction.Code = Code.INVALID;
        }
    }

    public ConstantOffsets GetConstantOffsets(in Instruction instruction) => _decoder.GetConstantOffsets(instruction);

    /// <summary>
    /// Whether an invalid instruction is none because it has more than 15 bytes: #GP instead of #UD. Source: Intel SDM volume 3,
    /// "Interrupt 13".
    /// </summary>
    /// <param name="offset">Of its first byte in what the reader gives.</param>
    public bool IsTooLong(in Instruction instruction, int offset)
    {
        if (!instruction.IsInvalid || HasRunOut || instruction.Length < MaxLength)
        {
            return false;
        }

        // With 15 bytes it may be no instruction for another reason: the opcode tells, or the same with only one of each prefix.
        ReadOnlySpan<byte> bytes = _reader.Bytes(offset, MaxLength);
        int prefixes = CountPrefixes(bytes);
        if (prefixes + OpcodeLength(bytes[prefixes..]) > MaxLength)
        {
            return true;
        }

        byte[] shorter = new byte[MaxLength + 1];
        int length = CopyDistinct(bytes[..prefixes], shorter);
        bytes[prefixes..].CopyTo(shorter.AsSpan(length));
        Decoder.Create(_decoder.Bitness, shorter, Options).Decode(out Instruction valid);
        return !valid.IsInvalid;
    }

    private int CountPrefixes(ReadOnlySpan<byte> bytes)
    {
        int count = 0;
        while (count < bytes.Length && (IsRex(bytes[count]) || IsSegment(bytes[count]) || bytes[count] is 0x66 or 0x67 or 0xF0 or 0xF2 or 0xF3))
        {
            count++;
        }

        return count;
    }

    /// <summary>Bytes up to the opcode, and what every opcode of its map has behind it; as far as the bytes tell.</summary>
    private int OpcodeLength(ReadOnlySpan<byte> bytes)
    {
        byte second = bytes.Length > 1 ? bytes[1] : (byte)0;
        int zeroUpper = bytes.Length > 2 && bytes[2] == 0x77 ? 0 : 1;
        bool isVector = _decoder.Bitness == 64 || second >= 0xC0;
        return bytes.IsEmpty ? 1 : bytes[0] switch
        {
            0x0F => second switch { 0x38 => 4, 0x3A => 5, _ => 2 },
            0xC5 when isVector => 3 + zeroUpper,
            0xC4 when isVector => 4,
            0x62 when isVector => 6,
            _ => 1,
        };
    }

    /// <summary>Copies the last of each kind of prefix, and no segment's, which changes no length.</summary>
    private int CopyDistinct(ReadOnlySpan<byte> prefixes, Span<byte> to)
    {
        int count = 0;
        for (int i = 0; i < prefixes.Length; i++)
        {
            bool isLast = i == prefixes.Length - 1;
            if (IsRex(prefixes[i]) ? isLast : !IsSegment(prefixes[i]) && (isLast || !prefixes[(i + 1)..].Contains(prefixes[i])))
            {
                to[count++] = prefixes[i];
            }
        }

        return count;
    }

    private bool IsRex(byte value) => _decoder.Bitness == 64 && (value & 0xF0) == 0x40;

    private static bool IsSegment(byte value) => value is 0x26 or 0x2E or 0x36 or 0x3E or 0x64 or 0x65;
}
