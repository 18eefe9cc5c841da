using Iced.Intel;

namespace Tutti.Cpu.Interpreter;

/// <summary>
/// Writes the thunks of MMX, SSE and general-register extension instructions. Signature, System V calling convention:
/// <c>ulong thunk(void* operand0, void* operand1, void* operand2, CpuState* state)</c>; it returns RFLAGS as the
/// instruction left them (only when the instruction changes flags).
/// </summary>
/// <remarks>
/// Operands are loaded from the pointers into fixed registers, the r/m operand is used in its memory form, results are
/// stored back. What the instruction uses without naming it (XMM0, EAX, ECX, EDX, MXCSR, flags) comes from the state.
/// SAFETY: a thunk touches only registers that the calling convention lets it change and the memory it is given. It
/// restores MXCSR and the x87 tags. Callers pass MXCSR with all exceptions masked, so that nothing traps on the host.
/// </remarks>
internal static unsafe class ThunkBuilder
{
    private const int DefaultMxcsr = 0x1F80;

    private static readonly Register[] Pointers = [Register.RDI, Register.RSI, Register.R9];
    private static readonly Register[] General = [Register.R8, Register.R11, Register.RAX];
    private static readonly Register[] Implied = [Register.RAX, Register.RCX, Register.RDX];

    internal static readonly int MxcsrOffset = FieldOffset(CpuState.FxMxcsr);
    private static readonly int FxAreaOffset = FieldOffset(0);
    private static readonly int FlagsOffset = FlagsFieldOffset();

    /// <summary>Whether the operand kinds are ones that a thunk can pass.</summary>
    public static bool CanBuild(Code code)
    {
        InstructionForm form = InstructionForm.Of(code);
        for (int i = 0; i < form.OperandCount; i++)
        {
            OpCodeOperandKind kind = form.KindOf(i);
            bool immediate = kind == OpCodeOperandKind.imm8;
            if (immediate ? i == 0 : i > 2 || Classify(kind) == OperandClass.None)
            {
                return false;
            }

            if (i == 0 && IsMemory(kind))
            {
                return false;
            }
        }

        return form.OperandCount > 0;
    }

    public static List<Instruction> Build(Instruction guest)
    {
        InstructionForm form = InstructionForm.Of(guest.Code);
        Instruction core = Rename(guest, form);
        var factory = new InstructionInfoFactory();
        InstructionInfo usage = factory.GetInfo(core);
        bool mxcsr = VectorTable.UsesMxcsr(guest);
        bool flagsOut = core.RflagsModified != RflagsBits.None;
        bool mmx = false;
        var code = new List<Instruction>
        {
            Instruction.Create(Code.Mov_r64_rm64, Register.R9, Register.RDX),
            Instruction.Create(Code.Mov_r64_rm64, Register.R10, Register.RCX),
        };
        if (VectorTable.NeedsFlags(core))
        {
            LoadFlags(code, Register.R10);
        }

        if (mxcsr)
        {
            code.Add(Instruction.Create(Code.Ldmxcsr_m32, State(MxcsrOffset)));
        }

        for (int i = 0; i < form.OperandCount; i++)
        {
            OperandClass operand = Classify(form.KindOf(i));
            if (operand != OperandClass.None && !IsMemory(form.KindOf(i)))
            {
                code.Add(Instruction.Create(LoadCode(operand), core.GetOpRegister(i), new MemoryOperand(Pointers[i])));
                mmx |= operand == OperandClass.Mmx;
            }

            mmx |= form.KindOf(i) == OpCodeOperandKind.mm_or_mem;
        }

        MoveImplied(code, usage, core, store: false);
        code.Add(core);

        // From the last operand to the first: where MULX names one register twice, the first operand wins.
        for (int i = form.OperandCount - 1; i >= 0; i--)
        {
            OperandClass operand = Classify(form.KindOf(i));
            if (operand != OperandClass.None && !IsMemory(form.KindOf(i)) && IsWrite(usage.GetOpAccess(i)))
            {
                code.Add(Instruction.Create(StoreCode(operand), new MemoryOperand(Pointers[i]), Narrow(core.GetOpRegister(i), operand)));
            }
        }

        MoveImplied(code, usage, core, store: true);
        if (mxcsr)
        {
            code.Add(Instruction.Create(Code.Stmxcsr_m32, State(MxcsrOffset)));
            RestoreHostMxcsr(code);
        }

        if (mmx)
        {
            code.Add(Instruction.Create(Code.Emms));
        }

        if (flagsOut)
        {
            StoreFlags(code);
        }

        code.Add(Instruction.Create(Code.Retnq));
        return code;
    }

    /// <summary>
    /// x87: <c>ulong thunk(byte* fxArea, void* memory, void* unused, CpuState* state)</c>. Loads the whole state, runs the
    /// instruction, saves the state. An unmasked exception stays pending in the saved state, for FNINIT does not wait.
    /// </summary>
    public static List<Instruction> BuildX87(Instruction guest)
    {
        Instruction core = guest;
        core.SegmentPrefix = Register.None;
        for (int i = 0; i < core.OpCount; i++)
        {
            if (core.GetOpKind(i) == OpKind.Memory)
            {
                SetMemory(ref core, Register.RSI);
            }
        }

        var area = new MemoryOperand(Register.RDI);
        var code = new List<Instruction> { Instruction.Create(Code.Fxrstor64_m512byte, area) };
        if (VectorTable.NeedsFlags(core))
        {
            LoadFlags(code, Register.RCX);
        }

        code.Add(core);
        code.Add(Instruction.Create(Code.Fxsave64_m512byte, area));
        code.Add(Instruction.Create(Code.Fninit));
        RestoreHostMxcsr(code);
        if (core.RflagsModified != RflagsBits.None)
        {
            StoreFlags(code);
        }

        code.Add(Instruction.Create(Code.Retnq));
        return code;
    }

    /// <summary>The bytes of the same thunk for an instruction that has neither a memory operand nor to do with flags.</summary>
    public static byte[] BuildX87(ReadOnlySpan<byte> core) =>
    [
        0x48, 0x0F, 0xAE, 0x0F, // fxrstor64 [rdi]
        .. core,
        0x48, 0x0F, 0xAE, 0x07, // fxsave64 [rdi]
        0xDB, 0xE3, // fninit
        0xC7, 0x44, 0x24, 0xF8, DefaultMxcsr & 0xFF, DefaultMxcsr >> 8, 0, 0, // mov dword ptr [rsp-8], DefaultMxcsr
        0x0F, 0xAE, 0x54, 0x24, 0xF8, // ldmxcsr [rsp-8]
        0xC3,
    ];

    public static bool IsMemory(OpCodeOperandKind kind) => kind is OpCodeOperandKind.mem or OpCodeOperandKind.r8_or_mem
        or OpCodeOperandKind.r16_or_mem or OpCodeOperandKind.r32_or_mem or OpCodeOperandKind.r64_or_mem
        or OpCodeOperandKind.mm_or_mem or OpCodeOperandKind.xmm_or_mem;

    private static OperandClass Classify(OpCodeOperandKind kind) => kind switch
    {
        OpCodeOperandKind.xmm_reg or OpCodeOperandKind.xmm_rm or OpCodeOperandKind.xmm_or_mem => OperandClass.Xmm,
        OpCodeOperandKind.mm_reg or OpCodeOperandKind.mm_rm or OpCodeOperandKind.mm_or_mem => OperandClass.Mmx,
        OpCodeOperandKind.r16_reg or OpCodeOperandKind.r16_rm or OpCodeOperandKind.r16_or_mem => OperandClass.General16,
        OpCodeOperandKind.r32_reg or OpCodeOperandKind.r32_rm or OpCodeOperandKind.r32_vvvv => OperandClass.General32,
        OpCodeOperandKind.r64_reg or OpCodeOperandKind.r64_rm or OpCodeOperandKind.r64_vvvv => OperandClass.General64,
        OpCodeOperandKind.r8_or_mem or OpCodeOperandKind.r32_or_mem or OpCodeOperandKind.r64_or_mem or OpCodeOperandKind.mem => OperandClass.Memory,
        _ => OperandClass.None,
    };

    /// <summary>The same instruction on the thunk's registers, its r/m operand in memory.</summary>
    private static Instruction Rename(Instruction guest, InstructionForm form)
    {
        var core = new Instruction { Code = guest.Code };
        for (int i = 0; i < form.OperandCount; i++)
        {
            OpCodeOperandKind kind = form.KindOf(i);
            if (kind == OpCodeOperandKind.imm8)
            {
                core.SetOpKind(i, OpKind.Immediate8);
                core.Immediate8 = guest.Immediate8;
            }
            else if (IsMemory(kind))
            {
                core.SetOpKind(i, OpKind.Memory);
                SetMemory(ref core, Pointers[i]);
            }
            else
            {
                OperandClass operand = Classify(kind);
                core.SetOpKind(i, OpKind.Register);
                core.SetOpRegister(i, operand switch
                {
                    OperandClass.Xmm => Register.XMM1 + i,
                    OperandClass.Mmx => Register.MM1 + i,
                    OperandClass.General32 => Register.EAX + (General[i] - Register.RAX),
                    OperandClass.General16 => Register.AX + (General[i] - Register.RAX),
                    _ => General[i],
                });
            }
        }

        return core;
    }

    internal static void SetMemory(ref Instruction instruction, Register pointer)
    {
        instruction.MemoryBase = pointer;
        instruction.MemoryIndex = Register.None;
        instruction.MemoryIndexScale = 1;
        instruction.MemoryDisplacement64 = 0;
        instruction.MemoryDisplSize = 0;
    }

    /// <summary>Loads or stores registers that the instruction uses without naming them as operands.</summary>
    private static void MoveImplied(List<Instruction> code, InstructionInfo usage, in Instruction core, bool store)
    {
        foreach (UsedRegister used in usage.GetUsedRegisters())
        {
            Register full = used.Register.GetFullRegister();
            bool isXmm0 = used.Register == Register.XMM0;
            if ((!isXmm0 && Array.IndexOf(Implied, full) < 0) || IsOperand(core, full) || (store && !IsWrite(used.Access)))
            {
                continue;
            }

            MemoryOperand place = State(isXmm0 ? FxAreaOffset + CpuState.FxXmm : (full - Register.RAX) * 8);
            OperandClass operand = isXmm0 ? OperandClass.Xmm : OperandClass.General64;
            Register register = isXmm0 ? Register.XMM0 : full;
            code.Add(store
                ? Instruction.Create(StoreCode(operand), place, register)
                : Instruction.Create(LoadCode(operand), register, place));
        }
    }

    private static bool IsOperand(in Instruction core, Register full)
    {
        for (int i = 0; i < core.OpCount; i++)
        {
            if (core.GetOpKind(i) == OpKind.Register && core.GetOpRegister(i).GetFullRegister() == full)
            {
                return true;
            }
        }

        return false;
    }

    internal static bool IsWrite(OpAccess access) =>
        access is OpAccess.Write or OpAccess.ReadWrite or OpAccess.CondWrite or OpAccess.ReadCondWrite;

    // Only the six arithmetic flags: the guest's TF, DF or AC must not act on the host.
    private static void LoadFlags(List<Instruction> code, Register state)
    {
        code.Add(Instruction.Create(Code.Mov_r32_rm32, Register.EAX, new MemoryOperand(state, FlagsOffset)));
        code.Add(Instruction.Create(Code.And_rm32_imm32, Register.EAX, 0x8D5));
        code.Add(Instruction.Create(Code.Push_r64, Register.RAX));
        code.Add(Instruction.Create(Code.Popfq));
    }

    internal static void StoreFlags(List<Instruction> code)
    {
        code.Add(Instruction.Create(Code.Pushfq));
        code.Add(Instruction.Create(Code.Pop_r64, Register.RAX));
    }

    // Below RSP lies the red zone, which signal handlers leave alone.
    internal static void RestoreHostMxcsr(List<Instruction> code)
    {
        var slot = new MemoryOperand(Register.RSP, -8);
        code.Add(Instruction.Create(Code.Mov_rm32_imm32, slot, DefaultMxcsr));
        code.Add(Instruction.Create(Code.Ldmxcsr_m32, slot));
    }

    internal static MemoryOperand State(int offset) => new(Register.R10, offset);

    private static Register Narrow(Register register, OperandClass operand) =>
        operand == OperandClass.General32 ? register.GetFullRegister() : register;

    private static Code LoadCode(OperandClass operand) => operand switch
    {
        OperandClass.Xmm => Code.Movups_xmm_xmmm128,
        OperandClass.Mmx => Code.Movq_mm_mmm64,
        OperandClass.General16 => Code.Mov_r16_rm16,
        OperandClass.General32 => Code.Mov_r32_rm32,
        _ => Code.Mov_r64_rm64,
    };

    // 32-bit results clear the upper half of the register, so all 64 bits are stored.
    private static Code StoreCode(OperandClass operand) => operand switch
    {
        OperandClass.Xmm => Code.Movups_xmmm128_xmm,
        OperandClass.Mmx => Code.Movq_mmm64_mm,
        OperandClass.General16 => Code.Mov_rm16_r16,
        _ => Code.Mov_rm64_r64,
    };

    private static int FieldOffset(int inFxArea)
    {
        CpuState state;
        return (int)(state.FxArea - (byte*)&state) + inFxArea;
    }

    private static int FlagsFieldOffset()
    {
        CpuState state;
        return (int)((byte*)&state.Flags - (byte*)&state);
    }

    private enum OperandClass
    {
        None,
        Xmm,
        Mmx,
        General16,
        General32,
        General64,
        Memory,
    }
}
