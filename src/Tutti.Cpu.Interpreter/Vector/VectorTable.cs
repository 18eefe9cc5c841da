using Iced.Intel;

namespace Tutti.Cpu.Interpreter;

/// <summary>What the manuals say of vector instructions and Iced's tables do not.</summary>
internal static class VectorTable
{
    private const RflagsBits Arithmetic =
        RflagsBits.OF | RflagsBits.SF | RflagsBits.ZF | RflagsBits.AF | RflagsBits.CF | RflagsBits.PF;

    // Source: Intel SDM volume 2, "SIMD Floating-Point Exceptions" of each instruction.
    private static readonly HashSet<Mnemonic> FloatingPoint =
    [
        Mnemonic.Addps, Mnemonic.Addpd, Mnemonic.Addss, Mnemonic.Addsd,
        Mnemonic.Subps, Mnemonic.Subpd, Mnemonic.Subss, Mnemonic.Subsd,
        Mnemonic.Mulps, Mnemonic.Mulpd, Mnemonic.Mulss, Mnemonic.Mulsd,
        Mnemonic.Divps, Mnemonic.Divpd, Mnemonic.Divss, Mnemonic.Divsd,
        Mnemonic.Sqrtps, Mnemonic.Sqrtpd, Mnemonic.Sqrtss, Mnemonic.Sqrtsd,
        Mnemonic.Minps, Mnemonic.Minpd, Mnemonic.Minss, Mnemonic.Minsd,
        Mnemonic.Maxps, Mnemonic.Maxpd, Mnemonic.Maxss, Mnemonic.Maxsd,
        Mnemonic.Cmpps, Mnemonic.Cmppd, Mnemonic.Cmpss, Mnemonic.Cmpsd,
        Mnemonic.Comiss, Mnemonic.Comisd, Mnemonic.Ucomiss, Mnemonic.Ucomisd,
        Mnemonic.Addsubps, Mnemonic.Addsubpd, Mnemonic.Haddps, Mnemonic.Haddpd, Mnemonic.Hsubps, Mnemonic.Hsubpd,
        Mnemonic.Dpps, Mnemonic.Dppd,
        Mnemonic.Roundps, Mnemonic.Roundpd, Mnemonic.Roundss, Mnemonic.Roundsd,
        Mnemonic.Cvtpi2ps, Mnemonic.Cvtpi2pd, Mnemonic.Cvtps2pi, Mnemonic.Cvtpd2pi, Mnemonic.Cvttps2pi, Mnemonic.Cvttpd2pi,
        Mnemonic.Cvtsi2ss, Mnemonic.Cvtsi2sd, Mnemonic.Cvtss2si, Mnemonic.Cvtsd2si, Mnemonic.Cvttss2si, Mnemonic.Cvttsd2si,
        Mnemonic.Cvtps2pd, Mnemonic.Cvtpd2ps, Mnemonic.Cvtss2sd, Mnemonic.Cvtsd2ss,
        Mnemonic.Cvtdq2ps, Mnemonic.Cvtdq2pd, Mnemonic.Cvtps2dq, Mnemonic.Cvtpd2dq, Mnemonic.Cvttps2dq, Mnemonic.Cvttpd2dq,
        Mnemonic.Vaddps, Mnemonic.Vaddpd, Mnemonic.Vaddss, Mnemonic.Vaddsd, Mnemonic.Vsubps, Mnemonic.Vsubpd, Mnemonic.Vsubss,
        Mnemonic.Vsubsd, Mnemonic.Vmulps, Mnemonic.Vmulpd, Mnemonic.Vmulss, Mnemonic.Vmulsd, Mnemonic.Vdivps, Mnemonic.Vdivpd,
        Mnemonic.Vdivss, Mnemonic.Vdivsd, Mnemonic.Vsqrtps, Mnemonic.Vsqrtpd, Mnemonic.Vsqrtss, Mnemonic.Vsqrtsd,
        Mnemonic.Vminps, Mnemonic.Vminpd, Mnemonic.Vminss, Mnemonic.Vminsd, Mnemonic.Vmaxps, Mnemonic.Vmaxpd, Mnemonic.Vmaxss,
        Mnemonic.Vmaxsd, Mnemonic.Vcmpps, Mnemonic.Vcmppd, Mnemonic.Vcmpss, Mnemonic.Vcmpsd, Mnemonic.Vcomiss, Mnemonic.Vcomisd,
        Mnemonic.Vucomiss, Mnemonic.Vucomisd, Mnemonic.Vaddsubps, Mnemonic.Vaddsubpd, Mnemonic.Vhaddps, Mnemonic.Vhaddpd,
        Mnemonic.Vhsubps, Mnemonic.Vhsubpd, Mnemonic.Vdpps, Mnemonic.Vdppd, Mnemonic.Vroundps, Mnemonic.Vroundpd,
        Mnemonic.Vroundss, Mnemonic.Vroundsd, Mnemonic.Vcvtsi2ss, Mnemonic.Vcvtsi2sd, Mnemonic.Vcvtss2si, Mnemonic.Vcvtsd2si,
        Mnemonic.Vcvttss2si, Mnemonic.Vcvttsd2si, Mnemonic.Vcvtps2pd, Mnemonic.Vcvtpd2ps, Mnemonic.Vcvtss2sd,
        Mnemonic.Vcvtsd2ss, Mnemonic.Vcvtdq2ps, Mnemonic.Vcvtdq2pd, Mnemonic.Vcvtps2dq, Mnemonic.Vcvtpd2dq, Mnemonic.Vcvttps2dq,
        Mnemonic.Vcvttpd2dq,
    ];

    /// <summary>Whether MXCSR steers the instruction and gets its exception flags.</summary>
    public static bool UsesMxcsr(in Instruction instruction) => FloatingPoint.Contains(instruction.Mnemonic)
        || instruction.CpuidFeatures is [CpuidFeature.FMA] or [CpuidFeature.F16C];

    /// <summary>Whether a 16-byte memory operand must lie on a 16-byte boundary; so for all but these.</summary>
    public static bool IsAligned(Code code) => code is not (Code.Movups_xmm_xmmm128 or Code.Movups_xmmm128_xmm
        or Code.Movupd_xmm_xmmm128 or Code.Movupd_xmmm128_xmm or Code.Movdqu_xmm_xmmm128 or Code.Movdqu_xmmm128_xmm
        or Code.Lddqu_xmm_m128
        or Code.Pcmpestri_xmm_xmmm128_imm8 or Code.Pcmpestri64_xmm_xmmm128_imm8
        or Code.Pcmpestrm_xmm_xmmm128_imm8 or Code.Pcmpestrm64_xmm_xmmm128_imm8
        or Code.Pcmpistri_xmm_xmmm128_imm8 or Code.Pcmpistrm_xmm_xmmm128_imm8);

    /// <summary>Whether the instruction reads flags, or leaves some of the six as they were (or undefined: then they stay too).</summary>
    public static bool NeedsFlags(in Instruction instruction)
    {
        RflagsBits set = instruction.RflagsWritten | instruction.RflagsCleared | instruction.RflagsSet;
        return instruction.RflagsRead != RflagsBits.None
            || (instruction.RflagsModified != RflagsBits.None && (set & Arithmetic) != Arithmetic);
    }
}
