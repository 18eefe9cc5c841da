using Iced.Intel;
using Tutti.Cpu.Interpreter;

namespace Tutti.Cpu.Translator;

/// <summary>Instructions that are copied: registers renamed, the memory operand looked up, everything else as the guest wrote it.</summary>
internal sealed unsafe partial class BlockTranslator
{
    private const int NoRegister = -1;

    /// <summary>The number of CH.</summary>
    private const int HighByteOfRcx = 5;

    /// <summary>Scratch registers that a copied instruction may use, and what is left of them.</summary>
    private ref struct Scratch
    {
        private int _free;

        public void Free(int register) => _free |= 1 << register;

        public void Take(int register) => _free &= ~(1 << register);

        /// <summary>R14 if it is free: what it gets can stay there.</summary>
        public int Take()
        {
            if (_free == 0)
            {
                return NoRegister;
            }

            bool hasAddress = (_free >> HostRegister.Address & 1) != 0;
            int register = hasAddress ? HostRegister.Address : System.Numerics.BitOperations.TrailingZeroCount(_free);
            Take(register);
            return register;
        }
    }

    private void TranslateCopy(in Instruction instruction)
    {
        CopyRule rule = CopyRule.Of(instruction);
        if (rule.IsNothing)
        {
            return;
        }

        if (!rule.CanCopy || !CanCopy(instruction, rule, out RawInstruction raw))
        {
            Interpret();
            return;
        }

        int high = HighByteRegister(instruction, rule, out bool isHighReg);
        bool keepsHigh = high != NoRegister && CanKeepHighByte(instruction, raw, rule);
        if (high != NoRegister && !keepsHigh && !CanReplaceHighByte(instruction, rule))
        {
            Interpret();
            return;
        }

        EnsureLoaded(rule.Unit);
        if (high == NoRegister && TryCopyOnState(instruction, rule, raw))
        {
            return;
        }

        if (keepsHigh)
        {
            Reencoder.Emit(_emit, raw, raw.Reg, RmOperand.InRegister(raw.Rm), 0);
            return;
        }

        EmitCopy(instruction, rule, raw, high, isHighReg);
    }

    /// <summary>What only a look at the instruction, not at its code, can tell.</summary>
    private bool CanCopy(in Instruction instruction, CopyRule rule, out RawInstruction raw)
    {
        ConstantOffsets constants = _constants[_index];
        ReadOnlySpan<byte> bytes = _readers[_passedCount].Bytes(_offset - _runOffset, instruction.Length);
        if (!RawInstruction.TryParse(bytes, constants.DisplacementSize, constants.ImmediateSize + constants.ImmediateSize2, out raw))
        {
            return false;
        }

        // Two readings of the same bytes must agree, or nothing is copied.
        if ((rule.IsRegisterInOpcode ? raw.Opcode & ~7 : raw.Opcode) != rule.Opcode)
        {
            return false;
        }

        if (!raw.IsMemory)
        {
            return true;
        }

        bool bitString = instruction.Mnemonic is Mnemonic.Bt or Mnemonic.Bts or Mnemonic.Btr or Mnemonic.Btc && instruction.Op1Kind == OpKind.Register;
        return (rule.ReadsMemory || rule.WritesMemory) && !bitString && instruction.MemorySize.GetSize() > 0 && IsAddressable(instruction);
    }

    private void EmitCopy(in Instruction instruction, CopyRule rule, in RawInstruction raw, int high, bool isHighReg)
    {
        var scratch = default(Scratch);
        scratch.Free(HostRegister.Test);
        RmOperand rm = default;
        if (raw.IsMemory)
        {
            int size = instruction.MemorySize.GetSize();
            bool aligned = (rule.NeedsAlignment && size >= 16) || instruction.Mnemonic == Mnemonic.Cmpxchg16b;
            rm = Lookup(instruction, size, rule.WritesMemory, aligned);
            if (rm.Index < 0)
            {
                // Of a group: its host address is in R15.
                scratch.Free(HostRegister.Address);
            }
            else if (CountInState(rule, raw) + (rule.ReadsRcx ? 1 : 0) > 1)
            {
                // One scratch register is not enough: the address goes into one.
                _cachedGuest = NoRegister;
                _emit.Lea(HostRegister.Address, rm.Register, rm.Index, 0, rm.Displacement);
                rm = RmOperand.InMemory(HostRegister.Address, -1, 0);
                scratch.Free(HostRegister.Distance);
            }
            else if (rm.Register != HostRegister.Address)
            {
                scratch.Free(HostRegister.Address);
            }
        }
        else
        {
            scratch.Free(HostRegister.Address);
            scratch.Free(HostRegister.Distance);
        }

        if (rule.ReadsRcx || high != NoRegister)
        {
            scratch.Take(HostRegister.Test);
        }

        if (rule.ReadsRcx)
        {
            _emit.Move(HostRegister.Test, HostRegister.GuestRcx);
        }

        if (high != NoRegister)
        {
            LoadHighByte(high);
        }

        int reg = high != NoRegister && isHighReg ? HostRegister.Test : Bring(rule.Reg, raw.Reg, ref scratch);
        int vvvv = Bring(rule.Vvvv, raw.Vvvv, ref scratch);
        if (!raw.IsMemory)
        {
            int number = rule.IsRegisterInOpcode || raw.HasModRm ? raw.Rm : raw.Opcode & 7;
            rm = RmOperand.InRegister(high != NoRegister && !isHighReg ? HostRegister.Test : Bring(rule.Rm, number, ref scratch));
        }

        Reencoder.Emit(_emit, raw, reg, rm, vvvv);
        if (rule.WritesRcx)
        {
            _emit.Move32(HostRegister.GuestRcx, HostRegister.Test);
        }

        // MULX may name one register twice: the first operand wins.
        TakeBack(rule.Vvvv, raw.Vvvv, vvvv, NoRegister);
        TakeBack(rule.Reg, raw.Reg, reg, high != NoRegister && isHighReg ? high : NoRegister);
        if (!raw.IsMemory)
        {
            TakeBack(rule.Rm, raw.Rm, rm.Register, high != NoRegister && !isHighReg ? high : NoRegister);
        }
    }

    /// <summary>
    /// Emits an instruction without a memory operand, of whose registers one is in the state, as the same instruction with that as its
    /// memory operand; false where there is none, or it needs the register.
    /// </summary>
    private bool TryCopyOnState(in Instruction instruction, CopyRule rule, in RawInstruction raw)
    {
        if (raw.IsMemory || !raw.HasModRm || rule.Rm.Kind != FieldKind.General || !StateForms.CanBeMemory(raw))
        {
            return false;
        }

        RawInstruction copied = raw;
        Field reg = rule.Reg;
        Field rm = rule.Rm;
        if (HostRegister.OfGuest(raw.Rm) != HostRegister.InState)
        {
            if (reg.Kind != FieldKind.General || HostRegister.OfGuest(raw.Reg) != HostRegister.InState || !StateForms.TryTurn(ref copied))
            {
                return false;
            }

            (reg, rm) = (rm, reg);
        }

        // What is written, or is in R14 already, is better there: who reads it next need not wait for the store.
        if (rm.IsWritten || copied.Rm == _cachedGuest)
        {
            return false;
        }

        var scratch = default(Scratch);
        scratch.Free(HostRegister.Address);
        if (rule.ReadsRcx)
        {
            _emit.Move(HostRegister.Test, HostRegister.GuestRcx);
        }

        int other = reg.Kind == FieldKind.None ? copied.Reg : Bring(reg, copied.Reg, ref scratch);
        Reencoder.Emit(_emit, copied, other, RmOperand.InMemory(HostRegister.State, NoRegister, StateLayout.Gpr(copied.Rm)), 0);
        TakeBack(reg, copied.Reg, other, NoRegister);
        return true;
    }

    /// <summary>The number to encode for an operand field: the home, or a scratch register that now holds the guest's register.</summary>
    private int Bring(Field field, int guest, ref Scratch scratch)
    {
        if (field.Kind != FieldKind.General)
        {
            return guest;
        }

        int home = HostRegister.OfGuest(guest);
        if (home != HostRegister.InState)
        {
            return home;
        }

        if (guest == _cachedGuest)
        {
            scratch.Take(HostRegister.Address);
            return HostRegister.Address;
        }

        int register = scratch.Take();
        if (register == NoRegister)
        {
            throw new InvalidOperationException("A copied instruction has more registers in the state than there are scratch registers.");
        }

        if (register == HostRegister.Distance)
        {
            _heldSlot = NoRegister;
            _region = default;
        }
        else if (register == HostRegister.Address)
        {
            _cachedGuest = field.IsRead ? guest : NoRegister;
        }

        if (field.IsRead)
        {
            _emit.Load(register, StateLayout.Gpr(guest));
        }

        return register;
    }

    private void TakeBack(Field field, int guest, int register, int high)
    {
        if (field.Kind != FieldKind.General || !field.IsWritten)
        {
            return;
        }

        if (high == HighByteOfRcx)
        {
            // The rest of RCX has come along.
            _emit.RotateRight(HostRegister.GuestRcx, HostRegister.Test, 64 - 8);
        }
        else if (high != NoRegister)
        {
            // MOV AH, CL and its like.
            _emit.Bytes([0x88, (byte)(0xC8 | high)]);
        }
        else if (HostRegister.OfGuest(guest) == HostRegister.InState)
        {
            _emit.Store(StateLayout.Gpr(guest), register);
            _cachedGuest = register == HostRegister.Address ? guest : guest == _cachedGuest ? NoRegister : _cachedGuest;
        }
    }

    private static int CountInState(CopyRule rule, in RawInstruction raw)
    {
        int count = 0;
        count += rule.Reg.Kind == FieldKind.General && HostRegister.OfGuest(raw.Reg) == HostRegister.InState ? 1 : 0;
        count += rule.Vvvv.Kind == FieldKind.General && HostRegister.OfGuest(raw.Vvvv) == HostRegister.InState ? 1 : 0;
        return count;
    }

    /// <summary>AH, CH, DH or BH among the operands: its number (4 to 7), or none.</summary>
    private static int HighByteRegister(in Instruction instruction, CopyRule rule, out bool isReg)
    {
        isReg = false;
        if (rule.Reg.Size != 1 && rule.Rm.Size != 1)
        {
            return NoRegister;
        }

        for (int i = 0; i < instruction.OpCount; i++)
        {
            if (instruction.GetOpKind(i) == OpKind.Register && instruction.GetOpRegister(i) is >= Register.AH and <= Register.BH)
            {
                OpCodeOperandKind kind = InstructionForm.Of(instruction.Code).KindOf(i);
                isReg = kind == OpCodeOperandKind.r8_reg;
                return instruction.GetOpRegister(i) - Register.AH + 4;
            }
        }

        return NoRegister;
    }

    /// <summary>Whether an instruction with a high-byte register can stay as it is: no operand moves, and none needs a REX prefix.</summary>
    private static bool CanKeepHighByte(in Instruction instruction, in RawInstruction raw, CopyRule rule)
    {
        if (raw.IsMemory || rule.ReadsRcx)
        {
            return false;
        }

        for (int i = 0; i < instruction.OpCount; i++)
        {
            if (instruction.GetOpKind(i) != OpKind.Register)
            {
                continue;
            }

            Register register = instruction.GetOpRegister(i);
            bool isHigh = register is >= Register.AH and <= Register.BH;
            int number = isHigh ? register - Register.AH : Number(register);
            if (number >= 8 || HostRegister.OfGuest(number) != number || register == Register.CH)
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Whether CL can stand in for a high-byte register.</summary>
    private static bool CanReplaceHighByte(in Instruction instruction, CopyRule rule)
    {
        int count = 0;
        bool isRcxToo = false;
        bool isHighOfRcx = false;
        for (int i = 0; i < instruction.OpCount; i++)
        {
            Register register = instruction.GetOpKind(i) == OpKind.Register ? instruction.GetOpRegister(i) : Register.None;
            bool isHigh = register is >= Register.AH and <= Register.BH;
            count += isHigh ? 1 : 0;
            isHighOfRcx |= register == Register.CH;
            isRcxToo |= !isHigh && register.GetFullRegister() == Register.RCX;
        }

        // XADD CH, CL changes both: then the rest of RCX is not what has come along with CH.
        return count == 1 && !rule.ReadsRcx && !(isHighOfRcx && isRcxToo);
    }

    private void LoadHighByte(int high)
    {
        if (high == HighByteOfRcx)
        {
            _emit.RotateRight(HostRegister.Test, HostRegister.GuestRcx, 8);
        }
        else
        {
            // MOVZX ECX, AH and its like.
            _emit.Bytes([0x0F, 0xB6, (byte)(0xC8 | high)]);
        }
    }

    /// <summary>Sees to it that the registers of a unit hold the guest's values, once a block.</summary>
    private void EnsureLoaded(StateUnit unit)
    {
        switch (unit)
        {
            case StateUnit.X87 when !_loadedX87:
                EmitLoad(StateLayout.X87Loaded, _common.LoadX87);
                _loadedX87 = true;
                break;
            case StateUnit.Avx when _loaded != StateUnit.Avx:
                EmitLoad(StateLayout.AvxLoaded, _common.LoadAvx);
                _loaded = StateUnit.Avx;
                break;
            case StateUnit.Sse when _loaded == StateUnit.None:
                EmitLoad(StateLayout.SseLoaded, _common.LoadSse);
                _loaded = StateUnit.Sse;
                break;
            default:
                break;
        }
    }

    private void EmitLoad(int loaded, long load)
    {
        _emit.Load32(HostRegister.Test, loaded);
        _stubs.Add(new Stub(_emit.JumpUnlessOneLater(), InterpretInfo, _emit.Here, HostRegister.Address, 0, 0, _set) { Load = load });
    }
}
