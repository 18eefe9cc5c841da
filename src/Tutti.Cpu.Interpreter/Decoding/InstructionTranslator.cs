using Iced.Intel;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>Turns a decoded instruction into an op: resolves its memory operand and asks the translators of each group.</summary>
internal static unsafe class InstructionTranslator
{
    public static void Translate(in Instruction instruction, Op* op, ref TranslationContext context)
    {
        if (instruction.HasLockPrefix)
        {
            op->Flags |= OpFlags.Lock;
        }

        if (instruction.HasRepPrefix)
        {
            op->Flags |= OpFlags.Rep;
        }

        if (instruction.HasRepnePrefix)
        {
            op->Flags |= OpFlags.Repne;
        }

        if (!instruction.IsInvalid
            && TrySetMemory(instruction, op, ref context)
            && (IntegerTranslator.TryTranslate(instruction, op, ref context)
                || VectorTranslator.TryTranslate(instruction, op, ref context)
                || SystemTranslator.TryTranslate(instruction, op, ref context)))
        {
            return;
        }

        op->Handler = &InvalidOpcode;
        context.EndsBlock = true;
    }

    /// <summary>#UD: not an instruction, or one that CPUID does not show.</summary>
    public static Op* InvalidOpcode(CpuState* state, Op* op) => Flow.Raise(state, op, ExceptionVector.InvalidOpcode);

    /// <summary>#GP: more than 15 bytes.</summary>
    public static Op* TooLong(CpuState* state, Op* op) => Flow.Raise(state, op, ExceptionVector.GeneralProtection);

    /// <summary>Resolves the (only) memory operand.</summary>
    private static bool TrySetMemory(in Instruction instruction, Op* op, ref TranslationContext context)
    {
        op->Base = CpuState.ZeroOffset;
        op->Index = CpuState.ZeroOffset;
        op->AddressSize = context.Is64 ? (byte)8 : (context.Mode & CodeMode.BitnessMask) == CodeMode.Bits32 ? (byte)4 : (byte)2;
        op->Segment = 3;
        for (int i = 0; i < instruction.OpCount; i++)
        {
            switch (instruction.GetOpKind(i))
            {
                case OpKind.Memory:
                    return TrySetModRm(instruction, op, ref context);
                case OpKind.MemorySegSI or OpKind.MemoryESDI or OpKind.MemorySegDI:
                    op->AddressSize = 2;
                    op->Segment = Segment(instruction, context);
                    break;
                case OpKind.MemorySegESI or OpKind.MemoryESEDI or OpKind.MemorySegEDI:
                    op->AddressSize = 4;
                    op->Segment = Segment(instruction, context);
                    break;
                case OpKind.MemorySegRSI or OpKind.MemoryESRDI or OpKind.MemorySegRDI:
                    op->AddressSize = 8;
                    op->Segment = Segment(instruction, context);
                    break;
                default:
                    break;
            }
        }

        return true;
    }

    /// <summary>
    /// The operand's segment. 64-bit mode ignores ES, CS, SS and DS prefixes, also where it comes to #SS or #GP: only a
    /// stack register as base makes it SS. Source: Intel SDM volume 1, "Segmentation in 64-Bit Mode".
    /// </summary>
    private static byte Segment(in Instruction instruction, in TranslationContext context)
    {
        byte segment = RegisterOffset.Segment(instruction.MemorySegment);
        if (!context.Is64 || segment >= 4)
        {
            return segment;
        }

        return instruction.MemoryBase is Register.RSP or Register.RBP or Register.ESP or Register.EBP ? (byte)2 : (byte)3;
    }

    private static bool TrySetModRm(in Instruction instruction, Op* op, ref TranslationContext context)
    {
        Register baseRegister = instruction.MemoryBase;

        // A gather adds the elements of its vector index itself.
        Register index = instruction.IsVsib ? Register.None : instruction.MemoryIndex;

        op->Segment = Segment(instruction, context);
        op->Base = RegisterOffset.Of(baseRegister);
        op->Index = RegisterOffset.Of(index);
        op->Scale = instruction.MemoryIndexScale switch { 1 => 0, 2 => 1, 4 => 2, _ => 3 };
        int addressSize = baseRegister != Register.None ? baseRegister.GetSize()
            : index != Register.None ? index.GetSize()
            : instruction.MemoryDisplSize is 0 or 1 ? op->AddressSize : instruction.MemoryDisplSize;
        op->AddressSize = (byte)addressSize;
        long displacement = (long)instruction.MemoryDisplacement64;
        if (baseRegister is Register.RIP or Register.EIP)
        {
            displacement -= (long)context.BlockRip;
        }

        if (addressSize == 4)
        {
            displacement = (int)displacement;
        }

        if (baseRegister == Register.RIP && displacement > int.MaxValue)
        {
            // Counted from the block's start it is farther away than from its own instruction; there is no index register.
            displacement -= CpuState.Reach;
            op->Index = CpuState.ReachOffset;
        }

        if (displacement != (int)displacement)
        {
            // A 64-bit absolute address (MOV moffs).
            op->Disp = 0;
            op->Imm = (ulong)displacement;
            context.Address = AddressKind.Long;
            return instruction.MemoryDisplSize == 8;
        }

        op->Disp = (int)displacement;
        context.Address = !context.Is64 ? AddressKind.Segmented
            : op->Segment >= 4 || addressSize != 8 ? AddressKind.Long
            : AddressKind.Flat;
        return true;
    }
}
