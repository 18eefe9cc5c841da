using Iced.Intel;
using Tutti.X86;

namespace Tutti.Cpu.Translator;

/// <summary>System instructions that kernels run all the time. Each has a way to the interpreter for whatever is not ordinary.</summary>
internal sealed unsafe partial class BlockTranslator
{
    private const int Arithmetic = (int)Rflags.Arithmetic;

    /// <summary>RFLAGS bits that POPF and SYSRET may bring without ado.</summary>
    private const int PlainFlags = Arithmetic | (int)(Rflags.AlwaysOne | Rflags.Interrupt | Rflags.Identification);

    private bool IsSupervisor => _set != TlbSet.User;

    private bool TryTranslateSystem(in Instruction instruction)
    {
        switch (instruction.Code)
        {
            case Code.Pushfq:
                PushFlags();
                return true;
            case Code.Popfq when IsSupervisor:
                PopFlags();
                return true;
            case Code.Cli when IsSupervisor:
                ChangeFlags(4, ~(int)Rflags.Interrupt);
                return true;
            case Code.Sti when IsSupervisor:
                RequireClear(StateLayout.EventWaits);
                ChangeFlags(1, (int)Rflags.Interrupt);
                return true;
            case Code.Stac or Code.Clac when IsSupervisor && _offset + instruction.Length < 4096:
                ChangeAlignmentCheck(instruction.Code == Code.Stac, _offset + instruction.Length);
                return true;
            case Code.Cld:
                RequireClear(StateLayout.GoesDown);
                return true;
            case Code.Mov_r64_cr when IsSupervisor && ControlRegister(instruction.Op1Register) is var offset and not 0:
                ReadState(Number(instruction.Op0Register), offset);
                return true;
            case Code.Swapgs when IsSupervisor:
                _emit.Load(HostRegister.Test, StateLayout.GsBase);
                _emit.Load(HostRegister.Address, StateLayout.KernelGsBase);
                _emit.Store(StateLayout.GsBase, HostRegister.Address);
                _emit.Store(StateLayout.KernelGsBase, HostRegister.Test);
                return true;
            case Code.Invlpg_m when IsSupervisor && IsAddressable(instruction):
                EmitAddress(instruction, 0);
                EmitExit(ExitInfo.Pack(ExitKind.InvalidatePage, _offset + instruction.Length));
                _ends = true;
                return true;
            case Code.Syscall when !IsSupervisor:
                SystemCall(_offset + instruction.Length);
                return true;
            case Code.Sysretq when _set == TlbSet.Supervisor:
                SystemReturn();
                return true;
            case Code.Iretq when _set == TlbSet.Supervisor:
                CallSystemCode(_common.InterruptReturn);
                _emit.Jump(_start);
                _ends = true;
                return true;
            case Code.Rdtsc or Code.Rdtscp:
                CallSystemCode(instruction.Code == Code.Rdtsc ? _common.ReadCounter : _common.ReadCounterOrdered);
                return true;
            case Code.Rdfsbase_r64 or Code.Rdfsbase_r32 or Code.Rdgsbase_r64 or Code.Rdgsbase_r32:
                RequireClear(StateLayout.BasesForbidden);
                ReadBase(instruction);
                return true;
            case Code.Wrfsbase_r64 or Code.Wrfsbase_r32 or Code.Wrgsbase_r64 or Code.Wrgsbase_r32:
                RequireClear(StateLayout.BasesForbidden);
                WriteBase(instruction);
                return true;
            case Code.Rdpkru:
                ReadProtectionKeys();
                return true;
            case Code.Mov_rm16_Sreg or Code.Mov_r32m16_Sreg or Code.Mov_r64m16_Sreg when instruction.Op0Kind == OpKind.Register:
                ReadSelector(Number(instruction.Op0Register), instruction.Op1Register - Register.ES, instruction.Code == Code.Mov_rm16_Sreg);
                return true;
            default:
                return false;
        }
    }

    /// <summary>Leaves for the interpreter where a 32-bit field of the state is not 0.</summary>
    private void RequireClear(int field)
    {
        _emit.Load32(HostRegister.Test, field);
        LeaveUnlessZero();
    }

    /// <summary>Leaves for the interpreter where RCX is not 0.</summary>
    private void LeaveUnlessZero()
    {
        long zero = _emit.BeginJumpIfZero();
        AddStub(_emit.JumpLater(), InterpretInfo);
        _emit.EndShort(zero);
    }

    /// <summary>Leaves for the interpreter where RCX is 0.</summary>
    private void LeaveIfZero()
    {
        long leave = _emit.BeginJumpIfZero();
        _emit.Byte(0xEB);
        _emit.Byte(5);
        _emit.EndShort(leave);
        AddStub(_emit.JumpLater(), InterpretInfo);
    }

    /// <summary>Brings RFLAGS to RCX; RAX goes to R14 meanwhile, and the host's flags are kept.</summary>
    private void GatherFlags()
    {
        _emit.Move(HostRegister.Address, HostRegister.Rax);
        _emit.Bytes([0x9F, 0x0F, 0x90, 0xC0]); // LAHF; SETO AL
        _emit.Bytes([0x0F, 0xB6, 0xCC]); // MOVZX ECX, AH
        _emit.Bytes([0x0F, 0xB6, 0xC0]); // MOVZX EAX, AL
        _emit.RotateRight(HostRegister.Rax, HostRegister.Rax, 64 - 11);

        // Bit 1 is set in AH and in the state.
        _emit.Lea(HostRegister.Rcx, HostRegister.Rcx, HostRegister.Rax, 0, -(int)Rflags.AlwaysOne);
        _emit.Load32(HostRegister.Rax, StateLayout.RflagsOffset);
        _emit.Lea(HostRegister.Rcx, HostRegister.Rcx, HostRegister.Rax, 0, 0);
    }

    private void PushFlags()
    {
        StackLookup(-8, 8, true);
        GatherFlags();
        _emit.StoreMemory(HostRegister.Rcx, HostRegister.GuestRsp, HostRegister.Distance, -8);
        _emit.Move(HostRegister.Rax, HostRegister.Address);
        _emit.Lea(HostRegister.GuestRsp, HostRegister.GuestRsp, -8);
    }

    private void PopFlags()
    {
        StackLookup(0, 8, false);
        _emit.LoadMemory(HostRegister.Rcx, HostRegister.GuestRsp, HostRegister.Distance, 0);

        // The instruction replaces the flags wherever it ends, so they may go now: XOR R15D, [Flags] compares what is not plain.
        _emit.Move(HostRegister.Distance, HostRegister.Rcx);
        _emit.StateOperation(false, 0x33, HostRegister.Distance, StateLayout.RflagsOffset);
        TestDistance(~PlainFlags);
        AddStub(_emit.JumpIfLater(5), InterpretInfo);
        TakeFlags();
        _emit.Lea(HostRegister.GuestRsp, HostRegister.GuestRsp, 8);
    }

    private void TestDistance(int mask)
    {
        // TEST R15D, imm32
        _emit.Bytes([0x41, 0xF7, 0xC7]);
        _emit.Int32(mask);
    }

    /// <summary>
    /// Makes RFLAGS what ECX says, which differs in plain flags only; leaves for the interpreter when that would let a waiting
    /// interrupt in. Changes R14 and R15.
    /// </summary>
    private void TakeFlags()
    {
        _emit.Bytes([0xF7, 0xC1]); // TEST ECX, IF
        _emit.Int32((int)Rflags.Interrupt);
        long masked = _emit.BeginJumpIf(4);
        _emit.Bytes([0x83]); // CMP [EventWaits], 0
        _emit.Operand(7, HostRegister.State, StateLayout.EventWaits);
        _emit.Byte(0);
        AddStub(_emit.JumpIfLater(5), InterpretInfo);
        _emit.EndShort(masked);
        _emit.Move(HostRegister.Address, HostRegister.Rax);
        _emit.Move32(HostRegister.Rax, HostRegister.Rcx);
        StoreFlagsFromRcx();
        _emit.LoadFlagsFromEax();
        _emit.Move(HostRegister.Rax, HostRegister.Address);
    }

    /// <summary>Stores what RCX has of RFLAGS beside the arithmetic flags.</summary>
    private void StoreFlagsFromRcx()
    {
        _emit.Bytes([0x81, 0xE1]); // AND ECX, imm32
        _emit.Int32(~Arithmetic);
        _emit.Bytes([0x83, 0xC9, (byte)Rflags.AlwaysOne]); // OR ECX, 2
        _emit.Store32(StateLayout.RflagsOffset, HostRegister.Rcx);
    }

    /// <summary>AND (4) or OR (1) on the state's RFLAGS; the host's flags are kept.</summary>
    private void ChangeFlags(int operation, int value)
    {
        _emit.Move(HostRegister.Address, HostRegister.Rax);
        _emit.Bytes([0x9F, 0x0F, 0x90, 0xC0]); // LAHF; SETO AL
        _emit.Byte(0x81);
        _emit.Operand(operation, HostRegister.State, StateLayout.RflagsOffset);
        _emit.Int32(value);
        _emit.Bytes([0x04, 0x7F, 0x9E]); // ADD AL, 7Fh; SAHF
        _emit.Move(HostRegister.Rax, HostRegister.Address);
    }

    /// <summary>STAC and CLAC: the code behind them uses other tables.</summary>
    private void ChangeAlignmentCheck(bool set, int next)
    {
        if (set == (_set == TlbSet.SupervisorOpen))
        {
            return;
        }

        _emit.Load32(HostRegister.Test, StateLayout.RflagsOffset);
        _emit.Lea(HostRegister.Test, HostRegister.Test, set ? (int)Rflags.AlignmentCheck : -(int)Rflags.AlignmentCheck);
        _emit.Store32(StateLayout.RflagsOffset, HostRegister.Test);
        AddJump(_emit.JumpLater(), next, set ? TlbSet.SupervisorOpen : TlbSet.Supervisor);
        _ends = true;
    }

    private void SystemCall(int next)
    {
        RequireClear(StateLayout.SyscallForbidden);
        GatherFlags();
        _emit.Bytes([0x81, 0xE1]); // AND ECX, ~RF
        _emit.Int32(~(int)Rflags.Resume);
        _emit.Store(StateLayout.Gpr(11), HostRegister.Rcx);
        _emit.Load32(HostRegister.Rax, StateLayout.Sfmask);
        _emit.Bytes([0xF7, 0xD0, 0x21, 0xC1]); // NOT EAX; AND ECX, EAX
        _emit.Move32(HostRegister.Rax, HostRegister.Rcx);
        StoreFlagsFromRcx();
        _emit.LoadFlagsFromEax();
        _emit.Move(HostRegister.Rax, HostRegister.Address);
        _emit.Load(HostRegister.GuestRcx, StateLayout.CodePage);
        _emit.Lea(HostRegister.GuestRcx, HostRegister.GuestRcx, next);
        _emit.StoreImmediate32(StateLayout.Privilege, (int)PrivilegeChange.ToSupervisor);
        _emit.Load(HostRegister.Address, StateLayout.Lstar);
        Land(TlbSet.Supervisor);
    }

    private void SystemReturn()
    {
        RequireClear(StateLayout.SyscallForbidden);
        _emit.Load(HostRegister.Rcx, StateLayout.Gpr(11));
        _emit.Bytes([0xF7, 0xC1]); // TEST ECX, imm32
        _emit.Int32(~PlainFlags);
        AddStub(_emit.JumpIfLater(5), InterpretInfo);
        TakeFlags();
        _emit.StoreImmediate32(StateLayout.Privilege, (int)PrivilegeChange.ToUser);
        _emit.Move(HostRegister.Address, HostRegister.GuestRcx);
        Land(TlbSet.User);
    }

    /// <summary>Goes on at R14 in another mode; where the code there is not known, the instruction is done all the same.</summary>
    private void Land(TlbSet set)
    {
        _ends = true;
        BeginFarJump(ExitInfo.Pack(ExitKind.Landed, 0), set);
        _emit.JumpTable(HostRegister.Distance, StateLayout.JumpTargets(set));
    }

    private static int ControlRegister(Register register) => register switch
    {
        Register.CR0 => StateLayout.Cr0,
        Register.CR2 => StateLayout.Cr2,
        Register.CR3 => StateLayout.Cr3,
        Register.CR4 => StateLayout.Cr4,
        _ => 0,
    };

    private void ReadState(int guest, int offset)
    {
        int to = HomeOrScratch(guest);
        _emit.Load(to, offset);
        MoveToGuest(guest, to);
    }

    private void ReadSelector(int guest, int segment, bool is16)
    {
        if (segment is 1 or 2)
        {
            // SYSCALL leaves CS and SS behind in the state.
            RequireClear(StateLayout.Privilege);
        }

        if (!is16)
        {
            int to = HomeOrScratch(guest);
            _emit.Load16(to, StateLayout.Selector(segment));
            MoveToGuest(guest, to);
            return;
        }

        // The rest of the register stays.
        int home = FromGuest(guest, HostRegister.Address);
        _emit.Load16(HostRegister.Test, StateLayout.Selector(segment));
        _emit.Move16(home, HostRegister.Test);
        MoveToGuest(guest, home);
    }

    /// <summary>A routine that does the instruction, or leaves it to the interpreter.</summary>
    private void CallSystemCode(long routine)
    {
        _emit.MoveImmediate(HostRegister.Test, InterpretInfo);
        _emit.Call(routine);
    }

    private void ReadBase(in Instruction instruction)
    {
        bool isFs = instruction.Mnemonic == Mnemonic.Rdfsbase;
        int guest = Number(instruction.Op0Register);
        int to = HomeOrScratch(guest);
        int field = isFs ? StateLayout.FsBase : StateLayout.GsBase;
        if (instruction.Op0Register.IsGPR32())
        {
            _emit.Load32(to, field);
        }
        else
        {
            _emit.Load(to, field);
        }

        MoveToGuest(guest, to);
    }

    /// <summary>RDPKRU, which Linux executes in each page fault. ECX must be 0, and goes through one test with CR4.PKE: their sum is no more than 2^32.</summary>
    private void ReadProtectionKeys()
    {
        _emit.Move32(HostRegister.Address, HostRegister.GuestRcx);
        _emit.Load32(HostRegister.Test, StateLayout.KeysForbidden);
        _emit.Lea(HostRegister.Test, HostRegister.Test, HostRegister.Address, 0, 0);
        LeaveUnlessZero();
        MoveToGuest(2, HostRegister.Test);
        _emit.Load32(HostRegister.Test, StateLayout.Pkru);
        MoveToGuest(0, HostRegister.Test);
    }

    /// <summary>Bases in the upper half, and what is not canonical, are for the interpreter.</summary>
    private void WriteBase(in Instruction instruction)
    {
        MoveFromGuest(HostRegister.Address, Number(instruction.Op0Register));
        if (instruction.Op0Register.IsGPR32())
        {
            _emit.Move32(HostRegister.Address, HostRegister.Address);
        }
        else
        {
            _emit.Extract(HostRegister.Test, HostRegister.Address, StateLayout.UpperHalfMask);
            LeaveUnlessZero();
        }

        _emit.Store(instruction.Mnemonic == Mnemonic.Wrfsbase ? StateLayout.FsBase : StateLayout.GsBase, HostRegister.Address);
    }
}
