using Iced.Intel;

namespace Tutti.Cpu.Interpreter;

/// <summary>General-purpose integer instructions and near branches.</summary>
internal static unsafe partial class IntegerTranslator
{
    public static bool TryTranslate(in Instruction instruction, Op* op, ref TranslationContext context)
    {
        op->Handler = null;
        if (IsStringInstruction(instruction))
        {
            TranslateString(instruction, op);
        }
        else if (instruction.OpCount > 0 && instruction.Op0Kind == OpKind.Register && !instruction.Op0Register.IsGPR())
        {
            return false;
        }
        else if (!TryTranslateBranch(instruction, op, ref context))
        {
            TranslateArithmetic(instruction, op, ref context);
            if (op->Handler == null)
            {
                TranslateMove(instruction, op, context);
            }

            if (op->Handler == null)
            {
                TranslateStack(instruction, op);
            }

            if (op->Handler == null)
            {
                TranslateFlags(instruction, op);
            }
        }

        return op->Handler != null;
    }

    private static bool IsMemory(in Instruction instruction, int operand) => instruction.GetOpKind(operand) == OpKind.Memory;

    /// <summary>Log2 of the width in bytes of an operand that is a general register or memory.</summary>
    private static int WidthLog2(in Instruction instruction, int operand) => IsMemory(instruction, operand)
        ? instruction.MemorySize.GetSize() switch { 1 => 0, 2 => 1, 4 => 2, _ => 3 }
        : RegisterOffset.SizeLog2(instruction.GetOpRegister(operand));

    private static ulong Truncated(ulong value, int widthLog2) => widthLog2 switch
    {
        0 => (byte)value,
        1 => (ushort)value,
        2 => (uint)value,
        _ => value,
    };

    /// <summary>Sets Dst, Src and Imm of a two-operand instruction and tells its form.</summary>
    private static OperandForm SetOperands(in Instruction instruction, Op* op, int widthLog2)
    {
        bool immediate = instruction.Op1Kind is not (OpKind.Register or OpKind.Memory);
        if (immediate)
        {
            op->Imm = Truncated(instruction.GetImmediate(1), widthLog2);
        }
        else if (!IsMemory(instruction, 1))
        {
            op->Src = RegisterOffset.Of(instruction.Op1Register);
        }

        if (IsMemory(instruction, 0))
        {
            return immediate ? OperandForm.MemoryImmediate : OperandForm.MemoryRegister;
        }

        op->Dst = RegisterOffset.Of(instruction.Op0Register);
        return immediate ? OperandForm.RegisterImmediate
            : IsMemory(instruction, 1) ? OperandForm.RegisterMemory
            : OperandForm.RegisterRegister;
    }

    private static void TranslateArithmetic(in Instruction instruction, Op* op, ref TranslationContext context)
    {
        switch (instruction.Mnemonic)
        {
            case Mnemonic.Add or Mnemonic.Or or Mnemonic.Adc or Mnemonic.Sbb or Mnemonic.And or Mnemonic.Sub or Mnemonic.Xor or Mnemonic.Cmp or Mnemonic.Test:
                TranslateAlu(instruction, op, ref context);
                break;
            case Mnemonic.Inc or Mnemonic.Dec or Mnemonic.Neg or Mnemonic.Not:
                TranslateUnary(instruction, op, context);
                break;
            case Mnemonic.Rol or Mnemonic.Ror or Mnemonic.Rcl or Mnemonic.Rcr or Mnemonic.Shl or Mnemonic.Sal or Mnemonic.Shr or Mnemonic.Sar:
                TranslateShift(instruction, op);
                break;
            case Mnemonic.Shld or Mnemonic.Shrd:
                TranslateDoubleShift(instruction, op);
                break;
            case Mnemonic.Mul or Mnemonic.Imul or Mnemonic.Div or Mnemonic.Idiv:
                TranslateMultiply(instruction, op);
                break;
            case Mnemonic.Bt or Mnemonic.Bts or Mnemonic.Btr or Mnemonic.Btc:
                TranslateBitTest(instruction, op);
                break;
            case Mnemonic.Bsf or Mnemonic.Bsr:
                TranslateBitScan(instruction, op);
                break;
            default:
                break;
        }
    }

    private static void TranslateAlu(in Instruction instruction, Op* op, ref TranslationContext context)
    {
        int width = WidthLog2(instruction, 0);
        OperandForm form = SetOperands(instruction, op, width);
        bool locked = instruction.HasLockPrefix;
        AddressKind address = context.Address;
        op->Handler = instruction.Mnemonic switch
        {
            Mnemonic.Add => AluHandler<Add>(width, form, address, locked),
            Mnemonic.Or => AluHandler<Or>(width, form, address, locked),
            Mnemonic.Adc => AluHandler<AddWithCarry>(width, form, address, locked),
            Mnemonic.Sbb => AluHandler<SubtractWithBorrow>(width, form, address, locked),
            Mnemonic.And => AluHandler<And>(width, form, address, locked),
            Mnemonic.Sub => AluHandler<Subtract>(width, form, address, locked),
            Mnemonic.Xor => AluHandler<Xor>(width, form, address, locked),
            Mnemonic.Cmp => AluHandler<Compare>(width, form, address, false),
            _ => AluHandler<Test>(width, form, address, false),
        };

        bool hasMemory = form is not (OperandForm.RegisterRegister or OperandForm.RegisterImmediate);
        if (instruction.Mnemonic is Mnemonic.Cmp or Mnemonic.Test && context.Is64 && (!hasMemory || address == AddressKind.Flat))
        {
            context.Fusable = op;
            context.FusableForm = form;
            context.FusableWidthLog2 = width;
            context.FusableIsTest = instruction.Mnemonic == Mnemonic.Test;
        }
    }

    private static void TranslateUnary(in Instruction instruction, Op* op, in TranslationContext context)
    {
        int width = WidthLog2(instruction, 0);
        bool memory = IsMemory(instruction, 0);
        if (!memory)
        {
            op->Dst = RegisterOffset.Of(instruction.Op0Register);
        }

        bool locked = instruction.HasLockPrefix;
        op->Handler = instruction.Mnemonic switch
        {
            Mnemonic.Inc => UnaryHandler<Increment>(width, memory, context.Address, locked),
            Mnemonic.Dec => UnaryHandler<Decrement>(width, memory, context.Address, locked),
            Mnemonic.Neg => UnaryHandler<Negate>(width, memory, context.Address, locked),
            _ => UnaryHandler<Not>(width, memory, context.Address, locked),
        };
    }

    private static void TranslateShift(in Instruction instruction, Op* op)
    {
        int width = WidthLog2(instruction, 0);
        bool memory = IsMemory(instruction, 0);
        bool inCl = instruction.Op1Kind == OpKind.Register;
        if (!memory)
        {
            op->Dst = RegisterOffset.Of(instruction.Op0Register);
        }

        op->Imm = inCl ? 0 : instruction.GetImmediate(1) & (width == 3 ? 63UL : 31UL);
        op->Handler = instruction.Mnemonic switch
        {
            Mnemonic.Rol => ShiftHandler<RotateLeft>(width, memory, inCl),
            Mnemonic.Ror => ShiftHandler<RotateRight>(width, memory, inCl),
            Mnemonic.Rcl => ShiftHandler<RotateCarryLeft>(width, memory, inCl),
            Mnemonic.Rcr => ShiftHandler<RotateCarryRight>(width, memory, inCl),
            Mnemonic.Shr => ShiftHandler<ShiftRight>(width, memory, inCl),
            Mnemonic.Sar => ShiftHandler<ShiftRightArithmetic>(width, memory, inCl),
            _ => ShiftHandler<ShiftLeft>(width, memory, inCl),
        };
    }

    private static void TranslateDoubleShift(in Instruction instruction, Op* op)
    {
        int width = WidthLog2(instruction, 0);
        bool memory = IsMemory(instruction, 0);
        if (!memory)
        {
            op->Dst = RegisterOffset.Of(instruction.Op0Register);
        }

        op->Src = RegisterOffset.Of(instruction.Op1Register);
        if (instruction.Op2Kind == OpKind.Register)
        {
            op->Aux = 1;
        }
        else
        {
            op->Imm = instruction.Immediate8;
        }

        bool left = instruction.Mnemonic == Mnemonic.Shld;
        op->Handler = width switch
        {
            1 => DoubleShiftHandler<W16>(left, memory),
            2 => DoubleShiftHandler<W32>(left, memory),
            _ => DoubleShiftHandler<W64>(left, memory),
        };
    }

    private static void TranslateMultiply(in Instruction instruction, Op* op)
    {
        int operands = instruction.OpCount;
        int source = operands == 1 ? 0 : 1;
        int width = WidthLog2(instruction, source);
        bool memory = IsMemory(instruction, source);
        if (!memory)
        {
            op->Src = RegisterOffset.Of(instruction.GetOpRegister(source));
        }

        if (operands > 1)
        {
            op->Dst = RegisterOffset.Of(instruction.Op0Register);
        }

        if (operands == 3)
        {
            op->Imm = Truncated(instruction.GetImmediate(2), width);
        }

        op->Handler = width switch
        {
            0 => MultiplyHandler<W8>(instruction.Mnemonic, operands, memory),
            1 => MultiplyHandler<W16>(instruction.Mnemonic, operands, memory),
            2 => MultiplyHandler<W32>(instruction.Mnemonic, operands, memory),
            _ => MultiplyHandler<W64>(instruction.Mnemonic, operands, memory),
        };
    }

    private static void TranslateBitTest(in Instruction instruction, Op* op)
    {
        int width = WidthLog2(instruction, 0);
        OperandForm form = SetOperands(instruction, op, 0);
        op->Handler = instruction.Mnemonic switch
        {
            Mnemonic.Bt => BitHandler<BitTest>(width, form),
            Mnemonic.Bts => BitHandler<BitSet>(width, form),
            Mnemonic.Btr => BitHandler<BitReset>(width, form),
            _ => BitHandler<BitComplement>(width, form),
        };
    }

    private static void TranslateBitScan(in Instruction instruction, Op* op)
    {
        bool memory = IsMemory(instruction, 1);
        bool forward = instruction.Mnemonic == Mnemonic.Bsf;
        op->Dst = RegisterOffset.Of(instruction.Op0Register);
        op->Src = memory ? (byte)0 : RegisterOffset.Of(instruction.Op1Register);
        op->Handler = WidthLog2(instruction, 0) switch
        {
            1 => ScanHandler<W16>(forward, memory),
            2 => ScanHandler<W32>(forward, memory),
            _ => ScanHandler<W64>(forward, memory),
        };
    }

    private static bool IsStringInstruction(in Instruction instruction) => instruction.Code
        is Code.Movsb_m8_m8 or Code.Movsw_m16_m16 or Code.Movsd_m32_m32 or Code.Movsq_m64_m64
        or Code.Stosb_m8_AL or Code.Stosw_m16_AX or Code.Stosd_m32_EAX or Code.Stosq_m64_RAX
        or Code.Lodsb_AL_m8 or Code.Lodsw_AX_m16 or Code.Lodsd_EAX_m32 or Code.Lodsq_RAX_m64
        or Code.Cmpsb_m8_m8 or Code.Cmpsw_m16_m16 or Code.Cmpsd_m32_m32 or Code.Cmpsq_m64_m64
        or Code.Scasb_AL_m8 or Code.Scasw_AX_m16 or Code.Scasd_EAX_m32 or Code.Scasq_RAX_m64;

    private static void TranslateString(in Instruction instruction, Op* op)
    {
        char operation = instruction.Code switch
        {
            Code.Movsb_m8_m8 or Code.Movsw_m16_m16 or Code.Movsd_m32_m32 or Code.Movsq_m64_m64 => 'M',
            Code.Stosb_m8_AL or Code.Stosw_m16_AX or Code.Stosd_m32_EAX or Code.Stosq_m64_RAX => 'S',
            Code.Lodsb_AL_m8 or Code.Lodsw_AX_m16 or Code.Lodsd_EAX_m32 or Code.Lodsq_RAX_m64 => 'L',
            Code.Cmpsb_m8_m8 or Code.Cmpsw_m16_m16 or Code.Cmpsd_m32_m32 or Code.Cmpsq_m64_m64 => 'C',
            _ => 'A',
        };
        op->Handler = instruction.MemorySize.GetSize() switch
        {
            1 => StringHandler<W8>(operation),
            2 => StringHandler<W16>(operation),
            4 => StringHandler<W32>(operation),
            _ => StringHandler<W64>(operation),
        };
    }

    private static void TranslateFlags(in Instruction instruction, Op* op)
    {
        switch (instruction.Mnemonic)
        {
            case Mnemonic.Clc:
                op->Handler = &FlagOperations.ClearCarry;
                break;
            case Mnemonic.Stc:
                op->Handler = &FlagOperations.SetCarry;
                break;
            case Mnemonic.Cmc:
                op->Handler = &FlagOperations.ComplementCarry;
                break;
            case Mnemonic.Cld:
                op->Handler = &FlagOperations.ClearDirection;
                break;
            case Mnemonic.Std:
                op->Handler = &FlagOperations.SetDirection;
                break;
            case Mnemonic.Lahf:
                op->Handler = &FlagOperations.LoadAh;
                break;
            case Mnemonic.Sahf:
                op->Handler = &FlagOperations.StoreAh;
                break;
            case Mnemonic.Salc:
                op->Handler = &FlagOperations.SetAlFromCarry;
                break;
            case Mnemonic.Nop or Mnemonic.Reservednop:
                op->Handler = &FlagOperations.Nothing;
                break;
            case Mnemonic.Daa:
                op->Handler = &DecimalAdjust.AfterAddition;
                break;
            case Mnemonic.Das:
                op->Handler = &DecimalAdjust.AfterSubtraction;
                break;
            case Mnemonic.Aaa:
                op->Handler = &DecimalAdjust.AsciiAfterAddition;
                break;
            case Mnemonic.Aas:
                op->Handler = &DecimalAdjust.AsciiAfterSubtraction;
                break;
            case Mnemonic.Aam:
                op->Imm = instruction.Immediate8;
                op->Handler = &DecimalAdjust.AsciiAfterMultiply;
                break;
            case Mnemonic.Aad:
                op->Imm = instruction.Immediate8;
                op->Handler = &DecimalAdjust.AsciiBeforeDivision;
                break;
            default:
                break;
        }
    }
}
