namespace Tutti.Cpu.Translator;

/// <summary>How an instruction's opcode is introduced.</summary>
internal enum OpcodeMap
{
    One = -1,
    Escape0F = 1,
    Escape0F38 = 2,
    Escape0F3A = 3,
}

/// <summary>
/// The parts of a 64-bit instruction's encoding that are kept or replaced when it is copied. Only what Iced has decoded as
/// valid is given here. Source: Intel SDM volume 2, chapter "Instruction Format".
/// </summary>
internal ref struct RawInstruction
{
    public ReadOnlySpan<byte> Immediate;

    /// <summary>F2 or F3 where it stands before the opcode, else 0.</summary>
    public byte Repeat;

    public bool OperandSize;
    public bool Lock;
    public bool HasRex;
    public bool IsVex;

    /// <summary>REX.W or VEX.W.</summary>
    public bool W;

    /// <summary>VEX: bits 2 (L) and 1:0 (pp) of the last prefix byte.</summary>
    public byte VexLengthAndPrefix;

    public OpcodeMap Map;
    public byte Opcode;
    public bool HasModRm;

    /// <summary>ModRM.reg with its extension bit.</summary>
    public int Reg;

    /// <summary>ModRM.rm with its extension bit, when it is a register; or the register in the opcode's low bits.</summary>
    public int Rm;

    /// <summary>VEX.vvvv.</summary>
    public int Vvvv;

    public bool IsMemory;

    /// <summary>Takes an encoding apart.</summary>
    /// <param name="code">The instruction's bytes.</param>
    /// <param name="displacementSize">Bytes of its displacement.</param>
    /// <param name="immediateSize">Bytes of all its immediates.</param>
    public static bool TryParse(ReadOnlySpan<byte> code, int displacementSize, int immediateSize, out RawInstruction raw)
    {
        raw = default;
        raw.Map = OpcodeMap.One;
        int at = ParsePrefixes(code, ref raw, out int rex);
        raw.HasRex = rex != 0;
        if (code[at] is 0xC4 or 0xC5)
        {
            at = ParseVex(code, at, ref raw, ref rex);
        }
        else if (code[at] is 0x62 or 0x8F)
        {
            // EVEX and XOP; POP r/m64 shares 8Fh and is not copied.
            return false;
        }
        else if (code[at] == 0x0F)
        {
            at++;
            raw.Map = code[at] switch { 0x38 => OpcodeMap.Escape0F38, 0x3A => OpcodeMap.Escape0F3A, _ => OpcodeMap.Escape0F };
            at += raw.Map == OpcodeMap.Escape0F ? 0 : 1;
        }

        raw.W = raw.IsVex ? raw.W : (rex & 8) != 0;
        raw.Opcode = code[at++];
        raw.Immediate = code[(code.Length - immediateSize)..];
        int middle = code.Length - at - displacementSize - immediateSize;
        if (middle < 0)
        {
            return false;
        }

        if (middle == 0)
        {
            raw.Rm = (raw.Opcode & 7) | ((rex & 1) << 3);
            return true;
        }

        byte modRm = code[at];
        bool hasSib = modRm < 0xC0 && (modRm & 7) == 4;
        int rest = middle - (hasSib ? 2 : 1);
        if (rest == 1 && raw.IsVex && raw.Map == OpcodeMap.Escape0F3A && immediateSize == 0)
        {
            // A fourth register stands in a byte behind everything else, and is no immediate by name.
            raw.Immediate = code[^1..];
        }
        else if (rest != 0)
        {
            return false;
        }

        raw.HasModRm = true;
        raw.IsMemory = modRm < 0xC0;
        raw.Reg = ((modRm >> 3) & 7) | ((rex & 4) << 1);
        raw.Rm = (modRm & 7) | ((rex & 1) << 3);
        return true;
    }

    /// <summary>Gives where the opcode, or what introduces it, begins.</summary>
    private static int ParsePrefixes(ReadOnlySpan<byte> code, ref RawInstruction raw, out int rex)
    {
        int at = 0;
        rex = 0;
        for (; ; at++)
        {
            byte prefix = code[at];
            if ((prefix & 0xF0) == 0x40)
            {
                rex = prefix;
                continue;
            }

            if (prefix == 0x66)
            {
                raw.OperandSize = true;
            }
            else if (prefix is 0xF2 or 0xF3)
            {
                raw.Repeat = prefix;
            }
            else if (prefix == 0xF0)
            {
                raw.Lock = true;
            }
            else if (prefix is not (0x2E or 0x36 or 0x3E or 0x26 or 0x64 or 0x65 or 0x67))
            {
                break;
            }

            // A REX prefix counts only right before the opcode.
            rex = 0;
        }

        return at;
    }

    private static int ParseVex(ReadOnlySpan<byte> code, int at, ref RawInstruction raw, ref int rex)
    {
        raw.IsVex = true;
        int last;
        if (code[at] == 0xC5)
        {
            last = code[at + 1];
            rex = (last & 0x80) != 0 ? 0 : 4;
            raw.Map = OpcodeMap.Escape0F;
            at += 2;
        }
        else
        {
            int extensions = code[at + 1];
            rex = (~extensions >> 5) & 7;
            raw.Map = (OpcodeMap)(extensions & 0x1F);
            last = code[at + 2];
            raw.W = (last & 0x80) != 0;
            at += 3;
        }

        raw.Vvvv = (~last >> 3) & 15;
        raw.VexLengthAndPrefix = (byte)(last & 7);
        return at;
    }
}

/// <summary>Where the r/m operand of a copied instruction is.</summary>
/// <param name="Register">The register; or the base of the address.</param>
/// <param name="Index">The index of the address, or -1.</param>
internal readonly record struct RmOperand(bool IsMemory, int Register, int Index, int Displacement)
{
    public static RmOperand InRegister(int register) => new(false, register, -1, 0);

    public static RmOperand InMemory(int baseRegister, int index, int displacement) => new(true, baseRegister, index, displacement);
}

/// <summary>Writes an instruction again, with other registers and another memory operand.</summary>
internal static class Reencoder
{
    /// <param name="raw">The guest's encoding.</param>
    /// <param name="reg">For ModRM.reg.</param>
    /// <param name="rm">For ModRM.rm, or for the register in the opcode.</param>
    /// <param name="vvvv">For VEX.vvvv.</param>
    public static void Emit(Emitter emit, in RawInstruction raw, int reg, RmOperand rm, int vvvv)
    {
        if (raw.Lock)
        {
            emit.Byte(0xF0);
        }

        int index = Math.Max(rm.Index, 0);
        if (raw.IsVex)
        {
            emit.Byte(0xC4);
            emit.Byte((((~reg >> 3) & 1) << 7) | (((~index >> 3) & 1) << 6) | (((~rm.Register >> 3) & 1) << 5) | (int)raw.Map);
            emit.Byte((raw.W ? 0x80 : 0) | ((~vvvv & 15) << 3) | raw.VexLengthAndPrefix);
        }
        else
        {
            EmitLegacyPrefixes(emit, raw, reg, index, rm.Register);
        }

        emit.Byte(raw.HasModRm ? raw.Opcode : (raw.Opcode & ~7) | (rm.Register & 7));
        if (raw.HasModRm && !rm.IsMemory)
        {
            emit.Byte(0xC0 | ((reg & 7) << 3) | (rm.Register & 7));
        }
        else if (raw.HasModRm && rm.Index >= 0)
        {
            emit.Operand(reg, rm.Register, rm.Index, 0, rm.Displacement);
        }
        else if (raw.HasModRm)
        {
            emit.Operand(reg, rm.Register, rm.Displacement);
        }

        emit.Bytes(raw.Immediate);
    }

    private static void EmitLegacyPrefixes(Emitter emit, in RawInstruction raw, int reg, int index, int rm)
    {
        if (raw.OperandSize)
        {
            emit.Byte(0x66);
        }

        if (raw.Repeat != 0)
        {
            emit.Byte(raw.Repeat);
        }

        int rex = (raw.W ? 8 : 0) | ((reg >> 3) << 2) | ((index >> 3) << 1) | (rm >> 3);
        if (rex != 0 || raw.HasRex)
        {
            emit.Byte(0x40 | rex);
        }

        if (raw.Map != OpcodeMap.One)
        {
            emit.Byte(0x0F);
        }

        if (raw.Map is OpcodeMap.Escape0F38 or OpcodeMap.Escape0F3A)
        {
            emit.Byte(raw.Map == OpcodeMap.Escape0F38 ? 0x38 : 0x3A);
        }
    }
}
