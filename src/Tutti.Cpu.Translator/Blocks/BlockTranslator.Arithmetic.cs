using Iced.Intel;

namespace Tutti.Cpu.Translator;

/// <summary>Divisions, bit strings in memory and repeated string instructions: copied only behind checks.</summary>
internal sealed unsafe partial class BlockTranslator
{
    private bool TryTranslateArithmetic(in Instruction instruction)
    {
        switch (instruction.Code)
        {
            case Code.Div_rm32 or Code.Div_rm64 or Code.Idiv_rm32 or Code.Idiv_rm64:
                if (instruction.Op0Kind == OpKind.Memory && !IsAddressable(instruction))
                {
                    return false;
                }

                Divide(instruction);
                return true;
            case Code.Bt_rm32_r32 or Code.Bts_rm32_r32 or Code.Btr_rm32_r32 or Code.Btc_rm32_r32
                or Code.Bt_rm64_r64 or Code.Bts_rm64_r64 or Code.Btr_rm64_r64 or Code.Btc_rm64_r64:
                if (instruction.Op0Kind != OpKind.Memory || !IsAddressable(instruction))
                {
                    return false;
                }

                BitString(instruction);
                return true;
            case Code.Movsb_m8_m8 or Code.Movsw_m16_m16 or Code.Movsd_m32_m32 or Code.Movsq_m64_m64 when IsPlainRepeat(instruction):
                RepeatMove(instruction);
                return true;
            case Code.Stosb_m8_AL or Code.Stosw_m16_AX or Code.Stosd_m32_EAX or Code.Stosq_m64_RAX when IsPlainRepeat(instruction):
                RepeatStore(instruction);
                return true;
            default:
                return false;
        }
    }

    /// <summary>
    /// DIV and IDIV: an overflow would be a fault of the host, so only operands without one are divided here. 64-bit dividends of more
    /// than 64 bits are left to the interpreter.
    /// </summary>
    private void Divide(in Instruction instruction)
    {
        bool is64 = instruction.Code is Code.Div_rm64 or Code.Idiv_rm64;
        bool signed = instruction.Code is Code.Idiv_rm32 or Code.Idiv_rm64;
        LoadDivisor(instruction, is64, signed);
        if (!signed && !is64)
        {
            // divisor - EDX - 1 is not negative where the quotient fits.
            _emit.Move32(HostRegister.Test, HostRegister.Rdx);
            _emit.Not(HostRegister.Test);
            _emit.Lea(HostRegister.Test, HostRegister.Test, HostRegister.Address, 0, 0);
            _emit.Extract(HostRegister.Test, HostRegister.Test, StateLayout.SignMask);
            LeaveUnlessZero();
        }
        else if (!signed)
        {
            _emit.Move(HostRegister.Test, HostRegister.Rdx);
            LeaveUnlessZero();
            _emit.Move(HostRegister.Test, HostRegister.Address);
            LeaveIfZero();
        }
        else
        {
            // The upper half is the sign of the lower one: their sum with the sign bit is 0. The divisor is neither 0 nor -1.
            if (is64)
            {
                _emit.Extract(HostRegister.Distance, HostRegister.Rax, StateLayout.SignMask);
                _emit.Lea(HostRegister.Test, HostRegister.Rdx, HostRegister.Distance, 0, 0);
            }
            else
            {
                _emit.SignExtend32(HostRegister.Distance, HostRegister.Rax);
                _emit.Extract(HostRegister.Distance, HostRegister.Distance, StateLayout.SignMask);
                _emit.SignExtend32(HostRegister.Test, HostRegister.Rdx);
                _emit.Lea(HostRegister.Test, HostRegister.Test, HostRegister.Distance, 0, 0);
            }

            LeaveUnlessZero();
            _emit.Lea(HostRegister.Test, HostRegister.Address, 1);
            _emit.Extract(HostRegister.Test, HostRegister.Test, StateLayout.NotOneMask);
            LeaveIfZero();
        }

        _emit.Rex(is64, 0, 0, HostRegister.Address);
        _emit.Byte(0xF7);
        _emit.Byte((signed ? 0xF8 : 0xF0) | (HostRegister.Address & 7));
    }

    /// <summary>Brings the divisor to R14, extended to 64 bits.</summary>
    private void LoadDivisor(in Instruction instruction, bool is64, bool signed)
    {
        if (instruction.Op0Kind == OpKind.Register)
        {
            MoveFromGuest(HostRegister.Address, Number(instruction.Op0Register));
        }
        else
        {
            RmOperand place = Lookup(instruction, is64 ? 8 : 4, write: false, aligned: false);
            _emit.Rex(is64, HostRegister.Address, Math.Max(place.Index, 0), place.Register);
            _emit.Byte(0x8B);
            if (place.Index < 0)
            {
                _emit.Operand(HostRegister.Address, place.Register, place.Displacement);
            }
            else
            {
                _emit.Operand(HostRegister.Address, place.Register, place.Index, 0, place.Displacement);
            }
        }

        if (!is64 && signed)
        {
            _emit.SignExtend32(HostRegister.Address, HostRegister.Address);
        }
        else if (!is64)
        {
            _emit.Move32(HostRegister.Address, HostRegister.Address);
        }
    }

    /// <summary>BT and its kin on memory: the bit's word is addressed first, then the bit within it.</summary>
    private void BitString(in Instruction instruction)
    {
        bool is64 = instruction.Op1Register.IsGPR64();
        int size = is64 ? 8 : 4;
        int index = Number(instruction.Op1Register);
        int address = EmitAddress(instruction);
        int offset = FromGuest(index, HostRegister.Test);
        _emit.MoveImmediate(HostRegister.Distance, is64 ? 6 : 5);
        _emit.ShiftRightSigned(HostRegister.Distance, offset, HostRegister.Distance, is64);
        if (!is64)
        {
            _emit.SignExtend32(HostRegister.Distance, HostRegister.Distance);
        }

        _emit.Lea(HostRegister.Address, address, HostRegister.Distance, is64 ? 3 : 2, 0);
        bool write = instruction.Mnemonic != Mnemonic.Bt;
        EmitGenericLookup(HostRegister.Address, size, write, 0, out long miss);
        _stubs.Add(new Stub(miss, ExitInfo.Pack(ExitKind.TlbMiss, _offset, size, write), _start, HostRegister.Address, 0, 0, _set));
        _emit.LoadTable(HostRegister.Distance, HostRegister.Distance, StateLayout.Distances(_set, write));
        _emit.Extract(HostRegister.Test, FromGuest(index, HostRegister.Test), StateLayout.BitMask(size));
        if (instruction.HasLockPrefix)
        {
            _emit.Byte(0xF0);
        }

        _emit.Rex(is64, HostRegister.Test, HostRegister.Distance, HostRegister.Address);
        _emit.Byte(0x0F);
        _emit.Byte(instruction.Mnemonic switch { Mnemonic.Bt => 0xA3, Mnemonic.Bts => 0xAB, Mnemonic.Btr => 0xB3, _ => 0xBB });
        _emit.Operand(HostRegister.Test, HostRegister.Address, HostRegister.Distance, 0, 0);
    }

    private static bool IsPlainRepeat(in Instruction instruction) =>
        (instruction.HasRepPrefix || instruction.HasRepnePrefix) && instruction.SegmentPrefix is not (Register.FS or Register.GS)
        && instruction.Op0Kind == OpKind.MemoryESRDI && !instruction.HasLockPrefix;

    /// <summary>REP MOVS that begins and ends in one page on both sides, upwards; what is more goes to the interpreter, which takes it by pages too.</summary>
    private void RepeatMove(in Instruction instruction)
    {
        const int Rsi = 6;
        const int Rdi = 7;
        int scale = System.Numerics.BitOperations.Log2((uint)instruction.MemorySize.GetSize());
        RequireShortRun();
        LookupRun(Rsi, scale, false);
        _emit.LoadTable(HostRegister.Distance, HostRegister.Distance, StateLayout.Distances(_set, false));
        _emit.Lea(HostRegister.Distance, HostRegister.Distance, Rsi, 0, 0);
        _emit.Store(StateLayout.Saved, HostRegister.Distance);
        LookupRun(Rdi, scale, true);
        _emit.LoadTable(HostRegister.Distance, HostRegister.Distance, StateLayout.Distances(_set, true));
        _emit.Move(HostRegister.Address, Rsi);
        _emit.Load(Rsi, StateLayout.Saved);
        _emit.Lea(Rdi, Rdi, HostRegister.Distance, 0, 0);
        _emit.Move(HostRegister.Rcx, HostRegister.GuestRcx);
        EmitRepeat(0xA4, scale);

        // The pointers have moved by the same distance: RSI = its start + (end - start) on the host's side; -x is NOT x + 1.
        _emit.Load(HostRegister.Rcx, StateLayout.Saved);
        _emit.Not(HostRegister.Rcx);
        _emit.Lea(Rsi, Rsi, HostRegister.Rcx, 0, 1);
        _emit.Lea(Rsi, Rsi, HostRegister.Address, 0, 0);
        EndRun(Rdi);
    }

    private void RepeatStore(in Instruction instruction)
    {
        const int Rdi = 7;
        int scale = System.Numerics.BitOperations.Log2((uint)instruction.MemorySize.GetSize());
        RequireShortRun();
        LookupRun(Rdi, scale, true);
        _emit.LoadTable(HostRegister.Distance, HostRegister.Distance, StateLayout.Distances(_set, true));
        _emit.Lea(Rdi, Rdi, HostRegister.Distance, 0, 0);
        _emit.Move(HostRegister.Rcx, HostRegister.GuestRcx);
        EmitRepeat(0xAA, scale);
        EndRun(Rdi);
    }

    /// <summary>A run goes upwards, has an element, whose page is looked up, and too few of them for the bytes to overflow.</summary>
    private void RequireShortRun()
    {
        RequireClear(StateLayout.GoesDown);
        _emit.Move(HostRegister.Test, HostRegister.GuestRcx);
        LeaveIfZero();
        _emit.Extract(HostRegister.Test, HostRegister.GuestRcx, StateLayout.LargeCountMask);
        LeaveUnlessZero();
    }

    /// <summary>Looks up the page of a run's first byte and compares it with that of the last one; leaves the index in R15.</summary>
    private void LookupRun(int pointer, int scale, bool write)
    {
        _emit.Extract(HostRegister.Distance, pointer, StateLayout.TlbIndexMask);
        _emit.LoadTable(HostRegister.Test, HostRegister.Distance, StateLayout.Tags(_set, write));
        _emit.Lea(HostRegister.Address, pointer, HostRegister.GuestRcx, scale, -1);
        _emit.Lea(HostRegister.Test, HostRegister.Test, HostRegister.Address, 0, 0);
        _emit.Extract(HostRegister.Test, HostRegister.Test, StateLayout.PageMask);

        // A run that leaves the page misses for good, and goes to the interpreter when its page is there, or its first element crosses the end.
        int info = ExitInfo.Pack(ExitKind.TlbMiss, _offset, 1 << scale, write);
        _stubs.Add(new Stub(_emit.JumpUnlessOneLater(), info, _start, pointer, 0, 0, _set));
    }

    private void EmitRepeat(int opcode, int scale)
    {
        if (scale == 1)
        {
            _emit.Byte(0x66);
        }

        _emit.Byte(0xF3);
        if (scale == 3)
        {
            _emit.Byte(0x48);
        }

        _emit.Byte(scale == 0 ? opcode : opcode + 1);
    }

    private void EndRun(int pointer)
    {
        _emit.Not(HostRegister.Distance);
        _emit.Lea(pointer, pointer, HostRegister.Distance, 0, 1);
        _emit.MoveImmediate(HostRegister.GuestRcx, 0);
    }
}
