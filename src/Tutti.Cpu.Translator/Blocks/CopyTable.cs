using System.Collections.Frozen;
using Iced.Intel;
using Tutti.Cpu.Interpreter;

namespace Tutti.Cpu.Translator;

/// <summary>Which instructions are copied as they are; whoever is not named here is interpreted.</summary>
internal static class CopyTable
{
    /// <summary>General-register instructions that touch nothing but their operands, RAX, RDX, CL and the arithmetic flags.</summary>
    private static readonly FrozenSet<Mnemonic> General = new[]
    {
        Mnemonic.Add, Mnemonic.Adc, Mnemonic.Sub, Mnemonic.Sbb, Mnemonic.And, Mnemonic.Or, Mnemonic.Xor, Mnemonic.Cmp, Mnemonic.Test,
        Mnemonic.Mov, Mnemonic.Movzx, Mnemonic.Movsx, Mnemonic.Movsxd, Mnemonic.Inc, Mnemonic.Dec, Mnemonic.Neg, Mnemonic.Not,
        Mnemonic.Imul, Mnemonic.Mul, Mnemonic.Shl, Mnemonic.Sal, Mnemonic.Shr, Mnemonic.Sar, Mnemonic.Rol, Mnemonic.Ror, Mnemonic.Rcl,
        Mnemonic.Rcr, Mnemonic.Shld, Mnemonic.Shrd, Mnemonic.Bt, Mnemonic.Bts, Mnemonic.Btr, Mnemonic.Btc, Mnemonic.Bsf, Mnemonic.Bsr,
        Mnemonic.Bswap, Mnemonic.Cmova, Mnemonic.Cmovae, Mnemonic.Cmovb, Mnemonic.Cmovbe, Mnemonic.Cmove, Mnemonic.Cmovg,
        Mnemonic.Cmovge, Mnemonic.Cmovl, Mnemonic.Cmovle, Mnemonic.Cmovne, Mnemonic.Cmovno, Mnemonic.Cmovnp, Mnemonic.Cmovns,
        Mnemonic.Cmovo, Mnemonic.Cmovp, Mnemonic.Cmovs, Mnemonic.Seta, Mnemonic.Setae, Mnemonic.Setb, Mnemonic.Setbe, Mnemonic.Sete,
        Mnemonic.Setg, Mnemonic.Setge, Mnemonic.Setl, Mnemonic.Setle, Mnemonic.Setne, Mnemonic.Setno, Mnemonic.Setnp, Mnemonic.Setns,
        Mnemonic.Seto, Mnemonic.Setp, Mnemonic.Sets, Mnemonic.Xchg, Mnemonic.Xadd, Mnemonic.Cmpxchg, Mnemonic.Cmpxchg16b,
        Mnemonic.Cmpxchg8b, Mnemonic.Cbw, Mnemonic.Cwde, Mnemonic.Cdqe, Mnemonic.Cwd, Mnemonic.Cdq, Mnemonic.Cqo, Mnemonic.Clc,
        Mnemonic.Stc, Mnemonic.Cmc, Mnemonic.Lahf, Mnemonic.Sahf, Mnemonic.Pause, Mnemonic.Lfence, Mnemonic.Mfence, Mnemonic.Sfence,
        Mnemonic.Movnti,
    }.ToFrozenSet();

    /// <summary>Extensions whose instructions are copied where the engine shows them.</summary>
    private static readonly FrozenSet<CpuidFeature> Extensions = new[]
    {
        CpuidFeature.MMX, CpuidFeature.SSE, CpuidFeature.SSE2, CpuidFeature.SSE3, CpuidFeature.SSSE3, CpuidFeature.SSE4_1,
        CpuidFeature.SSE4_2, CpuidFeature.POPCNT, CpuidFeature.AES, CpuidFeature.PCLMULQDQ, CpuidFeature.SHA, CpuidFeature.BMI1,
        CpuidFeature.BMI2, CpuidFeature.ADX, CpuidFeature.LZCNT, CpuidFeature.MOVBE, CpuidFeature.AVX, CpuidFeature.AVX2,
        CpuidFeature.FMA, CpuidFeature.F16C, CpuidFeature.VAES, CpuidFeature.VPCLMULQDQ, CpuidFeature.GFNI,
    }.ToFrozenSet();

    /// <summary>Of those extensions: what reaches memory or registers that no field names, or changes how the unit works.</summary>
    private static readonly FrozenSet<Mnemonic> Special = new[]
    {
        Mnemonic.Ldmxcsr, Mnemonic.Vldmxcsr, Mnemonic.Stmxcsr, Mnemonic.Vstmxcsr, Mnemonic.Maskmovq, Mnemonic.Maskmovdqu,
        Mnemonic.Vmaskmovdqu, Mnemonic.Pcmpestri, Mnemonic.Pcmpistri, Mnemonic.Vpcmpestri, Mnemonic.Vpcmpistri, Mnemonic.Emms,
        Mnemonic.Vmaskmovps, Mnemonic.Vmaskmovpd, Mnemonic.Vpmaskmovd, Mnemonic.Vpmaskmovq, Mnemonic.Monitor, Mnemonic.Mwait,
        Mnemonic.Pcmpestri64, Mnemonic.Pcmpestrm64, Mnemonic.Vpcmpestri64, Mnemonic.Vpcmpestrm64,
    }.ToFrozenSet();

    /// <summary>x87 instructions that change masks or move the whole state: the unit is loaded anew after them.</summary>
    private static readonly FrozenSet<Mnemonic> X87Special = new[]
    {
        Mnemonic.Fldcw, Mnemonic.Fldenv, Mnemonic.Fstenv, Mnemonic.Fnstenv, Mnemonic.Fsave, Mnemonic.Fnsave, Mnemonic.Frstor,
        Mnemonic.Fxsave, Mnemonic.Fxsave64, Mnemonic.Fxrstor, Mnemonic.Fxrstor64, Mnemonic.Fdisi, Mnemonic.Feni, Mnemonic.Fsetpm,
        Mnemonic.Fndisi, Mnemonic.Fneni, Mnemonic.Fnsetpm, Mnemonic.Frstpm,
    }.ToFrozenSet();

    private static readonly FrozenSet<Mnemonic> Unaligned = new[]
    {
        Mnemonic.Movups, Mnemonic.Movupd, Mnemonic.Movdqu, Mnemonic.Lddqu, Mnemonic.Pcmpestrm, Mnemonic.Pcmpistrm,
    }.ToFrozenSet();

    private static readonly FrozenSet<Mnemonic> AlignedVex = new[]
    {
        Mnemonic.Vmovaps, Mnemonic.Vmovapd, Mnemonic.Vmovdqa, Mnemonic.Vmovntps, Mnemonic.Vmovntpd, Mnemonic.Vmovntdq, Mnemonic.Vmovntdqa,
    }.ToFrozenSet();

    /// <summary>Hints that do nothing here.</summary>
    public static bool IsNothing(Code code) => code is Code.Nopw or Code.Nopd or Code.Nopq or Code.Nop_rm16 or Code.Nop_rm32
        or Code.Nop_rm64 or Code.Endbr64 or Code.Endbr32 or Code.Prefetchnta_m8 or Code.Prefetcht0_m8 or Code.Prefetcht1_m8
        or Code.Prefetcht2_m8 or Code.Prefetchw_m8 or Code.Prefetch_m8;

    public static bool IsCopied(Code code, Mnemonic mnemonic)
    {
        if (UsesX87(code) && !code.CpuidFeatures().Contains(CpuidFeature.MMX))
        {
            return !X87Special.Contains(mnemonic) && code.CpuidFeatures().All(static feature => IsPlainX87(feature) || feature is CpuidFeature.CMOV or CpuidFeature.SSE3);
        }

        if (General.Contains(mnemonic) && !UsesVectors(code))
        {
            return !UsesSystemRegister(code) && !IsOffset(code);
        }

        return !Special.Contains(mnemonic) && code.CpuidFeatures() is { Length: > 0 } features
            && features.All(feature => Extensions.Contains(feature) && HostFeatures.Has(feature));
    }

    public static bool UsesX87(Code code) =>
        code.CpuidFeatures().Any(feature => feature is CpuidFeature.MMX || IsPlainX87(feature)) || HasOperand(code, static kind => kind
            is OpCodeOperandKind.mm_reg or OpCodeOperandKind.mm_rm or OpCodeOperandKind.mm_or_mem);

    public static bool UsesVectors(Code code) => HasOperand(code, static kind => kind
        is OpCodeOperandKind.xmm_reg or OpCodeOperandKind.xmm_rm or OpCodeOperandKind.xmm_or_mem or OpCodeOperandKind.xmm_vvvv
        or OpCodeOperandKind.ymm_reg or OpCodeOperandKind.ymm_rm or OpCodeOperandKind.ymm_or_mem or OpCodeOperandKind.ymm_vvvv)
        || code is Code.VEX_Vzeroupper or Code.VEX_Vzeroall;

    /// <summary>SSE instructions with a 16-byte operand that need not be aligned.</summary>
    public static bool IsUnaligned(Mnemonic mnemonic) => Unaligned.Contains(mnemonic);

    /// <summary>VEX instructions whose operand must be aligned.</summary>
    public static bool IsAlignedVex(Mnemonic mnemonic) => AlignedVex.Contains(mnemonic);

    private static bool IsPlainX87(CpuidFeature feature) => feature is CpuidFeature.FPU or CpuidFeature.FPU287 or CpuidFeature.FPU387;

    private static bool UsesSystemRegister(Code code) => HasOperand(code, static kind => kind
        is OpCodeOperandKind.seg_reg or OpCodeOperandKind.cr_reg or OpCodeOperandKind.dr_reg or OpCodeOperandKind.tr_reg);


    private static bool IsOffset(Code code) => code is Code.Mov_AL_moffs8 or Code.Mov_AX_moffs16 or Code.Mov_EAX_moffs32
        or Code.Mov_RAX_moffs64 or Code.Mov_moffs8_AL or Code.Mov_moffs16_AX or Code.Mov_moffs32_EAX or Code.Mov_moffs64_RAX;

    private static bool HasOperand(Code code, Func<OpCodeOperandKind, bool> test)
    {
        InstructionForm form = InstructionForm.Of(code);
        for (int i = 0; i < form.OperandCount; i++)
        {
            if (test(form.KindOf(i)))
            {
                return true;
            }
        }

        return false;
    }
}
