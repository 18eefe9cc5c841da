using Iced.Intel;

namespace Tutti.Cpu.Translator;

/// <summary>Returns by the processor's own return stack: CALL's part of the return ring, and RET.</summary>
internal sealed unsafe partial class BlockTranslator
{
    private readonly CodeWords _targetReader = new();
    private readonly GuestDecoder _targetDecoder;

    /// <summary>The page of code, as the host sees it; null for an instruction that crosses its end.</summary>
    private byte* _page;

    /// <summary>Whether RET finds its way back to behind a call without the jump cache: by linear address, and so not into another page.</summary>
    private bool IsRemembered(int next) => next < 4096 && _set != TlbSet.SupervisorOpen;

    /// <summary>Writes the return address in a register down, of which that leaves the inverse, and its index to R15. RSP is what it is behind the push.</summary>
    private void EmitRingTag(int address)
    {
        _emit.Extract(HostRegister.Distance, HostRegister.GuestRsp, StateLayout.RingIndexMask);
        _emit.Not(address);
        _emit.StoreTable(HostRegister.Distance, StateLayout.RingTags(_set) + 8, address);
    }

    /// <summary>
    /// Calls what follows, so that the processor foretells where the guest's RET goes: here, with the linear address in R14. The way on from there
    /// is a jump like any other.
    /// </summary>
    /// <param name="landing">Where the address of that place is wanted, as a displacement; 0 for nowhere.</param>
    private void EmitLanding(int next, long landing)
    {
        long call = _emit.CallLater();
        if (landing != 0)
        {
            _emit.PatchHere(landing);
        }

        EmitFarEntry(next);
        AddLink(_emit.JumpLater(), next, _set);
        _emit.PatchHere(call);
    }

    /// <summary>
    /// Whether a call only brings an address to the stack, for what follows there: code that wants to know where it is, and the jump through RET by which
    /// kernels keep indirect jumps from being foretold. No RET comes back from it, and the processor must not expect one. What is written here later
    /// makes nothing wrong, only slower.
    /// </summary>
    private bool IsGoneOnFrom(int target)
    {
        if (_page == null || !IsInPage(target))
        {
            return false;
        }

        // SAFETY: the page is whole.
        _targetReader.Start(_page + target, 4096 - target);
        _targetDecoder.IP = (ulong)target;
        _targetDecoder.Decode(out Instruction first);
        return first.Code is Code.Pop_r64 || IsReturnAddressWritten(first)
            || (first.Code == Code.Add_rm64_imm8 && first.Op0Register == Register.RSP && first.Immediate8 == 8);
    }

    /// <summary>Whether RET goes where the instruction before it has said, and not where a CALL has: an indirect jump.</summary>
    private bool FollowsItsAddress() => _index > 0 && !_isLabel[_index] && _instructions[_index - 1].NextIP == _instructions[_index].IP
        && (IsReturnAddressWritten(_instructions[_index - 1]) || _instructions[_index - 1].Code is Code.Push_r64 or Code.Push_rm64);

    private static bool IsReturnAddressWritten(in Instruction instruction) => instruction.Code == Code.Mov_rm64_r64 && instruction.Op0Kind == OpKind.Memory
        && instruction.MemoryBase == Register.RSP && instruction.MemoryIndex == Register.None && instruction.MemoryDisplacement64 == 0;

    private void Return(int drop)
    {
        int change = 8 + drop;
        if (change > short.MaxValue)
        {
            Interpret();
            return;
        }

        RmOperand from = LookupStack(0, write: false);
        _emit.LoadMemory(HostRegister.Address, from.Register, from.Index, from.Displacement);
        if (_set == TlbSet.SupervisorOpen || FollowsItsAddress())
        {
            _emit.Lea(HostRegister.GuestRsp, HostRegister.GuestRsp, change);
            FarJump(JumpInfo(change));
            return;
        }

        _emit.Lea(HostRegister.GuestRsp, HostRegister.GuestRsp, 8);
        _emit.Extract(HostRegister.Distance, HostRegister.GuestRsp, StateLayout.RingMask);
        _emit.LoadTable(HostRegister.Test, HostRegister.Distance, StateLayout.RingTags(_set));
        _emit.Lea(HostRegister.GuestRsp, HostRegister.GuestRsp, drop);
        _emit.Lea(HostRegister.Test, HostRegister.Test, HostRegister.Address, 0, 2);
        _stubs.Add(new Stub(_emit.JumpUnlessOneLater(), JumpInfo(change), 0, HostRegister.Address, 0, 0, _set) { IsReturn = true });
        _emit.ReturnTable(HostRegister.Distance, StateLayout.RingLandings(_set));
        _ends = true;
    }
}
