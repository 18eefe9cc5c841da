using Iced.Intel;

namespace Tutti.Cpu.Interpreter;

/// <summary>Instructions that C# does as well as the host's own: hints, state saves, byte swaps, bit counts, stores of MMX registers.</summary>
internal static unsafe class PlainTranslator
{
    public static bool TryTranslate(in Instruction instruction, Op* op, in TranslationContext context)
    {
        delegate*<CpuState*, Op*, Op*> handler = State(instruction.Code);
        if (handler == null)
        {
            handler = Hint(instruction);
        }

        if (handler != null)
        {
            op->Aux = instruction.Code is Code.Fxsave64_m512byte or Code.Fxrstor64_m512byte or Code.Xsave64_mem
                or Code.Xsaveopt64_mem or Code.Xrstor64_mem ? (ushort)1 : (ushort)0;
            op->Handler = handler;
            return true;
        }

        return TrySetMmx(instruction, op) || TrySetGeneral(instruction, op);
    }

    private static delegate*<CpuState*, Op*, Op*> State(Code code) => code switch
    {
        Code.Fxsave_m512byte or Code.Fxsave64_m512byte => &FxSave.Save,
        Code.Fxrstor_m512byte or Code.Fxrstor64_m512byte => &FxSave.Restore,
        Code.Xsave_mem or Code.Xsave64_mem => &FxSave.ExtendedSave,
        Code.Xsaveopt_mem or Code.Xsaveopt64_mem => &FxSave.OptimizedSave,
        Code.Xrstor_mem or Code.Xrstor64_mem => &FxSave.ExtendedRestore,
        Code.Ldmxcsr_m32 => &FxSave.LoadMxcsr,
        Code.Stmxcsr_m32 => &FxSave.StoreMxcsr,
        Code.Emms => &MmxOps.Empty,
        _ => null,
    };

    private static delegate*<CpuState*, Op*, Op*> Hint(in Instruction instruction) => instruction.Mnemonic switch
    {
        Mnemonic.Pause => &VectorOps.Nothing,
        Mnemonic.Clflush or Mnemonic.Clflushopt => &GeneralOps.FlushLine,
        Mnemonic.Mfence or Mnemonic.Lfence or Mnemonic.Sfence => &VectorOps.Fence,
        _ => null,
    };

    private static bool TrySetMmx(in Instruction instruction, Op* op)
    {
        switch (instruction.Code)
        {
            case Code.Movq_mmm64_mm or Code.Movq_rm64_mm when instruction.Op0Kind == OpKind.Memory:
            case Code.Movntq_m64_mm:
                op->Handler = &MmxOps.Store<W64>;
                break;
            case Code.Movd_rm32_mm when instruction.Op0Kind == OpKind.Memory:
                op->Handler = &MmxOps.Store<W32>;
                break;
            case Code.Movq_mmm64_mm:
                op->Handler = &MmxOps.Copy;
                op->Dst = (byte)(instruction.Op0Register - Register.MM0);
                break;
            case Code.Movq_rm64_mm:
                op->Handler = &MmxOps.CopyToGeneral<W64>;
                op->Dst = RegisterOffset.Of(instruction.Op0Register);
                break;
            case Code.Movd_rm32_mm:
                op->Handler = &MmxOps.CopyToGeneral<W32>;
                op->Dst = RegisterOffset.Of(instruction.Op0Register);
                break;
            case Code.Maskmovq_rDI_mm_mm:
                op->Handler = &MmxOps.MaskedStore8;
                op->Dst = (byte)(instruction.Op2Register - Register.MM0);
                op->Base = RegisterOffset.Of(Register.RDI);
                break;
            case Code.Maskmovdqu_rDI_xmm_xmm:
                op->Handler = &MmxOps.MaskedStore16;
                op->Dst = (byte)(instruction.Op2Register - Register.XMM0);
                op->Src = (byte)(instruction.Op1Register - Register.XMM0);
                op->Base = RegisterOffset.Of(Register.RDI);
                return true;
            default:
                return false;
        }

        op->Src = (byte)(instruction.Op1Register - Register.MM0);
        return true;
    }

    private static bool TrySetGeneral(in Instruction instruction, Op* op)
    {
        switch (instruction.Code)
        {
            case Code.Movbe_r16_m16:
                op->Handler = &GeneralOps.LoadSwapped<W16>;
                break;
            case Code.Movbe_r32_m32:
                op->Handler = &GeneralOps.LoadSwapped<W32>;
                break;
            case Code.Movbe_r64_m64:
                op->Handler = &GeneralOps.LoadSwapped<W64>;
                break;
            case Code.Movbe_m16_r16:
                return SetSource(instruction, op, &GeneralOps.StoreSwapped<W16>);
            case Code.Movbe_m32_r32:
                return SetSource(instruction, op, &GeneralOps.StoreSwapped<W32>);
            case Code.Movbe_m64_r64:
                return SetSource(instruction, op, &GeneralOps.StoreSwapped<W64>);
            case Code.Rdrand_r16 or Code.Rdseed_r16:
                op->Handler = &GeneralOps.Random<W16>;
                break;
            case Code.Rdrand_r32 or Code.Rdseed_r32:
                op->Handler = &GeneralOps.Random<W32>;
                break;
            case Code.Rdrand_r64 or Code.Rdseed_r64:
                op->Handler = &GeneralOps.Random<W64>;
                break;
            case Code.Rdpid_r32 or Code.Rdpid_r64:
                op->Handler = &GeneralOps.ReadProcessorId;
                break;
            case Code.Popcnt_r16_rm16:
                return SetCount<W16, PopulationCount>(instruction, op);
            case Code.Popcnt_r32_rm32:
                return SetCount<W32, PopulationCount>(instruction, op);
            case Code.Popcnt_r64_rm64:
                return SetCount<W64, PopulationCount>(instruction, op);
            case Code.Tzcnt_r16_rm16:
                return SetCount<W16, TrailingZeros>(instruction, op);
            case Code.Tzcnt_r32_rm32:
                return SetCount<W32, TrailingZeros>(instruction, op);
            case Code.Tzcnt_r64_rm64:
                return SetCount<W64, TrailingZeros>(instruction, op);
            case Code.Lzcnt_r16_rm16:
                return SetCount<W16, LeadingZeros>(instruction, op);
            case Code.Lzcnt_r32_rm32:
                return SetCount<W32, LeadingZeros>(instruction, op);
            case Code.Lzcnt_r64_rm64:
                return SetCount<W64, LeadingZeros>(instruction, op);
            default:
                return false;
        }

        op->Dst = RegisterOffset.Of(instruction.Op0Register);
        return true;
    }

    private static bool SetSource(in Instruction instruction, Op* op, delegate*<CpuState*, Op*, Op*> handler)
    {
        op->Src = RegisterOffset.Of(instruction.Op1Register);
        op->Handler = handler;
        return true;
    }

    private static bool SetCount<TWidth, TCount>(in Instruction instruction, Op* op)
        where TWidth : struct, IWidth
        where TCount : struct, IBitCount
    {
        op->Dst = RegisterOffset.Of(instruction.Op0Register);
        if (instruction.Op1Kind == OpKind.Memory)
        {
            op->Handler = &GeneralOps.CountMemory<TWidth, TCount>;
            return true;
        }

        return SetSource(instruction, op, &GeneralOps.CountRegister<TWidth, TCount>);
    }
}
