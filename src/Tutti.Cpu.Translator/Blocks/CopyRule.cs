using Iced.Intel;
using Tutti.Cpu.Interpreter;

namespace Tutti.Cpu.Translator;

/// <summary>What an operand field of an encoding names.</summary>
internal enum FieldKind : byte
{
    None,

    /// <summary>A general register of 1, 2, 4 or 8 bytes.</summary>
    General,

    /// <summary>A vector, MMX or x87 register: the guest's is the host's of the same number.</summary>
    Same,
}

/// <summary>Which state an instruction needs loaded.</summary>
internal enum StateUnit : byte
{
    None,
    Sse,
    Avx,
    X87,
}

/// <summary>An operand field.</summary>
internal readonly record struct Field(FieldKind Kind, byte Size, bool IsRead, bool IsWritten);

/// <summary>
/// How instructions of one Iced code are copied: which fields hold registers to rename, what is done with memory, and which
/// state they need. Made from the table of forms when a code is first met.
/// </summary>
internal sealed class CopyRule
{
    /// <summary>For what is not copied: the interpreter runs it.</summary>
    private static readonly CopyRule None = new();

    /// <summary>By code; Iced's codes fit in 13 bits.</summary>
    private static readonly CopyRule?[] Rules = new CopyRule?[1 << 13];

    private CopyRule()
    {
    }

    public bool CanCopy { get; private init; }

    /// <summary>The opcode byte, by Iced's tables: what the bytes have been taken apart to must agree.</summary>
    public byte Opcode { get; private init; }

    /// <summary>Does nothing that a guest could see: hints, prefetches.</summary>
    public bool IsNothing { get; private init; }

    public Field Reg { get; private set; }

    public Field Rm { get; private set; }

    public Field Vvvv { get; private set; }

    /// <summary>The register stands in the opcode's low bits, described by <see cref="Rm"/>.</summary>
    public bool IsRegisterInOpcode { get; private set; }

    public bool ReadsMemory { get; private set; }

    public bool WritesMemory { get; private set; }

    /// <summary>A memory operand that is not aligned to its size is a fault.</summary>
    public bool NeedsAlignment { get; private init; }

    /// <summary>The instruction reads CL or RCX without naming it in a field.</summary>
    public bool ReadsRcx { get; private set; }

    /// <summary>The instruction writes ECX without naming it in a field.</summary>
    public bool WritesRcx { get; private init; }

    /// <summary>RAX, or a part of it, is an operand without a field.</summary>
    public bool TouchesRax { get; private set; }

    public StateUnit Unit { get; private init; }

    /// <summary>The rule of an instruction's code.</summary>
    public static CopyRule Of(in Instruction instruction)
    {
        ref CopyRule? rule = ref Rules[(int)instruction.Code];
        return rule ??= Make(instruction.Code);
    }

    private static CopyRule Make(Code code)
    {
        Mnemonic mnemonic = code.Mnemonic();
        if (CopyTable.IsNothing(mnemonic))
        {
            return new CopyRule { IsNothing = true };
        }

        EncodingKind encoding = code.Encoding();
        bool vex = encoding == EncodingKind.VEX;
        if ((encoding != EncodingKind.Legacy && !vex) || !CopyTable.IsCopied(code, mnemonic))
        {
            return None;
        }

        StateUnit unit = StateUnit.None;
        if (CopyTable.UsesX87(code))
        {
            unit = StateUnit.X87;
        }
        else if (CopyTable.UsesVectors(code))
        {
            unit = vex ? StateUnit.Avx : StateUnit.Sse;
        }

        bool aligned = vex ? CopyTable.IsAlignedVex(mnemonic) : unit == StateUnit.Sse && !CopyTable.IsUnaligned(mnemonic);
        InstructionForm form = InstructionForm.Of(code);
        var rule = new CopyRule { CanCopy = true, Opcode = form.Opcode, Unit = unit, NeedsAlignment = aligned, WritesRcx = CopyTable.WritesRcx(mnemonic) };
        for (int i = 0; i < form.OperandCount; i++)
        {
            if (!rule.TryAdd(form.KindOf(i), form.AccessOf(i)))
            {
                return None;
            }
        }

        rule.ReadsRcx |= mnemonic is Mnemonic.Cmpxchg16b or Mnemonic.Cmpxchg8b;
        return rule;
    }

    private bool TryAdd(OpCodeOperandKind kind, OpAccess access)
    {
        bool reads = access is OpAccess.Read or OpAccess.ReadWrite or OpAccess.CondRead or OpAccess.ReadCondWrite or OpAccess.CondWrite;
        bool writes = access is OpAccess.Write or OpAccess.ReadWrite or OpAccess.CondWrite or OpAccess.ReadCondWrite;
        switch (kind)
        {
            case OpCodeOperandKind.r8_reg or OpCodeOperandKind.r16_reg or OpCodeOperandKind.r32_reg or OpCodeOperandKind.r64_reg:
                Reg = General(kind, reads, writes);
                return true;
            case OpCodeOperandKind.r8_or_mem or OpCodeOperandKind.r16_or_mem or OpCodeOperandKind.r32_or_mem or OpCodeOperandKind.r64_or_mem:
                Rm = General(kind, reads, writes);
                return AddMemory(reads, writes);
            case OpCodeOperandKind.r16_rm or OpCodeOperandKind.r32_rm or OpCodeOperandKind.r64_rm:
                Rm = General(kind, reads, writes);
                return true;
            case OpCodeOperandKind.r8_opcode or OpCodeOperandKind.r16_opcode or OpCodeOperandKind.r32_opcode or OpCodeOperandKind.r64_opcode:
                Rm = General(kind, reads, writes);
                IsRegisterInOpcode = true;
                return true;
            case OpCodeOperandKind.r32_vvvv or OpCodeOperandKind.r64_vvvv:
                Vvvv = General(kind, reads, writes);
                return true;
            case OpCodeOperandKind.xmm_reg or OpCodeOperandKind.ymm_reg or OpCodeOperandKind.mm_reg:
                Reg = new Field(FieldKind.Same, 0, reads, writes);
                return true;
            case OpCodeOperandKind.xmm_or_mem or OpCodeOperandKind.ymm_or_mem or OpCodeOperandKind.mm_or_mem:
                Rm = new Field(FieldKind.Same, 0, reads, writes);
                return AddMemory(reads, writes);
            case OpCodeOperandKind.xmm_rm or OpCodeOperandKind.ymm_rm or OpCodeOperandKind.mm_rm:
                Rm = new Field(FieldKind.Same, 0, reads, writes);
                return true;
            case OpCodeOperandKind.xmm_vvvv or OpCodeOperandKind.ymm_vvvv:
                Vvvv = new Field(FieldKind.Same, 0, reads, writes);
                return true;
            case OpCodeOperandKind.mem:
                return AddMemory(reads, writes);
            case OpCodeOperandKind.cl:
                ReadsRcx = true;
                return true;
            default:
                TouchesRax |= kind is OpCodeOperandKind.al or OpCodeOperandKind.ax or OpCodeOperandKind.eax or OpCodeOperandKind.rax;
                return IsFixed(kind);
        }
    }

    private bool AddMemory(bool reads, bool writes)
    {
        ReadsMemory |= reads;
        WritesMemory |= writes;
        return reads || writes;
    }

    /// <summary>Operands that stand for themselves: immediates, and registers whose home is their own.</summary>
    private static bool IsFixed(OpCodeOperandKind kind) => kind is OpCodeOperandKind.imm8 or OpCodeOperandKind.imm8_const_1
        or OpCodeOperandKind.imm8sex16 or OpCodeOperandKind.imm8sex32 or OpCodeOperandKind.imm8sex64 or OpCodeOperandKind.imm16
        or OpCodeOperandKind.imm32 or OpCodeOperandKind.imm32sex64 or OpCodeOperandKind.imm64 or OpCodeOperandKind.al
        or OpCodeOperandKind.ax or OpCodeOperandKind.eax or OpCodeOperandKind.rax or OpCodeOperandKind.st0
        or OpCodeOperandKind.sti_opcode or OpCodeOperandKind.xmm_is4 or OpCodeOperandKind.ymm_is4;

    private static Field General(OpCodeOperandKind kind, bool reads, bool writes)
    {
        byte size = kind switch
        {
            OpCodeOperandKind.r8_reg or OpCodeOperandKind.r8_or_mem or OpCodeOperandKind.r8_opcode => 1,
            OpCodeOperandKind.r16_reg or OpCodeOperandKind.r16_or_mem or OpCodeOperandKind.r16_rm or OpCodeOperandKind.r16_opcode => 2,
            OpCodeOperandKind.r32_reg or OpCodeOperandKind.r32_or_mem or OpCodeOperandKind.r32_rm or OpCodeOperandKind.r32_opcode
                or OpCodeOperandKind.r32_vvvv => 4,
            _ => 8,
        };

        // A write of 1 or 2 bytes keeps the rest of the register.
        return new Field(FieldKind.General, size, reads || (writes && size < 4), writes);
    }
}
