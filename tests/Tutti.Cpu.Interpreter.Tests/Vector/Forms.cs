using Iced.Intel;

namespace Tutti.Cpu.Interpreter.Tests.Vector;

/// <summary>Which instruction forms the oracle covers, and instances of them with random operands.</summary>
internal static class Forms
{
    private static readonly CpuidFeature[] Offered =
    [
        CpuidFeature.FPU, CpuidFeature.FPU287, CpuidFeature.FPU387, CpuidFeature.CMOV, CpuidFeature.MMX, CpuidFeature.SSE,
        CpuidFeature.SSE2, CpuidFeature.SSE3, CpuidFeature.SSSE3, CpuidFeature.SSE4_1, CpuidFeature.SSE4_2, CpuidFeature.POPCNT,
        CpuidFeature.LZCNT, CpuidFeature.AES, CpuidFeature.PCLMULQDQ, CpuidFeature.SHA, CpuidFeature.BMI1, CpuidFeature.BMI2,
        CpuidFeature.ADX, CpuidFeature.MOVBE,
    ];

    // They wait before (their code carries 9B), have effects that the wrapper cannot compare (pointers, MXCSR that may unmask), or
    // have tests of their own.
    private static readonly HashSet<Code> Apart =
    [
        Code.Fnstenv_m14byte, Code.Fnstenv_m28byte, Code.Fnsave_m94byte, Code.Fnsave_m108byte,

        // Decoded as the NOPs among which they are: EncodingSweepTests.
        Code.Prefetchnta_m8, Code.Prefetcht0_m8, Code.Prefetcht1_m8, Code.Prefetcht2_m8,
        Code.Fldenv_m14byte, Code.Frstor_m94byte, Code.Fldenv_m28byte, Code.Frstor_m108byte,
        Code.Ldmxcsr_m32, Code.Fnstsw_m2byte, Code.Wait,
    ];

    /// <summary>All of the vector translators' forms. Prefetches are decoded as the NOPs among which they are: EncodingSweepTests.</summary>
    public static IEnumerable<Code> All()
    {
        foreach (Code code in Enum.GetValues<Code>())
        {
            OpCodeInfo info = code.ToOpCode();
            bool vex = info.Encoding == EncodingKind.VEX;
            if (!info.IsInstruction || !info.Mode64 || info.Fwait || (info.Encoding != EncodingKind.Legacy && !vex)
                || info.DecoderOption != DecoderOptions.None || Apart.Contains(code)
                || code is Code.Prefetchnta_m8 or Code.Prefetcht0_m8 or Code.Prefetcht1_m8 or Code.Prefetcht2_m8)
            {
                continue;
            }

            CpuidFeature[] features = new Instruction { Code = code }.CpuidFeatures.ToArray();
            bool bits = features is [CpuidFeature.BMI1] or [CpuidFeature.BMI2];
            bool conditionalMove = features is [CpuidFeature.CMOV];
            if (features.All(Offered.Contains) && vex == bits && !conditionalMove)
            {
                yield return code;
            }
        }
    }

    /// <summary>An instance with random registers; a memory operand is [RBX + displacement] with the operand at a 64-byte boundary.</summary>
    public static bool TryMake(Code code, bool memory, Random random, out Instruction instruction)
    {
        instruction = new Instruction { Code = code };
        OpCodeInfo info = code.ToOpCode();
        bool hasMemory = false;
        for (int i = 0; i < info.OpCount; i++)
        {
            OpCodeOperandKind kind = info.GetOpKind(i);
            bool either = kind is OpCodeOperandKind.r8_or_mem or OpCodeOperandKind.r16_or_mem or OpCodeOperandKind.r32_or_mem
                or OpCodeOperandKind.r64_or_mem or OpCodeOperandKind.mm_or_mem or OpCodeOperandKind.xmm_or_mem;
            if (kind == OpCodeOperandKind.mem || (either && memory))
            {
                hasMemory = true;
                instruction.SetOpKind(i, OpKind.Memory);
                instruction.MemoryBase = Register.RBX;
                instruction.MemoryIndexScale = 1;
                instruction.MemoryDisplacement64 = 64;
                instruction.MemoryDisplSize = 1;
            }
            else if (kind == OpCodeOperandKind.imm8)
            {
                instruction.SetOpKind(i, OpKind.Immediate8);
                instruction.Immediate8 = (byte)random.Next(256);
            }
            else if (PickRegister(kind, random) is var register && register != Register.None)
            {
                instruction.SetOpKind(i, OpKind.Register);
                instruction.SetOpRegister(i, register);
            }
            else if (kind is OpCodeOperandKind.seg_rDI)
            {
                instruction.SetOpKind(i, OpKind.MemorySegRDI);
                hasMemory = true;
            }
            else
            {
                return false;
            }
        }

        return hasMemory == memory;
    }

    private static Register PickRegister(OpCodeOperandKind kind, Random random)
    {
        // RSP is the host's own in a native run; byte registers are taken where they need no REX.
        int general = (5 + random.Next(15)) & 15;
        general = general == 4 ? 0 : general;
        return kind switch
        {
            OpCodeOperandKind.xmm_reg or OpCodeOperandKind.xmm_rm or OpCodeOperandKind.xmm_or_mem => Register.XMM0 + random.Next(16),
            OpCodeOperandKind.mm_reg or OpCodeOperandKind.mm_rm or OpCodeOperandKind.mm_or_mem => Register.MM0 + random.Next(8),
            OpCodeOperandKind.r8_or_mem => Register.AL + random.Next(4),
            OpCodeOperandKind.r16_reg or OpCodeOperandKind.r16_rm or OpCodeOperandKind.r16_or_mem => Register.AX + general,
            OpCodeOperandKind.r32_reg or OpCodeOperandKind.r32_rm or OpCodeOperandKind.r32_or_mem or OpCodeOperandKind.r32_vvvv => Register.EAX + general,
            OpCodeOperandKind.r64_reg or OpCodeOperandKind.r64_rm or OpCodeOperandKind.r64_or_mem or OpCodeOperandKind.r64_vvvv => Register.RAX + general,
            OpCodeOperandKind.st0 => Register.ST0,
            OpCodeOperandKind.sti_opcode => Register.ST0 + random.Next(8),
            OpCodeOperandKind.ax => Register.AX,
            _ => Register.None,
        };
    }
}
