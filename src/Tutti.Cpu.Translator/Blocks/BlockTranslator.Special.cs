using Iced.Intel;

namespace Tutti.Cpu.Translator;

/// <summary>Instructions with a sequence of their own: the stack's, LEA.</summary>
internal sealed unsafe partial class BlockTranslator
{
    private bool TryTranslateSpecial(in Instruction instruction)
    {
        switch (instruction.Code)
        {
            case Code.Push_r64 or Code.Push_rm64 or Code.Pushq_imm32 or Code.Pushq_imm8:
                if (instruction.Op0Kind == OpKind.Memory && !IsAddressable(instruction))
                {
                    return false;
                }

                Push(instruction);
                return true;
            case Code.Pop_r64:
                Pop(Number(instruction.Op0Register));
                return true;
            case Code.Leaveq:
                Leave();
                return true;
            case Code.Lea_r32_m or Code.Lea_r64_m:
                if (!IsAddressable(instruction))
                {
                    return false;
                }

                LoadEffectiveAddress(instruction);
                return true;
            default:
                return false;
        }
    }

    private void Push(in Instruction instruction)
    {
        int value = HostRegister.Address;
        RmOperand to;
        if (instruction.Op0Kind == OpKind.Memory)
        {
            RmOperand from = Lookup(instruction, 8, write: false, aligned: false);
            _emit.LoadMemory(HostRegister.Address, from.Register, from.Index, from.Displacement);
            StackLookup(-8, 8, true, isAccessedNext: true);
            to = RmOperand.InMemory(HostRegister.GuestRsp, HostRegister.Distance, -8);
        }
        else
        {
            to = LookupStack(-8, write: true);
            if (instruction.Op0Kind == OpKind.Register)
            {
                value = FromGuest(Number(instruction.Op0Register), HostRegister.Address);
            }
            else
            {
                _emit.MoveSigned(HostRegister.Address, (int)(long)instruction.GetImmediate(0));
            }
        }

        _emit.StoreMemory(value, to.Register, to.Index, to.Displacement);
        _emit.Lea(HostRegister.GuestRsp, HostRegister.GuestRsp, -8);
        if (instruction.Op0Kind == OpKind.Register && value == HostRegister.Address)
        {
            _cachedAfter = Number(instruction.Op0Register);
        }
    }

    private void Pop(int guest)
    {
        RmOperand from = LookupStack(0, write: false);
        int to = HomeOrScratch(guest);
        _emit.LoadMemory(to, from.Register, from.Index, from.Displacement);
        MoveToGuest(guest, to);
        _cachedAfter = to == HostRegister.Address ? guest : NoRegister;
        if (to != HostRegister.GuestRsp)
        {
            _emit.Lea(HostRegister.GuestRsp, HostRegister.GuestRsp, 8);
        }
    }

    /// <summary>Looks up the word at [guest RSP + displacement], alone or as one of a group. It is found by R15; R14 is free.</summary>
    private RmOperand LookupStack(int displacement, bool write)
    {
        Instruction operand = default;
        operand.MemoryBase = Register.RSP;
        operand.MemoryDisplacement64 = (ulong)displacement;
        return Lookup(operand, 8, write, aligned: false);
    }

    private void Leave()
    {
        const int Rbp = 5;
        if (UsesWindow)
        {
            BringDistance(_origins[Rbp], Rbp);
        }
        else
        {
            EmitGenericLookup(Rbp, 8, false, 0, out long miss);
            _stubs.Add(new Stub(miss, ExitInfo.Pack(ExitKind.TlbMiss, _offset, 8), _start, Rbp, 0, 0, _set));
            _emit.LoadTable(HostRegister.Distance, HostRegister.Distance, StateLayout.Distances(_set, false));
            _region = default;
        }

        _emit.LoadMemory(HostRegister.Address, Rbp, HostRegister.Distance, 0);
        _emit.Lea(HostRegister.GuestRsp, Rbp, 8);
        _emit.Move(Rbp, HostRegister.Address);
    }

    private void LoadEffectiveAddress(in Instruction instruction)
    {
        // The segment's base is no part of an effective address.
        Instruction flat = instruction;
        flat.SegmentPrefix = Register.None;
        int guest = Number(instruction.Op0Register);
        int to = HomeOrScratch(guest);
        int address = EmitAddress(flat, to: to);
        if (instruction.Code == Code.Lea_r32_m)
        {
            _emit.Move32(to, address);
            address = to;
        }

        MoveToGuest(guest, address);
        _cachedAfter = to == HostRegister.Address && address == to ? guest : NoRegister;
    }
}
