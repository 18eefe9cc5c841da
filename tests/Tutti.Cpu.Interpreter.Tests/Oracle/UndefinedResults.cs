using Iced.Intel;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.Oracle;

/// <summary>
/// What the manuals leave undefined after an instruction. Source: Intel SDM volume 2, "Flags Affected" of each instruction;
/// where it does not depend on operands, Iced's table of the same facts.
/// </summary>
internal static class UndefinedResults
{
    private static readonly (RflagsBits Bit, ulong Flag)[] Bits =
    [
        (RflagsBits.OF, Rflags.Overflow), (RflagsBits.SF, Rflags.Sign), (RflagsBits.ZF, Rflags.Zero),
        (RflagsBits.AF, Rflags.Adjust), (RflagsBits.CF, Rflags.Carry), (RflagsBits.PF, Rflags.Parity),
    ];

    /// <summary>Flags that are undefined after this instruction with these inputs.</summary>
    public static ulong Flags(in Instruction instruction, CaseInput input)
    {
        switch (instruction.Mnemonic)
        {
            case Mnemonic.Rol or Mnemonic.Ror or Mnemonic.Rcl or Mnemonic.Rcr:
                return Count(instruction, input) is 0 or 1 ? 0 : Rflags.Overflow;
            case Mnemonic.Shl or Mnemonic.Sal or Mnemonic.Shr or Mnemonic.Sar:
                int count = Count(instruction, input);
                bool lostCarry = instruction.Mnemonic != Mnemonic.Sar && count >= 8 * OperandSize(instruction);
                return count == 0 ? 0
                    : Rflags.Adjust | (count == 1 ? 0 : Rflags.Overflow) | (lostCarry ? Rflags.Carry : 0);
            case Mnemonic.Shld or Mnemonic.Shrd:
                int both = Count(instruction, input);
                return both == 0 ? 0
                    : both > 8 * OperandSize(instruction) ? Rflags.Arithmetic
                    : Rflags.Adjust | (both == 1 ? 0 : Rflags.Overflow);
            default:
                ulong mask = 0;
                foreach ((RflagsBits bit, ulong flag) in Bits)
                {
                    mask |= (instruction.RflagsUndefined & bit) != 0 ? flag : 0;
                }

                return mask;
        }
    }

    /// <summary>OF where a constant rotates by more than one, once round or more included: it is undefined, and Iced's table, which counts modulo the width, does not say so; else 0.</summary>
    public static ulong OverflowOfRotation(in Instruction instruction) =>
        instruction.Mnemonic is Mnemonic.Rol or Mnemonic.Ror or Mnemonic.Rcl or Mnemonic.Rcr && instruction.Op1Kind == OpKind.Immediate8
            && (instruction.Immediate8 & 0x1F) > 1 ? Rflags.Overflow : 0;

    /// <summary>Whether the result itself is undefined: double shifts by more than the operand has bits, BSWAP of 16 bits.</summary>
    public static bool Result(in Instruction instruction, CaseInput input) =>
        (instruction.Mnemonic is Mnemonic.Shld or Mnemonic.Shrd && Count(instruction, input) > 8 * OperandSize(instruction))
        || instruction.Code == Code.Bswap_r16;

    private static int OperandSize(in Instruction instruction) =>
        instruction.Op0Kind == OpKind.Memory ? instruction.MemorySize.GetSize() : instruction.Op0Register.GetSize();

    private static int Count(in Instruction instruction, CaseInput input)
    {
        int last = instruction.OpCount - 1;
        int raw = instruction.GetOpKind(last) == OpKind.Register ? (int)input.Gpr[1] : instruction.Immediate8;
        return raw & (OperandSize(instruction) == 8 ? 63 : 31);
    }
}
