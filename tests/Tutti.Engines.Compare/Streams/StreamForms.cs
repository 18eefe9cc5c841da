using Iced.Intel;
using Tutti.Cpu.Interpreter.Tests.Oracle;

namespace Tutti.Engines.Compare.Streams;

/// <summary>The instruction forms that streams of a mode are made of, by group.</summary>
internal static class StreamForms
{
    public const string X87 = "X87";

    /// <summary>Groups of the oracle, and how often each is chosen.</summary>
    private static readonly (string Group, int Weight)[] Weights =
    [
        ("Alu", 26), ("Shift", 9), ("MulDiv", 5), ("Move", 16), ("Condition", 6), ("Bit", 6), ("Bmi", 4), ("String", 5), ("Stack", 5),
        ("Decimal", 2), (FormTable.Vector, 14), (X87, 3), ("Undefined", 1),
    ];

    /// <summary>Forms whose results are the processor's own affair, or that need more than an operand in the arena.</summary>
    private static readonly HashSet<Mnemonic> Unwanted =
    [
        Mnemonic.Xlatb, Mnemonic.Enter, Mnemonic.Leave, Mnemonic.Maskmovq, Mnemonic.Maskmovdqu, Mnemonic.Bound, Mnemonic.Salc,
        // DPPS and DPPD multiply and then add, and processors do not agree on what an unmasked exception between leaves.
        Mnemonic.Dpps, Mnemonic.Dppd, Mnemonic.Rcpps, Mnemonic.Rcpss, Mnemonic.Rsqrtps, Mnemonic.Rsqrtss,
    ];

    private static readonly HashSet<Mnemonic> X87Mnemonics =
    [
        Mnemonic.Fadd, Mnemonic.Faddp, Mnemonic.Fsub, Mnemonic.Fsubp, Mnemonic.Fsubr, Mnemonic.Fsubrp, Mnemonic.Fmul, Mnemonic.Fmulp,
        Mnemonic.Fdiv, Mnemonic.Fdivp, Mnemonic.Fdivr, Mnemonic.Fdivrp, Mnemonic.Fiadd, Mnemonic.Fisub, Mnemonic.Fimul, Mnemonic.Fidiv,
        Mnemonic.Fld, Mnemonic.Fst, Mnemonic.Fstp, Mnemonic.Fild, Mnemonic.Fist, Mnemonic.Fistp, Mnemonic.Fisttp, Mnemonic.Fld1,
        Mnemonic.Fldz, Mnemonic.Fldpi, Mnemonic.Fldl2e, Mnemonic.Fabs, Mnemonic.Fchs, Mnemonic.Fsqrt, Mnemonic.Frndint, Mnemonic.Fxch,
        Mnemonic.Fcom, Mnemonic.Fcomp, Mnemonic.Fcompp, Mnemonic.Fcomi, Mnemonic.Fcomip, Mnemonic.Fucomi, Mnemonic.Fucomip, Mnemonic.Ftst,
        Mnemonic.Fincstp, Mnemonic.Fdecstp, Mnemonic.Ffree, Mnemonic.Fnclex, Mnemonic.Fnstsw, Mnemonic.Fnstcw, Mnemonic.Fnop,
    ];

    /// <summary>What is left out where <see cref="HostEvidence.IsTranslated"/>.</summary>
    private static readonly HashSet<string> NotForTranslator = [FormTable.Vector, X87, "Bmi"];

    /// <summary>Why <see cref="Of"/> leaves groups out here; null where it leaves none.</summary>
    public static string? Reason => HostEvidence.IsTranslated
        ? "streams have no x87, MMX, SSE and BMI forms, and none of CRC32, MOVBE, reserved NOPs, SHLD, SHRD, BSF, BSR, CMPXCHG8B, CMPXCHG16B, CLFLUSH and the alias of TEST: QEMU's translator (7.2) has no #XM, checks no alignment, leaves exponents of MMX registers alone, and gets these wrong"
        : null;

    /// <summary>For each way of picking, the forms of a mode; groups come as often as they weigh.</summary>
    public static Code[][] Of(int bits)
    {
        IReadOnlyList<Form> forms = FormTable.All(bits == 64 ? 64 : 32);
        List<Code[]> picks = [];
        foreach ((string group, int weight) in Weights)
        {
            if ((HostEvidence.IsTranslated && NotForTranslator.Contains(group)) || (bits == 16 && group == "Bmi"))
            {
                // VEX prefixes are not known to real mode: each would end its stream.
                continue;
            }

            Code[] codes = [.. forms.Where(form => GroupOf(form) == group && IsWanted(form.Code, bits)).Select(form => form.Code)];
            for (int i = 0; i < weight && codes.Length > 0; i++)
            {
                picks.Add(codes);
            }
        }

        return [.. picks];
    }

    private static string? GroupOf(Form form) => form.Group
        ?? (form.Code.CpuidFeatures()[0].ToString().StartsWith("FPU", StringComparison.Ordinal) && X87Mnemonics.Contains(form.Code.Mnemonic()) ? X87 : null);

    private static bool IsWanted(Code code, int bits) => !Unwanted.Contains(code.Mnemonic())
        && (bits != 16 || code.ToOpCode().Mode16)
        && code is not (Code.Shld_rm16_r16_imm8 or Code.Shld_rm16_r16_CL or Code.Shrd_rm16_r16_imm8 or Code.Shrd_rm16_r16_CL or Code.Bswap_r16)
        && !(HostEvidence.IsTranslated && IsWrongInTranslator(code))
        && !NeedsAvx(code)
        && HostFeatures.Missing(code) == null;

    /// <summary>The streams' guest leaves AVX off, which not every KVM heeds; of VEX, BMI needs no state.</summary>
    private static bool NeedsAvx(Code code) => code.Encoding() == EncodingKind.VEX
        && code.CpuidFeatures()[0] is not (CpuidFeature.BMI1 or CpuidFeature.BMI2);

    /// <summary>
    /// CRC32 and MOVBE with 66h, reserved NOPs, SHLD and SHRD with RIP-relative operands, BSF and BSR of 0, flags after CMPXCHG8B and
    /// CMPXCHG16B, faults of CLFLUSH.
    /// </summary>
    private static bool IsWrongInTranslator(Code code) => IsAliasOfTest(code)
        || code.Mnemonic() is Mnemonic.Crc32 or Mnemonic.Movbe or Mnemonic.Reservednop or Mnemonic.Shld or Mnemonic.Shrd or Mnemonic.Bsf or Mnemonic.Bsr
            or Mnemonic.Cmpxchg8b or Mnemonic.Cmpxchg16b or Mnemonic.Clflush;

    /// <summary>F6 /1 and F7 /1, which AMD and Intel processors run as TEST and Intel's manual does not mention.</summary>
    private static bool IsAliasOfTest(Code code) =>
        code is Code.Test_rm8_imm8_F6r1 or Code.Test_rm16_imm16_F7r1 or Code.Test_rm32_imm32_F7r1 or Code.Test_rm64_imm32_F7r1;
}
