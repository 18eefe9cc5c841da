using Iced.Intel;
using Tutti.Cpu.Interpreter;

namespace Tutti.Cpu.Translator;

/// <summary>Which instructions are copied as they are; whoever is not named here is interpreted.</summary>
/// <remarks>Plain patterns: sets of Iced's enumerations would be code for the runtime to compile at each start.</remarks>
internal static class CopyTable
{
    /// <summary>General-register instructions that touch nothing but their operands, RAX, RDX, CL and the arithmetic flags.</summary>
    private static bool IsGeneral(Mnemonic mnemonic) => mnemonic is
        Mnemonic.Add or Mnemonic.Adc or Mnemonic.Sub or Mnemonic.Sbb or Mnemonic.And or Mnemonic.Or or Mnemonic.Xor or Mnemonic.Cmp
        or Mnemonic.Test or Mnemonic.Mov or Mnemonic.Movzx or Mnemonic.Movsx or Mnemonic.Movsxd or Mnemonic.Inc or Mnemonic.Dec
        or Mnemonic.Neg or Mnemonic.Not or Mnemonic.Imul or Mnemonic.Mul or Mnemonic.Shl or Mnemonic.Sal or Mnemonic.Shr
        or Mnemonic.Sar or Mnemonic.Rol or Mnemonic.Ror or Mnemonic.Rcl or Mnemonic.Rcr or Mnemonic.Shld or Mnemonic.Shrd
        or Mnemonic.Bt or Mnemonic.Bts or Mnemonic.Btr or Mnemonic.Btc or Mnemonic.Bsf or Mnemonic.Bsr or Mnemonic.Bswap
        or Mnemonic.Cmova or Mnemonic.Cmovae or Mnemonic.Cmovb or Mnemonic.Cmovbe or Mnemonic.Cmove or Mnemonic.Cmovg
        or Mnemonic.Cmovge or Mnemonic.Cmovl or Mnemonic.Cmovle or Mnemonic.Cmovne or Mnemonic.Cmovno or Mnemonic.Cmovnp
        or Mnemonic.Cmovns or Mnemonic.Cmovo or Mnemonic.Cmovp or Mnemonic.Cmovs or Mnemonic.Seta or Mnemonic.Setae
        or Mnemonic.Setb or Mnemonic.Setbe or Mnemonic.Sete or Mnemonic.Setg or Mnemonic.Setge or Mnemonic.Setl or Mnemonic.Setle
        or Mnemonic.Setne or Mnemonic.Setno or Mnemonic.Setnp or Mnemonic.Setns or Mnemonic.Seto or Mnemonic.Setp or Mnemonic.Sets
        or Mnemonic.Xchg or Mnemonic.Xadd or Mnemonic.Cmpxchg or Mnemonic.Cmpxchg16b or Mnemonic.Cmpxchg8b or Mnemonic.Cbw
        or Mnemonic.Cwde or Mnemonic.Cdqe or Mnemonic.Cwd or Mnemonic.Cdq or Mnemonic.Cqo or Mnemonic.Clc or Mnemonic.Stc
        or Mnemonic.Cmc or Mnemonic.Lahf or Mnemonic.Sahf or Mnemonic.Pause or Mnemonic.Lfence or Mnemonic.Mfence
        or Mnemonic.Sfence or Mnemonic.Movnti;

    /// <summary>Extensions whose instructions are copied where the engine shows them.</summary>
    private static bool IsExtension(CpuidFeature feature) => feature is
        CpuidFeature.MMX or CpuidFeature.SSE or CpuidFeature.SSE2 or CpuidFeature.SSE3 or CpuidFeature.SSSE3 or CpuidFeature.SSE4_1
        or CpuidFeature.SSE4_2 or CpuidFeature.POPCNT or CpuidFeature.AES or CpuidFeature.PCLMULQDQ or CpuidFeature.SHA
        or CpuidFeature.BMI1 or CpuidFeature.BMI2 or CpuidFeature.ADX or CpuidFeature.LZCNT or CpuidFeature.MOVBE
        or CpuidFeature.AVX or CpuidFeature.AVX2 or CpuidFeature.FMA or CpuidFeature.F16C or CpuidFeature.VAES
        or CpuidFeature.VPCLMULQDQ or CpuidFeature.GFNI;

    /// <summary>Of those extensions: what reaches memory or registers that no field names, or changes how the unit works.</summary>
    private static bool IsSpecial(Mnemonic mnemonic) => mnemonic is
        Mnemonic.Ldmxcsr or Mnemonic.Vldmxcsr or Mnemonic.Stmxcsr or Mnemonic.Vstmxcsr or Mnemonic.Maskmovq or Mnemonic.Maskmovdqu
        or Mnemonic.Vmaskmovdqu or Mnemonic.Emms or Mnemonic.Vmaskmovps or Mnemonic.Vmaskmovpd or Mnemonic.Vpmaskmovd or Mnemonic.Vpmaskmovq
        or Mnemonic.Monitor or Mnemonic.Mwait or Mnemonic.Pcmpestri64 or Mnemonic.Pcmpestrm64 or Mnemonic.Vpcmpestri64
        or Mnemonic.Vpcmpestrm64;

    /// <summary>x87 instructions that change masks or move the whole state: the unit is loaded anew after them.</summary>
    private static bool IsX87Special(Mnemonic mnemonic) => mnemonic is
        Mnemonic.Fldcw or Mnemonic.Fldenv or Mnemonic.Fstenv or Mnemonic.Fnstenv or Mnemonic.Fsave or Mnemonic.Fnsave
        or Mnemonic.Frstor or Mnemonic.Fxsave or Mnemonic.Fxsave64 or Mnemonic.Fxrstor or Mnemonic.Fxrstor64 or Mnemonic.Fdisi
        or Mnemonic.Feni or Mnemonic.Fsetpm or Mnemonic.Fndisi or Mnemonic.Fneni or Mnemonic.Fnsetpm or Mnemonic.Frstpm;

    /// <summary>SSE instructions with a 16-byte operand that need not be aligned.</summary>
    public static bool IsUnaligned(Mnemonic mnemonic) => mnemonic is
        Mnemonic.Movups or Mnemonic.Movupd or Mnemonic.Movdqu or Mnemonic.Lddqu or Mnemonic.Pcmpestrm or Mnemonic.Pcmpistrm
        or Mnemonic.Pcmpestri or Mnemonic.Pcmpistri;

    /// <summary>Instructions whose result is in ECX, which no field names.</summary>
    public static bool WritesRcx(Mnemonic mnemonic) => mnemonic is
        Mnemonic.Pcmpestri or Mnemonic.Pcmpistri or Mnemonic.Vpcmpestri or Mnemonic.Vpcmpistri;

    /// <summary>VEX instructions whose operand must be aligned.</summary>
    public static bool IsAlignedVex(Mnemonic mnemonic) => mnemonic is
        Mnemonic.Vmovaps or Mnemonic.Vmovapd or Mnemonic.Vmovdqa or Mnemonic.Vmovntps or Mnemonic.Vmovntpd or Mnemonic.Vmovntdq
        or Mnemonic.Vmovntdqa;

    /// <summary>Hints, as <see cref="GuestDecoder"/> gives them: they do nothing here.</summary>
    public static bool IsNothing(Mnemonic mnemonic) => mnemonic is Mnemonic.Nop or Mnemonic.Reservednop;

    public static bool IsCopied(Code code, Mnemonic mnemonic)
    {
        if (UsesX87(code) && !UsesMmx(code))
        {
            return !IsX87Special(mnemonic) && !Has(code, static feature => !IsPlainX87(feature) && feature is not (CpuidFeature.CMOV or CpuidFeature.SSE3));
        }

        if (IsGeneral(mnemonic) && !UsesVectors(code))
        {
            return !UsesSystemRegister(code) && !IsOffset(code) && !IsOfAmbiguousSize(code);
        }

        // MMX registers and vectors are two units here: what reaches both is interpreted.
        return !IsSpecial(mnemonic) && !(UsesMmx(code) && UsesVectors(code)) && Has(code, IsExtension) && !Has(code, static feature => !IsExtension(feature) || !HostFeatures.Has(feature));
    }

    /// <summary>
    /// Where processors do not agree how many bytes of memory an instruction reads: MOVSXD with a 16-bit destination reads two on Intel
    /// and four on AMD, and two are what would be looked up.
    /// </summary>
    private static bool IsOfAmbiguousSize(Code code) => code is Code.Movsxd_r16_rm16;

    public static bool UsesX87(Code code) => UsesMmx(code) || Has(code, IsPlainX87);

    private static bool UsesMmx(Code code) =>
        Has(code, static feature => feature is CpuidFeature.MMX) || HasOperand(code, static kind => kind
            is OpCodeOperandKind.mm_reg or OpCodeOperandKind.mm_rm or OpCodeOperandKind.mm_or_mem);

    public static bool UsesVectors(Code code) => HasOperand(code, static kind => kind
        is OpCodeOperandKind.xmm_reg or OpCodeOperandKind.xmm_rm or OpCodeOperandKind.xmm_or_mem or OpCodeOperandKind.xmm_vvvv
        or OpCodeOperandKind.ymm_reg or OpCodeOperandKind.ymm_rm or OpCodeOperandKind.ymm_or_mem or OpCodeOperandKind.ymm_vvvv)
        || code is Code.VEX_Vzeroupper or Code.VEX_Vzeroall;

    private static bool IsPlainX87(CpuidFeature feature) => feature is CpuidFeature.FPU or CpuidFeature.FPU287 or CpuidFeature.FPU387;

    private static bool UsesSystemRegister(Code code) => HasOperand(code, static kind => kind
        is OpCodeOperandKind.seg_reg or OpCodeOperandKind.cr_reg or OpCodeOperandKind.dr_reg or OpCodeOperandKind.tr_reg);

    private static bool IsOffset(Code code) => code is Code.Mov_AL_moffs8 or Code.Mov_AX_moffs16 or Code.Mov_EAX_moffs32
        or Code.Mov_RAX_moffs64 or Code.Mov_moffs8_AL or Code.Mov_moffs16_AX or Code.Mov_moffs32_EAX or Code.Mov_moffs64_RAX;

    private static bool Has(Code code, Func<CpuidFeature, bool> test)
    {
        foreach (CpuidFeature feature in code.CpuidFeatures())
        {
            if (test(feature))
            {
                return true;
            }
        }

        return false;
    }

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
