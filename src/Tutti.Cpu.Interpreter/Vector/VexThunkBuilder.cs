using Iced.Intel;

namespace Tutti.Cpu.Interpreter;

/// <summary>
/// Writes the thunks of VEX-encoded vector instructions. Signature, System V calling convention:
/// <c>ulong thunk(void* operand0, void* operand1, void* operand2, CpuState* state, void* operand3)</c>; it returns RFLAGS as
/// the instruction left them (only when the instruction changes flags).
/// </summary>
/// <remarks>
/// A pointer to a vector register is to its lower half; the upper half lies <see cref="CpuState.YmmHighDistance"/> behind it.
/// Results are stored with both halves, for an instruction of 128 bits clears the upper one. A memory operand is a pointer to
/// as many bytes as the instruction uses.
/// SAFETY: a thunk touches only registers that the calling convention lets it change and the memory it is given. It restores
/// MXCSR and leaves the upper halves of the host's registers clear. Callers pass MXCSR with all exceptions masked.
/// </remarks>
internal static unsafe class VexThunkBuilder
{
    private static readonly Register[] Pointers = [Register.RDI, Register.RSI, Register.R9, Register.R11];

    /// <summary>The one general register that an instruction of these may name.</summary>
    private const Register General = Register.R8;

    public static List<Instruction> Build(Instruction guest)
    {
        Instruction core = Rename(guest);
        InstructionInfo usage = new InstructionInfoFactory().GetInfo(core);
        bool mxcsr = VectorTable.UsesMxcsr(guest);
        var code = new List<Instruction>
        {
            Instruction.Create(Code.Mov_r64_rm64, Register.R9, Register.RDX),
            Instruction.Create(Code.Mov_r64_rm64, Register.R10, Register.RCX),
            Instruction.Create(Code.Mov_r64_rm64, Register.R11, Register.R8),
        };
        if (mxcsr)
        {
            code.Add(Instruction.Create(Code.Ldmxcsr_m32, ThunkBuilder.State(ThunkBuilder.MxcsrOffset)));
        }

        for (int i = 0; i < core.OpCount; i++)
        {
            if (core.GetOpKind(i) == OpKind.Register && usage.GetOpAccess(i) != OpAccess.Write)
            {
                Load(code, core.GetOpRegister(i), new MemoryOperand(Pointers[i]), Upper(Pointers[i]));
            }
        }

        LoadLengths(code, guest.Mnemonic);
        code.Add(core);
        if (core.Op0Kind == OpKind.Register && ThunkBuilder.IsWrite(usage.GetOpAccess(0)))
        {
            Store(code, core.Op0Register, new MemoryOperand(Pointers[0]), Upper(Pointers[0]));
        }

        StoreImplied(code, guest.Mnemonic);
        if (mxcsr)
        {
            code.Add(Instruction.Create(Code.Stmxcsr_m32, ThunkBuilder.State(ThunkBuilder.MxcsrOffset)));
            ThunkBuilder.RestoreHostMxcsr(code);
        }

        code.Add(Instruction.Create(Code.VEX_Vzeroupper));
        if (core.RflagsModified != RflagsBits.None)
        {
            ThunkBuilder.StoreFlags(code);
        }

        code.Add(Instruction.Create(Code.Retnq));
        return code;
    }

    /// <summary>The same instruction on the thunk's registers.</summary>
    private static Instruction Rename(Instruction guest)
    {
        var core = new Instruction { Code = guest.Code };
        for (int i = 0; i < guest.OpCount; i++)
        {
            OpKind kind = guest.GetOpKind(i);
            core.SetOpKind(i, kind);
            if (kind == OpKind.Immediate8)
            {
                core.Immediate8 = guest.Immediate8;
            }
            else if (kind == OpKind.Memory)
            {
                ThunkBuilder.SetMemory(ref core, Pointers[i]);
            }
            else
            {
                Register register = guest.GetOpRegister(i);
                core.SetOpRegister(i, register.IsYMM() ? Register.YMM1 + i
                    : register.IsXMM() ? Register.XMM1 + i
                    : register.GetSize() == 4 ? Register.EAX + (General - Register.RAX)
                    : General);
            }
        }

        return core;
    }

    private static MemoryOperand Upper(Register pointer) => new(pointer, CpuState.YmmHighDistance);

    private static void Load(List<Instruction> code, Register register, MemoryOperand lower, MemoryOperand upper)
    {
        if (register.IsGPR())
        {
            code.Add(Instruction.Create(Code.Mov_r64_rm64, General, lower));
            return;
        }

        int number = register.IsYMM() ? register - Register.YMM0 : register - Register.XMM0;
        code.Add(Instruction.Create(Code.VEX_Vmovups_xmm_xmmm128, Register.XMM0 + number, lower));
        if (register.IsYMM())
        {
            code.Add(Instruction.Create(Code.VEX_Vinsertf128_ymm_ymm_xmmm128_imm8, register, register, upper, 1));
        }
    }

    // 32-bit results clear the upper half of a general register, so all 64 bits are stored.
    private static void Store(List<Instruction> code, Register register, MemoryOperand lower, MemoryOperand upper)
    {
        if (register.IsGPR())
        {
            code.Add(Instruction.Create(Code.Mov_rm64_r64, lower, General));
            return;
        }

        int number = register.IsYMM() ? register - Register.YMM0 : register - Register.XMM0;
        code.Add(Instruction.Create(Code.VEX_Vmovups_xmmm128_xmm, lower, Register.XMM0 + number));
        code.Add(Instruction.Create(Code.VEX_Vextractf128_xmmm128_ymm_imm8, upper, Register.YMM0 + number, 1));
    }

    /// <summary>The string compares that take lengths have them in EAX and EDX.</summary>
    private static void LoadLengths(List<Instruction> code, Mnemonic mnemonic)
    {
        if (mnemonic is Mnemonic.Vpcmpestri or Mnemonic.Vpcmpestri64 or Mnemonic.Vpcmpestrm or Mnemonic.Vpcmpestrm64)
        {
            code.Add(Instruction.Create(Code.Mov_r64_rm64, Register.RAX, General64(Register.RAX)));
            code.Add(Instruction.Create(Code.Mov_r64_rm64, Register.RDX, General64(Register.RDX)));
        }
    }

    /// <summary>String compares answer with an index in ECX or a mask in XMM0.</summary>
    private static void StoreImplied(List<Instruction> code, Mnemonic mnemonic)
    {
        if (mnemonic is Mnemonic.Vpcmpestri or Mnemonic.Vpcmpestri64 or Mnemonic.Vpcmpistri)
        {
            code.Add(Instruction.Create(Code.Mov_rm64_r64, General64(Register.RCX), Register.RCX));
        }
        else if (mnemonic is Mnemonic.Vpcmpestrm or Mnemonic.Vpcmpestrm64 or Mnemonic.Vpcmpistrm)
        {
            int lower = ThunkBuilder.MxcsrOffset - CpuState.FxMxcsr + CpuState.FxXmm;
            Store(code, Register.XMM0, ThunkBuilder.State(lower), ThunkBuilder.State(lower + CpuState.YmmHighDistance));
        }
    }

    private static MemoryOperand General64(Register register) => ThunkBuilder.State((register - Register.RAX) * 8);
}
