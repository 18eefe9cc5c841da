using Iced.Intel;

namespace Tutti.Cpu.Software;

/// <summary>
/// What Iced's <see cref="OpCodeInfo"/> and <see cref="InstructionInfoFactory"/> know of an instruction's code, for legacy and VEX
/// encodings; of others nothing. Iced makes an object and two texts for each of all its codes when it is first asked, a megabyte and
/// milliseconds of each start, and the runtime takes two to compile its analysis of implied operands.
/// </summary>
/// <remarks>
/// 64 bits: for each of five operands 7 bits of <see cref="OpCodeOperandKind"/> and 3 of <see cref="OpAccess"/>, from bit 0 on; from
/// bit 50 the opcode byte; then <see cref="IsX87"/>, <see cref="IsFpuNoWait"/>, <see cref="IsOfAnotherMaker"/>.
/// </remarks>
public readonly partial struct InstructionForm
{
    /// <summary>More than any instruction of these encodings has.</summary>
    internal const int MaxOperands = 5;

    internal const int OperandBits = 10;
    internal const int KindBits = 7;
    internal const int OpcodeShift = 50;
    internal const int X87Shift = 58;
    internal const int NoWaitShift = 59;
    internal const int OtherMakerShift = 60;

    private readonly ulong _bits;

    private InstructionForm(ulong bits) => _bits = bits;

    /// <summary>What <see cref="Of"/> reads.</summary>
    internal ulong Bits => _bits;

    /// <summary>The opcode byte; the first of two where both are opcode (x87).</summary>
    public byte Opcode => (byte)(_bits >> OpcodeShift);

    /// <summary>Opcodes D8 to DF.</summary>
    public bool IsX87 => ((_bits >> X87Shift) & 1) != 0;

    /// <summary>An x87 instruction that does not look for pending exceptions.</summary>
    public bool IsFpuNoWait => ((_bits >> NoWaitShift) & 1) != 0;

    /// <summary>Decoded only on request: instructions of the 287 and of other makers.</summary>
    public bool IsOfAnotherMaker => ((_bits >> OtherMakerShift) & 1) != 0;

    public int OperandCount
    {
        get
        {
            int count = 0;
            while (count < MaxOperands && KindOf(count) != OpCodeOperandKind.None)
            {
                count++;
            }

            return count;
        }
    }

    public static InstructionForm Of(Code code) => new((int)code < Table.Length ? Table[(int)code] : 0);

    /// <summary>What an operand is; None beyond the last.</summary>
    public OpCodeOperandKind KindOf(int operand) =>
        (OpCodeOperandKind)((_bits >> (operand * OperandBits)) & ((1 << KindBits) - 1));

    /// <summary>What is done with an operand, where all registers of the instruction differ.</summary>
    public OpAccess AccessOf(int operand) =>
        (OpAccess)((_bits >> ((operand * OperandBits) + KindBits)) & ((1 << (OperandBits - KindBits)) - 1));
}
