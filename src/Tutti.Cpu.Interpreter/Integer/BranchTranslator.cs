using Iced.Intel;

namespace Tutti.Cpu.Interpreter;

/// <summary>Near branches, and the fusing of CMP or TEST with the conditional branch behind it.</summary>
internal static unsafe partial class IntegerTranslator
{
    private static bool TryTranslateBranch(in Instruction instruction, Op* op, ref TranslationContext context)
    {
        if (instruction.IsJccShortOrNear)
        {
            TranslateConditionalJump(instruction, op, ref context);
            return true;
        }

        switch (instruction.Mnemonic)
        {
            case Mnemonic.Jmp when instruction.IsJmpShortOrNear:
                SetTarget(instruction, op, context);
                op->Handler = context.Is64 && op->Aux != Branches.FarAway ? &Branches.Jump : &Branches.TakeLegacy;
                break;
            case Mnemonic.Call when instruction.IsCallNear:
                SetTarget(instruction, op, context);
                op->Segment = 2;
                op->Handler = op->Aux == Branches.FarAway ? &Branches.CallLegacy<W64>
                    : context.Is64 ? &Branches.Call
                    : op->Aux == 2 ? &Branches.CallLegacy<W16>
                    : &Branches.CallLegacy<W32>;
                break;
            case Mnemonic.Jmp or Mnemonic.Call when instruction.IsJmpNearIndirect || instruction.IsCallNearIndirect:
                TranslateIndirect(instruction, op);
                break;
            case Mnemonic.Ret:
                op->Segment = 2;
                op->Imm = instruction.OpCount == 1 ? instruction.Immediate16 : 0UL;
                op->Handler = instruction.Code switch
                {
                    Code.Retnw or Code.Retnw_imm16 => &Branches.Return<W16>,
                    Code.Retnd or Code.Retnd_imm16 => &Branches.Return<W32>,
                    _ => &Branches.Return<W64>,
                };
                break;
            case Mnemonic.Loop or Mnemonic.Loope or Mnemonic.Loopne or Mnemonic.Jcxz or Mnemonic.Jecxz or Mnemonic.Jrcxz:
                TranslateLoop(instruction, op, context);

                // Not taken, control goes on in this block.
                return true;
            default:
                return false;
        }

        context.EndsBlock = true;
        return true;
    }

    private static void SetTarget(in Instruction instruction, Op* op, in TranslationContext context)
    {
        long distance = (long)(instruction.NearBranchTarget - context.BlockRip);
        op->Target = (int)distance;
        op->Aux = instruction.Op0Kind == OpKind.NearBranch16 ? (ushort)2 : (ushort)4;
        if (context.Is64 && distance != op->Target)
        {
            op->Aux = Branches.FarAway;
            op->Imm = (ulong)distance;
        }
    }

    private static void TranslateConditionalJump(in Instruction instruction, Op* op, ref TranslationContext context)
    {
        int condition = (int)instruction.ConditionCode - 1;
        SetTarget(instruction, op, context);
        bool near64 = context.Is64 && op->Aux != Branches.FarAway;
        op->Handler = ConditionTables.Jump(condition, near64);
        Op* previous = context.Previous;
        if (previous == null || !near64)
        {
            return;
        }

        delegate*<CpuState*, Op*, Op*> fused = ConditionTables.Fused(condition, context.FusableWidthLog2, context.FusableForm, context.FusableIsTest);
        if (fused == null)
        {
            return;
        }

        previous->Handler = fused;
        previous->Target = op->Target;
        previous->Length += op->Length;
        previous->Count = op->Count;
        context.Fused = true;
    }

    private static void TranslateIndirect(in Instruction instruction, Op* op)
    {
        bool call = instruction.Mnemonic == Mnemonic.Call;
        bool memory = IsMemory(instruction, 0);
        op->Dst = memory ? (byte)0 : RegisterOffset.Of(instruction.Op0Register);
        op->Handler = (WidthLog2(instruction, 0), call, memory) switch
        {
            (1, false, false) => &Branches.JumpRegister<W16>,
            (1, false, true) => &Branches.JumpMemory<W16>,
            (1, true, false) => &Branches.CallRegister<W16>,
            (1, true, true) => &Branches.CallMemory<W16>,
            (2, false, false) => &Branches.JumpRegister<W32>,
            (2, false, true) => &Branches.JumpMemory<W32>,
            (2, true, false) => &Branches.CallRegister<W32>,
            (2, true, true) => &Branches.CallMemory<W32>,
            (_, false, false) => &Branches.JumpRegister<W64>,
            (_, false, true) => &Branches.JumpMemory<W64>,
            (_, true, false) => &Branches.CallRegister<W64>,
            (_, true, true) => &Branches.CallMemory<W64>,
        };
    }

    private static void TranslateLoop(in Instruction instruction, Op* op, in TranslationContext context)
    {
        SetTarget(instruction, op, context);
        op->Imm = instruction.Mnemonic switch
        {
            Mnemonic.Loop => 0,
            Mnemonic.Loope => 1,
            Mnemonic.Loopne => 2,
            _ => 3,
        };
        op->AddressSize = instruction.Code switch
        {
            Code.Loop_rel8_16_CX or Code.Loop_rel8_32_CX
            or Code.Loope_rel8_16_CX or Code.Loope_rel8_32_CX
            or Code.Loopne_rel8_16_CX or Code.Loopne_rel8_32_CX
            or Code.Jcxz_rel8_16 or Code.Jcxz_rel8_32 => 2,
            Code.Loop_rel8_16_RCX or Code.Loop_rel8_64_RCX
            or Code.Loope_rel8_16_RCX or Code.Loope_rel8_64_RCX
            or Code.Loopne_rel8_16_RCX or Code.Loopne_rel8_64_RCX
            or Code.Jrcxz_rel8_16 or Code.Jrcxz_rel8_64 => 8,
            _ => 4,
        };
        op->Handler = &Branches.Loop;
    }
}
