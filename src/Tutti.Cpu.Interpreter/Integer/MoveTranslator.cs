using Iced.Intel;

namespace Tutti.Cpu.Interpreter;

/// <summary>Moves, exchanges and the stack.</summary>
internal static unsafe partial class IntegerTranslator
{
    private static void TranslateMove(in Instruction instruction, Op* op, in TranslationContext context)
    {
        int condition = (int)instruction.ConditionCode - 1;
        switch (instruction.Mnemonic)
        {
            case Mnemonic.Mov:
                TranslateMov(instruction, op, context);
                break;
            case Mnemonic.Movsxd when instruction.Code == Code.Movsxd_r16_rm16 && IsMemory(instruction, 1):
                op->Dst = RegisterOffset.Of(instruction.Op0Register);
                op->Handler = &NarrowLoad.LoadLowWord;
                break;
            case Mnemonic.Movzx or Mnemonic.Movsx or Mnemonic.Movsxd:
                bool memory = IsMemory(instruction, 1);
                op->Dst = RegisterOffset.Of(instruction.Op0Register);
                op->Src = memory ? (byte)0 : RegisterOffset.Of(instruction.Op1Register);
                op->Handler = ExtendHandler(WidthLog2(instruction, 0), WidthLog2(instruction, 1), instruction.Mnemonic != Mnemonic.Movzx, memory, context.Address);
                break;
            case Mnemonic.Lea:
                TranslateLea(instruction, op);
                break;
            case Mnemonic.Xlatb:
                op->Handler = &TableLookup.Xlat;
                break;
            case Mnemonic.Xchg or Mnemonic.Xadd or Mnemonic.Cmpxchg:
                TranslateExchange(instruction, op);
                break;
            case Mnemonic.Cmpxchg8b:
                op->Handler = &WideExchange.Compare8;
                break;
            case Mnemonic.Cmpxchg16b:
                op->Handler = &WideExchange.Compare16;
                break;
            case Mnemonic.Bswap:
                op->Dst = RegisterOffset.Of(instruction.Op0Register);
                op->Handler = WidthLog2(instruction, 0) switch
                {
                    1 => &RegisterOperations.ByteSwap16,
                    2 => &RegisterOperations.ByteSwap32,
                    _ => &RegisterOperations.ByteSwap64,
                };
                break;
            case Mnemonic.Cbw:
                op->Handler = &RegisterOperations.ExtendAccumulator<W16>;
                break;
            case Mnemonic.Cwde:
                op->Handler = &RegisterOperations.ExtendAccumulator<W32>;
                break;
            case Mnemonic.Cdqe:
                op->Handler = &RegisterOperations.ExtendAccumulator<W64>;
                break;
            case Mnemonic.Cwd:
                op->Handler = &RegisterOperations.ExtendIntoData<W16>;
                break;
            case Mnemonic.Cdq:
                op->Handler = &RegisterOperations.ExtendIntoData<W32>;
                break;
            case Mnemonic.Cqo:
                op->Handler = &RegisterOperations.ExtendIntoData<W64>;
                break;
            default:
                if (condition >= 0)
                {
                    TranslateConditional(instruction, op, condition);
                }

                break;
        }
    }

    /// <summary>CMOVcc and SETcc.</summary>
    private static void TranslateConditional(in Instruction instruction, Op* op, int condition)
    {
        if (instruction.OpCount == 1)
        {
            bool memory = IsMemory(instruction, 0);
            op->Dst = memory ? (byte)0 : RegisterOffset.Of(instruction.Op0Register);
            op->Handler = ConditionTables.Set(condition, memory);
        }
        else if (instruction.OpCount == 2 && instruction.Op1Kind is OpKind.Register or OpKind.Memory)
        {
            bool memory = IsMemory(instruction, 1);
            op->Dst = RegisterOffset.Of(instruction.Op0Register);
            op->Src = memory ? (byte)0 : RegisterOffset.Of(instruction.Op1Register);
            op->Handler = ConditionTables.Move(condition, WidthLog2(instruction, 0), memory);
        }
    }

    private static void TranslateMov(in Instruction instruction, Op* op, in TranslationContext context)
    {
        if (instruction.Op1Kind == OpKind.Register && !instruction.Op1Register.IsGPR())
        {
            // A segment, control or debug register.
            return;
        }

        int width = WidthLog2(instruction, 0);
        bool absolute = instruction.MemoryDisplSize == 8
            && (long)instruction.MemoryDisplacement64 != (int)(long)instruction.MemoryDisplacement64
            && (IsMemory(instruction, 0) || IsMemory(instruction, 1))
            && instruction.MemoryBase == Register.None;
        if (absolute)
        {
            op->Handler = AbsoluteHandler(width, IsMemory(instruction, 0));
            return;
        }

        OperandForm form = SetOperands(instruction, op, width);
        op->Handler = MoveHandler(width, form, context.Address);
    }

    private static delegate*<CpuState*, Op*, Op*> AbsoluteHandler(int widthLog2, bool store) => widthLog2 switch
    {
        0 => store ? &Move<W8>.AbsoluteAccumulator : &Move<W8>.AccumulatorAbsolute,
        1 => store ? &Move<W16>.AbsoluteAccumulator : &Move<W16>.AccumulatorAbsolute,
        2 => store ? &Move<W32>.AbsoluteAccumulator : &Move<W32>.AccumulatorAbsolute,
        _ => store ? &Move<W64>.AbsoluteAccumulator : &Move<W64>.AccumulatorAbsolute,
    };

    private static void TranslateLea(in Instruction instruction, Op* op)
    {
        op->Dst = RegisterOffset.Of(instruction.Op0Register);
        bool full = op->AddressSize == 8;
        op->Handler = WidthLog2(instruction, 0) switch
        {
            1 => full ? &Move<W16>.Address : &Move<W16>.ShortAddress,
            2 => full ? &Move<W32>.Address : &Move<W32>.ShortAddress,
            _ => full ? &Move<W64>.Address : &Move<W64>.ShortAddress,
        };
    }

    private static void TranslateExchange(in Instruction instruction, Op* op)
    {
        bool memory = IsMemory(instruction, 0);
        op->Dst = memory ? (byte)0 : RegisterOffset.Of(instruction.Op0Register);
        op->Src = RegisterOffset.Of(instruction.Op1Register);
        op->Handler = WidthLog2(instruction, 1) switch
        {
            0 => ExchangeHandler<W8>(instruction.Mnemonic, memory),
            1 => ExchangeHandler<W16>(instruction.Mnemonic, memory),
            2 => ExchangeHandler<W32>(instruction.Mnemonic, memory),
            _ => ExchangeHandler<W64>(instruction.Mnemonic, memory),
        };
    }

    private static void TranslateStack(in Instruction instruction, Op* op)
    {
        switch (instruction.Mnemonic)
        {
            case Mnemonic.Push:
                TranslatePush(instruction, op);
                break;
            case Mnemonic.Pop when IsMemory(instruction, 0):
                op->Handler = WidthLog2(instruction, 0) switch
                {
                    1 => &StackOperations<W16>.PopMemory,
                    2 => &StackOperations<W32>.PopMemory,
                    _ => &StackOperations<W64>.PopMemory,
                };
                break;
            case Mnemonic.Pop:
                op->Segment = 2;
                op->Dst = RegisterOffset.Of(instruction.Op0Register);
                op->Handler = WidthLog2(instruction, 0) switch
                {
                    1 => &StackOperations<W16>.PopRegister,
                    2 => &StackOperations<W32>.PopRegister,
                    _ => &StackOperations<W64>.PopRegister,
                };
                break;
            case Mnemonic.Pusha or Mnemonic.Pushad:
                op->Handler = instruction.Mnemonic == Mnemonic.Pusha ? &StackOperations<W16>.PushAll : &StackOperations<W32>.PushAll;
                break;
            case Mnemonic.Popa or Mnemonic.Popad:
                op->Handler = instruction.Mnemonic == Mnemonic.Popa ? &StackOperations<W16>.PopAll : &StackOperations<W32>.PopAll;
                break;
            case Mnemonic.Leave:
                op->Segment = 2;
                op->Handler = instruction.Code switch
                {
                    Code.Leavew => &StackOperations<W16>.Leave,
                    Code.Leaved => &StackOperations<W32>.Leave,
                    _ => &StackOperations<W64>.Leave,
                };
                break;
            case Mnemonic.Enter:
                op->Segment = 2;
                op->Imm = instruction.Immediate16;
                op->Aux = instruction.Immediate8_2nd;
                op->Handler = instruction.Code switch
                {
                    Code.Enterw_imm16_imm8 => &StackOperations<W16>.Enter,
                    Code.Enterd_imm16_imm8 => &StackOperations<W32>.Enter,
                    _ => &StackOperations<W64>.Enter,
                };
                break;
            default:
                break;
        }
    }

    private static void TranslatePush(in Instruction instruction, Op* op)
    {
        int width = -instruction.StackPointerIncrement;
        if (IsMemory(instruction, 0))
        {
            op->Handler = width switch
            {
                2 => &StackOperations<W16>.PushMemory,
                4 => &StackOperations<W32>.PushMemory,
                _ => &StackOperations<W64>.PushMemory,
            };
            return;
        }

        op->Segment = 2;
        if (instruction.Op0Kind == OpKind.Register)
        {
            op->Src = RegisterOffset.Of(instruction.Op0Register);
            op->Handler = width switch
            {
                2 => &StackOperations<W16>.PushRegister,
                4 => &StackOperations<W32>.PushRegister,
                _ => &StackOperations<W64>.PushRegister,
            };
            return;
        }

        op->Imm = instruction.GetImmediate(0);
        op->Handler = width switch
        {
            2 => &StackOperations<W16>.PushImmediate,
            4 => &StackOperations<W32>.PushImmediate,
            _ => &StackOperations<W64>.PushImmediate,
        };
    }
}
