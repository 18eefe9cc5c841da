using Iced.Intel;

namespace Tutti.Cpu.Interpreter;

/// <summary>
/// Finds the instructions of a block whose flags are all replaced before anybody can look at them, and gives those
/// handlers that do not keep them. Anybody is: a later instruction of the block, a fault, a branch that is taken, the end of
/// the block. So only instructions that can do nothing but compute stand between a writer and the next one.
/// </summary>
internal sealed unsafe class FlagLiveness
{
    private const RflagsBits All = RflagsBits.OF | RflagsBits.SF | RflagsBits.ZF | RflagsBits.AF | RflagsBits.CF | RflagsBits.PF;

    private readonly Instruction[] _instructions = new Instruction[Block.MaxInstructions];
    private readonly Op*[] _ops = new Op*[Block.MaxInstructions];
    private int _count;

    public void Begin() => _count = 0;

    /// <summary>Adds the block's next instruction and its op.</summary>
    public void Add(in Instruction instruction, Op* op)
    {
        _instructions[_count] = instruction;
        _ops[_count++] = op;
    }

    /// <summary>Goes through the block from its end and replaces handlers.</summary>
    public void Apply()
    {
        RflagsBits live = All;
        for (int i = _count - 1; i >= 0; i--)
        {
            ref readonly Instruction instruction = ref _instructions[i];
            RflagsBits modified = instruction.RflagsModified & All;
            if (modified != 0 && (modified & live) == 0)
            {
                QuietHandlers.Replace(instruction, _ops[i]);
            }

            live = OnlyComputes(instruction)
                ? (live & ~Replaced(instruction, _ops[i])) | (instruction.RflagsRead & All)
                : All;
        }
    }

    /// <summary>
    /// Flags that certainly have a new value. What the manual leaves undefined may be kept by processors, and is by
    /// handlers; a shift by 0 changes none.
    /// </summary>
    private static RflagsBits Replaced(in Instruction instruction, Op* op)
    {
        bool isShift = instruction.Mnemonic is Mnemonic.Rol or Mnemonic.Ror or Mnemonic.Rcl or Mnemonic.Rcr
            or Mnemonic.Shl or Mnemonic.Sal or Mnemonic.Shr or Mnemonic.Sar or Mnemonic.Shld or Mnemonic.Shrd;
        bool mayKeep = isShift && (op->Imm == 0 || instruction.GetOpKind(instruction.OpCount - 1) == OpKind.Register);
        return mayKeep ? 0 : instruction.RflagsWritten | instruction.RflagsCleared | instruction.RflagsSet;
    }

    /// <summary>Neither faults nor branches, and touches nothing but general registers and arithmetic flags.</summary>
    private static bool OnlyComputes(in Instruction instruction)
    {
        for (int i = 0; i < instruction.OpCount; i++)
        {
            OpKind kind = instruction.GetOpKind(i);
            bool isImmediate = kind is >= OpKind.Immediate8 and <= OpKind.Immediate32to64;
            bool isRegister = kind == OpKind.Register && instruction.GetOpRegister(i).IsGPR();
            if (!isImmediate && !isRegister && !(kind == OpKind.Memory && instruction.Mnemonic == Mnemonic.Lea))
            {
                return false;
            }
        }

        return instruction.Mnemonic is Mnemonic.Add or Mnemonic.Or or Mnemonic.Adc or Mnemonic.Sbb or Mnemonic.And or Mnemonic.Sub
                or Mnemonic.Xor or Mnemonic.Cmp or Mnemonic.Test or Mnemonic.Inc or Mnemonic.Dec or Mnemonic.Neg or Mnemonic.Not
                or Mnemonic.Rol or Mnemonic.Ror or Mnemonic.Rcl or Mnemonic.Rcr or Mnemonic.Shl or Mnemonic.Sal or Mnemonic.Shr
                or Mnemonic.Sar or Mnemonic.Shld or Mnemonic.Shrd or Mnemonic.Mul or Mnemonic.Imul or Mnemonic.Bt or Mnemonic.Bts
                or Mnemonic.Btr or Mnemonic.Btc or Mnemonic.Bsf or Mnemonic.Bsr or Mnemonic.Mov or Mnemonic.Movzx or Mnemonic.Movsx
                or Mnemonic.Movsxd or Mnemonic.Lea or Mnemonic.Xchg or Mnemonic.Bswap or Mnemonic.Cbw or Mnemonic.Cwde
                or Mnemonic.Cdqe or Mnemonic.Cwd or Mnemonic.Cdq or Mnemonic.Cqo or Mnemonic.Nop
            || (instruction.ConditionCode != ConditionCode.None && instruction.FlowControl == FlowControl.Next);
    }
}
