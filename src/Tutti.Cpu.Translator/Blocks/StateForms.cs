namespace Tutti.Cpu.Translator;

/// <summary>Which instructions on registers do the same where one of these is a place in memory. Source: Intel SDM volume 2, the opcode maps.</summary>
internal static class StateForms
{
    /// <summary>Whether ModRM.rm may be memory: not where the two forms differ (bit strings, XCHG's lock) or that is not worth knowing.</summary>
    public static bool CanBeMemory(in RawInstruction raw)
    {
        if (raw.IsVex || raw.Lock || raw.Repeat != 0)
        {
            return false;
        }

        return raw.Map switch
        {
            // ADD to CMP; MOVSXD, IMUL; the same with immediates; TEST; MOV; shifts; MOV imm; shifts; TEST, NOT, NEG; INC, DEC.
            OpcodeMap.One => raw.Opcode is < 0x40 or 0x63 or 0x69 or 0x6B or 0x80 or 0x81 or 0x83 or 0x84 or 0x85 or (>= 0x88 and <= 0x8B)
                or 0xC0 or 0xC1 or 0xC6 or 0xC7 or (>= 0xD0 and <= 0xD3) or 0xF6 or 0xF7 or 0xFE or 0xFF,

            // CMOVcc; IMUL; MOVZX; MOVSX.
            OpcodeMap.Escape0F => raw.Opcode is (>= 0x40 and <= 0x4F) or 0xAF or 0xB6 or 0xB7 or 0xBE or 0xBF,
            _ => false,
        };
    }

    /// <summary>Exchanges ModRM's two fields where the opcode says which of them is written, or none is: the instruction stays the same.</summary>
    public static bool TryTurn(ref RawInstruction raw)
    {
        if (raw.Map != OpcodeMap.One)
        {
            return false;
        }

        if ((raw.Opcode < 0x40 && (raw.Opcode & 7) < 4) || raw.Opcode is >= 0x88 and <= 0x8B)
        {
            raw.Opcode ^= 2;
        }
        else if (raw.Opcode is not (0x84 or 0x85))
        {
            return false;
        }

        (raw.Reg, raw.Rm) = (raw.Rm, raw.Reg);
        return true;
    }
}
