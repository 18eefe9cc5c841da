using Iced.Intel;

namespace Tutti.Cpu.Interpreter;

/// <summary>Segments, far transfers, interrupts, system registers, ports.</summary>
internal static unsafe class SystemTranslator
{
    public static bool TryTranslate(in Instruction instruction, Op* op, ref TranslationContext context)
    {
        op->Handler = FindRegisterMove(instruction, op);
        if (op->Handler == null)
        {
            op->Handler = FindTransfer(instruction, op, ref context);
        }

        if (op->Handler == null)
        {
            op->Handler = FindPort(instruction, op);
        }

        if (op->Handler == null)
        {
            op->Handler = FindControl(instruction, op, ref context);
        }

        if (op->Handler == null)
        {
            op->Handler = FindSegment(instruction, op, ref context);
        }

        return op->Handler != null;
    }

    /// <summary>MOV, PUSH and POP of segment, control and debug registers.</summary>
    private static delegate*<CpuState*, Op*, Op*> FindRegisterMove(in Instruction instruction, Op* op)
    {
        switch (instruction.Mnemonic)
        {
            case Mnemonic.Push or Mnemonic.Pop when instruction.OpCount > 0 && instruction.Op0Register.IsSegmentRegister():
                op->Aux = RegisterOffset.Segment(instruction.Op0Register);
                SetSize(op, Math.Abs(instruction.StackPointerIncrement));
                return instruction.Mnemonic == Mnemonic.Push ? &SegmentInstructions.Push : &SegmentInstructions.Pop;
            case Mnemonic.Mov:
                break;
            default:
                return null;
        }

        Register target = instruction.Op0Register;
        Register source = instruction.Op1Register;
        if (source.IsSegmentRegister())
        {
            op->Aux = RegisterOffset.Segment(source);
            SetOperand(instruction, op, 0);
            return &SegmentInstructions.MovFromSegment;
        }

        if (target.IsSegmentRegister())
        {
            op->Aux = RegisterOffset.Segment(target);
            SetOperand(instruction, op, 1);
            return target == Register.CS ? null : &SegmentInstructions.MovToSegment;
        }

        if (IsControl(source) || source is >= Register.DR0 and <= Register.DR7)
        {
            bool control = IsControl(source);
            op->Aux = (ushort)(control ? source - Register.CR0 : source - Register.DR0);
            SetOperand(instruction, op, 0);
            return control ? &ControlInstructions.MovFromControl : &ControlInstructions.MovFromDebug;
        }

        if (IsControl(target) || target is >= Register.DR0 and <= Register.DR7)
        {
            bool control = IsControl(target);
            op->Aux = (ushort)(control ? target - Register.CR0 : target - Register.DR0);
            SetOperand(instruction, op, 1);
            return control ? &ControlInstructions.MovToControl : &ControlInstructions.MovToDebug;
        }

        return null;
    }

    private static bool IsControl(Register register) =>
        register is Register.CR0 or Register.CR2 or Register.CR3 or Register.CR4 or Register.CR8;

    private static delegate*<CpuState*, Op*, Op*> FindTransfer(in Instruction instruction, Op* op, ref TranslationContext context)
    {
        delegate*<CpuState*, Op*, Op*> handler = null;
        switch (instruction.Code)
        {
            case Code.Iretw or Code.Iretd or Code.Iretq:
                SetSize(op, instruction.Code switch { Code.Iretw => 2, Code.Iretd => 4, _ => 8 });
                handler = &TransferInstructions.Iret;
                break;
            case Code.Int_imm8:
                op->Imm = instruction.Immediate8;
                handler = &TransferInstructions.Int;
                break;
            case Code.Int3:
                handler = &TransferInstructions.Int3;
                break;
            case Code.Int1:
                handler = &TransferInstructions.Int1;
                break;
            case Code.Into:
                // Control goes on when OF is clear.
                return &TransferInstructions.Into;
            case Code.Bound_r16_m1616 or Code.Bound_r32_m3232:
                SetSize(op, instruction.Code == Code.Bound_r16_m1616 ? 2 : 4);
                op->Dst = RegisterOffset.Of(instruction.Op0Register);
                return &TransferInstructions.Bound;
            case Code.Syscall:
                handler = &TransferInstructions.Syscall;
                break;
            case Code.Sysretd or Code.Sysretq:
                SetSize(op, instruction.Code == Code.Sysretq ? 8 : 4);
                handler = &TransferInstructions.Sysret;
                break;
            case Code.Sysenter:
                handler = &TransferInstructions.Sysenter;
                break;
            case Code.Sysexitd or Code.Sysexitq:
                handler = &TransferInstructions.Sysexit;
                break;
            case Code.Jmp_ptr1616 or Code.Jmp_ptr1632 or Code.Call_ptr1616 or Code.Call_ptr1632:
                bool word = instruction.Code is Code.Jmp_ptr1616 or Code.Call_ptr1616;
                SetSize(op, word ? 2 : 4);
                op->Imm = word ? instruction.FarBranch16 : instruction.FarBranch32;
                op->Aux = instruction.FarBranchSelector;
                handler = instruction.Mnemonic == Mnemonic.Jmp ? &TransferInstructions.JumpImmediate : &TransferInstructions.CallImmediate;
                break;
            case Code.Jmp_m1616 or Code.Jmp_m1632 or Code.Jmp_m1664 or Code.Call_m1616 or Code.Call_m1632 or Code.Call_m1664:
                SetSize(op, instruction.Code switch { Code.Jmp_m1616 or Code.Call_m1616 => 2, Code.Jmp_m1632 or Code.Call_m1632 => 4, _ => 8 });
                handler = instruction.Mnemonic == Mnemonic.Jmp ? &TransferInstructions.JumpMemory : &TransferInstructions.CallMemory;
                break;
            case Code.Retfw or Code.Retfw_imm16 or Code.Retfd or Code.Retfd_imm16 or Code.Retfq or Code.Retfq_imm16:
                SetSize(op, instruction.Code switch { Code.Retfw or Code.Retfw_imm16 => 2, Code.Retfd or Code.Retfd_imm16 => 4, _ => 8 });
                op->Imm = instruction.OpCount > 0 ? instruction.Immediate16 : 0u;
                handler = &TransferInstructions.Return;
                break;
            default:
                break;
        }

        context.EndsBlock |= handler != null;
        return handler;
    }

    private static delegate*<CpuState*, Op*, Op*> FindPort(in Instruction instruction, Op* op)
    {
        switch (instruction.Mnemonic)
        {
            case Mnemonic.In:
                SetSize(op, instruction.Op0Register.GetSize());
                op->Imm = instruction.Op1Kind == OpKind.Immediate8 ? instruction.Immediate8 : 0u;
                return instruction.Op1Kind == OpKind.Immediate8 ? &PortInstructions.InImmediate : &PortInstructions.InDx;
            case Mnemonic.Out:
                SetSize(op, instruction.Op1Register.GetSize());
                op->Imm = instruction.Op0Kind == OpKind.Immediate8 ? instruction.Immediate8 : 0u;
                return instruction.Op0Kind == OpKind.Immediate8 ? &PortInstructions.OutImmediate : &PortInstructions.OutDx;
            case Mnemonic.Insb or Mnemonic.Outsb:
                SetSize(op, 1);
                return instruction.Mnemonic == Mnemonic.Insb ? &PortInstructions.Ins : &PortInstructions.Outs;
            case Mnemonic.Insw or Mnemonic.Outsw:
                SetSize(op, 2);
                return instruction.Mnemonic == Mnemonic.Insw ? &PortInstructions.Ins : &PortInstructions.Outs;
            case Mnemonic.Insd or Mnemonic.Outsd when instruction.Code is Code.Insd_m32_DX or Code.Outsd_DX_m32:
                SetSize(op, 4);
                return instruction.Mnemonic == Mnemonic.Insd ? &PortInstructions.Ins : &PortInstructions.Outs;
            default:
                return null;
        }
    }

    private static delegate*<CpuState*, Op*, Op*> FindControl(in Instruction instruction, Op* op, ref TranslationContext context)
    {
        switch (instruction.Mnemonic)
        {
            case Mnemonic.Cli:
                return &FlagInstructions.Cli;
            case Mnemonic.Sti:
                return &FlagInstructions.Sti;
            case Mnemonic.Clac:
                return &FlagInstructions.Clac;
            case Mnemonic.Stac:
                return &FlagInstructions.Stac;
            case Mnemonic.Pushf or Mnemonic.Pushfd or Mnemonic.Pushfq:
                SetSize(op, instruction.Mnemonic switch { Mnemonic.Pushf => 2, Mnemonic.Pushfd => 4, _ => 8 });
                return &FlagInstructions.Pushf;
            case Mnemonic.Popf or Mnemonic.Popfd or Mnemonic.Popfq:
                SetSize(op, instruction.Mnemonic switch { Mnemonic.Popf => 2, Mnemonic.Popfd => 4, _ => 8 });
                return &FlagInstructions.Popf;
            case Mnemonic.Lmsw:
                SetOperand(instruction, op, 0);
                return &ControlInstructions.Lmsw;
            case Mnemonic.Smsw:
                SetOperand(instruction, op, 0);
                return &ControlInstructions.Smsw;
            case Mnemonic.Clts:
                return &ControlInstructions.Clts;
            case Mnemonic.Invlpg:
                return &ControlInstructions.Invlpg;
            case Mnemonic.Invpcid:
                op->Dst = RegisterOffset.Of(instruction.Op0Register);
                return &ControlInstructions.Invpcid;
            case Mnemonic.Invd or Mnemonic.Wbinvd or Mnemonic.Wbnoinvd:
                return &ControlInstructions.InvalidateCaches;
            case Mnemonic.Rdmsr:
                return &ControlInstructions.Rdmsr;
            case Mnemonic.Wrmsr:
                return &ControlInstructions.Wrmsr;
            case Mnemonic.Rdtsc:
                return &ControlInstructions.Rdtsc;
            case Mnemonic.Rdtscp:
                return &ControlInstructions.Rdtscp;
            case Mnemonic.Rdpmc:
                return &ControlInstructions.Rdpmc;
            case Mnemonic.Cpuid:
                return &ControlInstructions.Cpuid;
            case Mnemonic.Xgetbv:
                return &ControlInstructions.Xgetbv;
            case Mnemonic.Xsetbv:
                return &ControlInstructions.Xsetbv;
            case Mnemonic.Rdpkru:
                return &ControlInstructions.Rdpkru;
            case Mnemonic.Wrpkru:
                return &ControlInstructions.Wrpkru;
            case Mnemonic.Vmcall or Mnemonic.Vmmcall:
                return &ControlInstructions.Hypercall;
            case Mnemonic.Clflush or Mnemonic.Clflushopt:
                return &ControlInstructions.FlushLine;
            case Mnemonic.Hlt:
                context.EndsBlock = true;
                return &ControlInstructions.Hlt;
            default:
                return null;
        }
    }

    private static delegate*<CpuState*, Op*, Op*> FindSegment(in Instruction instruction, Op* op, ref TranslationContext context)
    {
        Mnemonic mnemonic = instruction.Mnemonic;
        switch (mnemonic)
        {
            case Mnemonic.Les or Mnemonic.Lds or Mnemonic.Lss or Mnemonic.Lfs or Mnemonic.Lgs:
                op->Aux = mnemonic switch { Mnemonic.Les => 0, Mnemonic.Lss => 2, Mnemonic.Lds => 3, Mnemonic.Lfs => 4, _ => (ushort)5 };
                op->Src = RegisterOffset.Of(instruction.Op0Register);
                SetSize(op, instruction.Op0Register.GetSize());
                return &SegmentInstructions.LoadFarPointer;
            case Mnemonic.Lgdt or Mnemonic.Lidt or Mnemonic.Sgdt or Mnemonic.Sidt:
                op->Aux = mnemonic is Mnemonic.Lgdt or Mnemonic.Sgdt ? (ushort)0 : (ushort)1;
                bool is16 = instruction.Code is Code.Lgdt_m1632_16 or Code.Lidt_m1632_16;
                SetSize(op, context.Is64 ? 8 : is16 ? 2 : 4);
                return mnemonic is Mnemonic.Lgdt or Mnemonic.Lidt ? &SegmentInstructions.LoadTable : &SegmentInstructions.StoreTable;
            case Mnemonic.Sldt or Mnemonic.Str:
                op->Aux = mnemonic == Mnemonic.Sldt ? (ushort)0 : (ushort)1;
                SetOperand(instruction, op, 0);
                return &SegmentInstructions.StoreSystemSegment;
            case Mnemonic.Lldt or Mnemonic.Ltr:
                op->Aux = mnemonic == Mnemonic.Lldt ? (ushort)0 : (ushort)1;
                SetOperand(instruction, op, 0);
                return &SegmentInstructions.LoadSystemSegment;
            case Mnemonic.Swapgs:
                return &SegmentInstructions.Swapgs;
            case Mnemonic.Rdfsbase or Mnemonic.Rdgsbase or Mnemonic.Wrfsbase or Mnemonic.Wrgsbase:
                op->Aux = mnemonic is Mnemonic.Rdfsbase or Mnemonic.Wrfsbase ? (ushort)4 : (ushort)5;
                SetOperand(instruction, op, 0);
                return mnemonic is Mnemonic.Rdfsbase or Mnemonic.Rdgsbase ? &SegmentInstructions.ReadBase : &SegmentInstructions.WriteBase;
            case Mnemonic.Lar or Mnemonic.Lsl:
                SetOperand(instruction, op, 1);
                op->Src = RegisterOffset.Of(instruction.Op0Register);
                SetSize(op, instruction.Op0Register.GetSize());
                return mnemonic == Mnemonic.Lar ? &DescriptorInstructions.Lar : &DescriptorInstructions.Lsl;
            case Mnemonic.Verr or Mnemonic.Verw:
                SetOperand(instruction, op, 0);
                return mnemonic == Mnemonic.Verr ? &DescriptorInstructions.Verr : &DescriptorInstructions.Verw;
            case Mnemonic.Arpl:
                SetOperand(instruction, op, 0);
                op->Src = RegisterOffset.Of(instruction.Op1Register);
                return &DescriptorInstructions.Arpl;
            default:
                return null;
        }
    }

    /// <summary>Notes whether an operand is in memory or which register it is, and its size.</summary>
    private static void SetOperand(in Instruction instruction, Op* op, int index)
    {
        if (instruction.GetOpKind(index) == OpKind.Memory)
        {
            op->Flags |= SystemOperand.InMemory;
            SetSize(op, 2);
            return;
        }

        Register register = instruction.GetOpRegister(index);
        op->Dst = RegisterOffset.Of(register);
        SetSize(op, register.GetSize());
    }

    private static void SetSize(Op* op, int size)
    {
        int log2 = size switch { 1 => 0, 2 => 1, 4 => 2, _ => 3 };
        op->Flags = (ushort)((op->Flags & ~(3 << OpFlags.SizeShift)) | (log2 << OpFlags.SizeShift));
    }
}
