using Iced.Intel;

namespace Tutti.Cpu.Interpreter.Tests.Oracle;

/// <summary>One encoding of an instruction with its operand kinds, and how the oracle treats it.</summary>
/// <param name="Code">The form.</param>
/// <param name="Group">The test that runs it; null when it is not compared.</param>
/// <param name="Reason">Why it is not compared.</param>
/// <param name="Bits">64 for 64-bit mode, 32 for compatibility mode.</param>
internal readonly record struct Form(Code Code, string? Group, string? Reason, int Bits);

/// <summary>Sorts every form of 64-bit and of 32-bit mode: into a group that is compared, or out, with the reason.</summary>
internal static class FormTable
{
    public const string Vector = "Vector";

    private static readonly Dictionary<string, string> Groups = Expand(new()
    {
        ["Alu"] = "Add Adc Sub Sbb And Or Xor Cmp Test Inc Dec Neg Not",
        ["Shift"] = "Rol Ror Rcl Rcr Shl Shr Sal Sar Shld Shrd",
        ["Decimal"] = "Aaa Aas Daa Das Aam Aad Salc",
        ["MulDiv"] = "Mul Imul Div Idiv",
        ["Move"] = "Mov Movsx Movzx Movsxd Movbe Lea Xchg Xadd Cmpxchg Cmpxchg8b Cmpxchg16b Bswap Xlatb Cbw Cwde Cdqe Cwd Cdq Cqo"
            + " Lahf Sahf Cmc Clc Stc Cld Std Nop Pause Prefetchnta Prefetcht0 Prefetcht1 Prefetcht2 Prefetchw Prefetch Lfence Mfence Sfence"
            + " Clflush Reservednop Movnti Arpl Bound Into",
        ["Condition"] = "Cmova Cmovae Cmovb Cmovbe Cmove Cmovg Cmovge Cmovl Cmovle Cmovne Cmovno Cmovnp Cmovns Cmovo Cmovp Cmovs"
            + " Seta Setae Setb Setbe Sete Setg Setge Setl Setle Setne Setno Setnp Setns Seto Setp Sets",
        ["Bit"] = "Bt Bts Btr Btc Bsf Bsr Tzcnt Lzcnt Popcnt Crc32",
        ["Bmi"] = "Andn Bextr Blsi Blsmsk Blsr Bzhi Mulx Pdep Pext Rorx Sarx Shlx Shrx Adcx Adox",
        ["String"] = "Movsb Movsw Movsd Movsq Cmpsb Cmpsw Cmpsd Cmpsq Stosb Stosw Stosd Stosq Lodsb Lodsw Lodsd Lodsq Scasb Scasw Scasd Scasq",
        ["Branch"] = "Ja Jae Jb Jbe Je Jg Jge Jl Jle Jne Jno Jnp Jns Jo Jp Js Jmp Call Ret Loop Loope Loopne Jrcxz Jecxz Jcxz",
        ["Stack"] = "Push Pop Pushf Pushfd Pushfq Popf Popfd Popfq Pusha Pushad Popa Popad Enter Leave",
        ["Undefined"] = "Ud0 Ud1 Ud2",
        ["Privileged"] = "Hlt Cli Sti Clts Invlpg Lgdt Lidt Lldt Ltr Lmsw Wbinvd Invd Swapgs In Out Insb Insw Insd Outsb Outsw Outsd Rdmsr Wrmsr",
    });

    private static readonly Dictionary<string, string> Reasons = Expand(new()
    {
        ["its result is not the same twice"] = "Rdtsc Rdtscp Rdrand Rdseed Rdpmc Cpuid Xgetbv Rdpid",
        ["it leaves user mode"] = "Int Int1 Int3 Syscall Sysenter Sysret Sysretq Sysexit Sysexitq Iret Iretd Iretq",
        ["it depends on the host kernel's descriptor tables"] = "Lar Lsl Verr Verw Sgdt Sidt Sldt Str Smsw Retf Lss Lfs Lgs Lds Les",
        ["it would move the host's thread pointer"] = "Rdfsbase Rdgsbase Wrfsbase Wrgsbase",
        ["control and debug registers are compared in the system tests"] = "Rsm Monitor Mwait Invpcid Clac Stac Xsetbv Vmcall Vmmcall",
        ["x87 and its state images are compared in the vector tests"] =
            "Fxsave Fxsave64 Fxrstor Fxrstor64 Xsave Xsave64 Xsaveopt Xsaveopt64 Xsavec Xsavec64 Xrstor Xrstor64 Wait",
    });

    private static readonly HashSet<string> VectorFeatures =
        ["MMX", "SSE", "SSE2", "SSE3", "SSSE3", "SSE4_1", "SSE4_2", "AES", "PCLMULQDQ", "SHA", "GFNI"];

    private static readonly HashSet<string> VexFeatures =
        ["AVX", "AVX2", "FMA", "F16C", "AES+AVX", "PCLMULQDQ+AVX", "AVX+GFNI", "VAES", "VPCLMULQDQ"];

    private static readonly Form[] Long =
        [.. Enum.GetValues<Code>().Where(code => code.ToOpCode() is { IsInstruction: true, Mode64: true }).Select(code => Sort(code, 64))];

    private static readonly Form[] Legacy =
        [.. Enum.GetValues<Code>().Where(code => code.ToOpCode() is { IsInstruction: true, Mode32: true }).Select(code => Sort(code, 32))];

    /// <summary>Every form that Iced knows in 64-bit or in 32-bit mode.</summary>
    public static IReadOnlyList<Form> All(int bits) => bits == 64 ? Long : Legacy;

    /// <summary>Groups and mnemonics that have something to compare, for theories.</summary>
    public static IEnumerable<string> Mnemonics(string group, int bits) =>
        All(bits).Where(form => form.Group == group).Select(form => form.Code.Mnemonic().ToString()).Distinct().Order();

    private static Form Sort(Code code, int bits)
    {
        OpCodeInfo info = code.ToOpCode();
        string mnemonic = code.Mnemonic().ToString();
        string features = string.Join('+', code.CpuidFeatures());
        if ((info.Encoding == EncodingKind.Legacy && VectorFeatures.Contains(features) && !Groups.ContainsKey(mnemonic))
            || (info.Encoding == EncodingKind.VEX && VexFeatures.Contains(features)))
        {
            return new Form(code, Vector, null, bits);
        }

        if (OperandReason(code, info, bits) is { } reason || Reasons.TryGetValue(mnemonic, out reason))
        {
            return new Form(code, null, reason, bits);
        }

        bool isBmi = features is "BMI1" or "BMI2";
        if (Groups.TryGetValue(mnemonic, out string? group) && (info.Encoding == EncodingKind.Legacy || (isBmi && info.Encoding == EncodingKind.VEX)))
        {
            // The operands of MOVSD and CMPSD tell strings from vectors.
            bool isString = group != "String" || features is "INTEL8086" or "INTEL386" or "X64";
            return isString ? new Form(code, group, null, bits) : new Form(code, Vector, null, bits);
        }

        return features.StartsWith("FPU", StringComparison.Ordinal)
            ? new Form(code, null, "x87 and its state images are compared in the vector tests", bits)
            : new Form(code, null, $"the processor model does not show {features}", bits);
    }

    private static string? OperandReason(Code code, OpCodeInfo info, int bits)
    {
        for (int i = 0; i < info.OpCount; i++)
        {
            switch (info.GetOpKind(i))
            {
                case OpCodeOperandKind.br16_1 or OpCodeOperandKind.br16_2 when bits == 64:
                case OpCodeOperandKind.xbegin_2 or OpCodeOperandKind.xbegin_4:
                    return "AMD and Intel differ on 16-bit near branches in 64-bit mode, and software uses none";
                case OpCodeOperandKind.cr_reg or OpCodeOperandKind.dr_reg or OpCodeOperandKind.tr_reg:
                    return "control and debug registers are compared in the system tests";
                case OpCodeOperandKind.seg_reg when i == 0 && code.Mnemonic() == Mnemonic.Mov:
                case OpCodeOperandKind.fs or OpCodeOperandKind.gs or OpCodeOperandKind.es or OpCodeOperandKind.ss or OpCodeOperandKind.ds when code.Mnemonic() == Mnemonic.Pop:
                    return "it depends on the host kernel's descriptor tables";
            }
        }

        if (code is Code.Movsxd_r16_rm16 or Code.Reservednop_rm16_r16_0F0D or Code.Reservednop_rm32_r32_0F0D or Code.Reservednop_rm64_r64_0F0D)
        {
            // MOVSXD reads 4 bytes on AMD; 0F 0D with a register is no prefetch there, and #UD.
            return "AMD and Intel differ on it, and software uses none";
        }

        if (code is Code.Pushd_CS or Code.Pushd_DS or Code.Pushd_ES or Code.Pushd_SS or Code.Pushd_FS or Code.Pushd_GS)
        {
            return "Intel may write two bytes, AMD writes four";
        }

        bool isFar = code.IsJmpFarIndirect() || code.IsCallFarIndirect() || code.IsJmpFar() || code.IsCallFar();
        bool is16 = bits == 64 && code is Code.Retnw or Code.Retnw_imm16 or Code.Call_rm16 or Code.Jmp_rm16;
        return isFar ? "it depends on the host kernel's descriptor tables"
            : is16 ? "AMD and Intel differ on 16-bit near branches in 64-bit mode, and software uses none"
            : null;
    }

    private static Dictionary<string, string> Expand(Dictionary<string, string> lists) =>
        lists.SelectMany(list => list.Value.Split(' ').Select(name => (name, list.Key))).ToDictionary(pair => pair.name, pair => pair.Key);
}
