using Iced.Intel;

namespace Tutti.Cpu.Translator;

/// <summary>Near jumps, calls and returns.</summary>
internal sealed unsafe partial class BlockTranslator
{
    private bool TryTranslateBranch(in Instruction instruction)
    {
        bool isNear = instruction.Op0Kind == OpKind.NearBranch64;
        if ((isNear && (long)instruction.NearBranch64 != (int)(long)instruction.NearBranch64)
            || (instruction.Op0Kind == OpKind.Memory && instruction.FlowControl != FlowControl.Next && !IsAddressable(instruction)))
        {
            Interpret();
            return true;
        }

        switch (instruction.Code)
        {
            case Code.Jmp_rel8_64 or Code.Jmp_rel32_64:
                GoTo((int)(long)instruction.NearBranch64);
                return true;
            case Code.Call_rel32_64:
                Call((int)(long)instruction.NearBranch64, (int)instruction.NextIP);
                return true;
            case Code.Retnq or Code.Retnq_imm16:
                Return(instruction.Code == Code.Retnq_imm16 ? instruction.Immediate16 : 0);
                return true;
            case Code.Jmp_rm64:
                LoadTarget(instruction);
                FarJump(JumpInfo(0));
                return true;
            case Code.Call_rm64:
                CallIndirect(instruction);
                return true;
            default:
                return TryTranslateConditional(instruction);
        }
    }

    private bool TryTranslateConditional(in Instruction instruction)
    {
        if (!instruction.Code.IsJccShortOrNear() || instruction.Op0Kind != OpKind.NearBranch64)
        {
            return false;
        }

        int target = (int)(long)instruction.NearBranch64;
        int condition = Condition(instruction.ConditionCode);
        if (!IsInPage(target))
        {
            if (_set == TlbSet.SupervisorOpen)
            {
                long over = _emit.JumpIfLater(condition ^ 1);
                bool ended = _ends;
                JumpOut(target);
                _ends = ended;
                _emit.PatchHere(over);
                return true;
            }

            // Behind the block, where it is in nobody's way while the jump is not taken.
            _stubs.Add(new Stub(_emit.JumpIfLater(condition), AttentionInfo, 0, HostRegister.Address, 0, target, _set) { IsTaken = true, Polls = NeedsPoll(target) });
        }
        else
        {
            PollBefore(target, AttentionInfo);
            AddJump(_emit.JumpIfLater(condition), target);
        }

        return true;
    }

    /// <summary>Backward jumps look for attention; but who has looked memory up on the way to the jump, since the block was entered, has done so there.</summary>
    private bool NeedsPoll(int target) => target <= _offset && !_hasPolled;

    private static bool IsInPage(int target) => target is >= 0 and < 4096;

    private int InterpretInfo => ExitInfo.Pack(ExitKind.Interpret, _offset);

    /// <summary>The exit of a jump whose target is not known yet.</summary>
    /// <param name="stackChange">What has been added to RSP.</param>
    private int JumpInfo(int stackChange) => ExitInfo.Pack(ExitKind.Jump, _offset) | (stackChange << 16);

    /// <summary>The condition as in the low bits of Jcc.</summary>
    private static int Condition(ConditionCode condition) => condition switch
    {
        ConditionCode.o => 0,
        ConditionCode.no => 1,
        ConditionCode.b => 2,
        ConditionCode.ae => 3,
        ConditionCode.e => 4,
        ConditionCode.ne => 5,
        ConditionCode.be => 6,
        ConditionCode.a => 7,
        ConditionCode.s => 8,
        ConditionCode.ns => 9,
        ConditionCode.p => 10,
        ConditionCode.np => 11,
        ConditionCode.l => 12,
        ConditionCode.ge => 13,
        ConditionCode.le => 14,
        _ => 15,
    };

    /// <summary>Ends the block with an unconditional jump to an offset, which may lie outside the page.</summary>
    private void GoTo(int target)
    {
        if (!IsInPage(target))
        {
            JumpOut(target);
            return;
        }

        PollBefore(target, ExitInfo.Pack(ExitKind.Attention, target));
        NearJump(target);
        _ends = true;
    }

    /// <summary>The exit before an instruction that is to wait for attention.</summary>
    private int AttentionInfo => ExitInfo.Pack(ExitKind.Attention, _offset);

    /// <summary>Ends the block with a jump to another page.</summary>
    private void JumpOut(int target)
    {
        if (_set == TlbSet.SupervisorOpen)
        {
            _emit.Load(HostRegister.Address, StateLayout.CodePage);
            _emit.Lea(HostRegister.Address, HostRegister.Address, target);
            FarJump(JumpInfo(0));
            return;
        }

        PollBefore(target, AttentionInfo);
        _emit.Load(HostRegister.Address, StateLayout.CodePage);
        _emit.Lea(HostRegister.Address, HostRegister.Address, target);
        FarLink(ExitInfo.Pack(ExitKind.Link, _offset) | (int)ExitInfo.FarBit);
        _ends = true;
    }

    /// <summary>
    /// Jumps to the linear address in R14, which is the target of a direct jump: straight to its code, once that is known to be there. Like the
    /// entries of the jump cache, such jumps are forgotten when the guest drops translations.
    /// </summary>
    private void FarLink(int info) => _stubs.Add(new Stub(_emit.JumpLater(), info, 0, HostRegister.Address, 0, 0, _set));

    private void Call(int target, int next)
    {
        bool isFar = !IsInPage(target);
        if (isFar && UsesWindow)
        {
            PollBefore(target, AttentionInfo);
        }

        EmitPushAddress(next);
        _emit.Lea(HostRegister.GuestRsp, HostRegister.GuestRsp, -8);
        bool isRemembered = IsRemembered(next) && !IsGoneOnFrom(target);
        if (isRemembered)
        {
            EmitRingTag(HostRegister.Address);
            EmitLanding(next, 0);
            _emit.PopTable(HostRegister.Distance, StateLayout.RingLandings(_set) + 8);
        }

        _ends = true;
        if (!isFar)
        {
            PollBefore(target, ExitInfo.Pack(ExitKind.Attention, target));
            NearJump(target);
            return;
        }

        if (isRemembered)
        {
            _emit.Not(HostRegister.Address);
        }

        // R14 has the return address.
        _emit.Lea(HostRegister.Address, HostRegister.Address, target - next);
        if (_set == TlbSet.SupervisorOpen)
        {
            FarJump(JumpInfo(-8));
            return;
        }

        FarLink(ExitInfo.Pack(ExitKind.Link, _offset) | (int)(ExitInfo.FarBit | ExitInfo.CallBit));
    }

    private void CallIndirect(in Instruction instruction)
    {
        // The target is read first, and nothing of it may be lost by the push: it waits in R14, the return address goes by RCX.
        int next = (int)instruction.NextIP;
        LoadTarget(instruction);
        StackLookup(-8, 8, true, isAccessedNext: true);
        _emit.Load(HostRegister.Test, StateLayout.CodePage);
        _emit.Lea(HostRegister.Test, HostRegister.Test, next);
        _emit.StoreMemory(HostRegister.Test, HostRegister.GuestRsp, HostRegister.Distance, -8);
        _emit.Lea(HostRegister.GuestRsp, HostRegister.GuestRsp, -8);
        if (!IsRemembered(next))
        {
            FarJump(JumpInfo(-8));
            return;
        }

        // That code goes on there is true whether the jump is taken or not.
        EmitRingTag(HostRegister.Test);
        long landing = _emit.LeaLater(HostRegister.Test);
        _emit.StoreTable(HostRegister.Distance, StateLayout.RingLandings(_set) + 8, HostRegister.Test);
        BeginFarJump(JumpInfo(-8), _set);
        EmitLanding(next, landing);
        _emit.Lea(HostRegister.State, HostRegister.State, 8 + StateLayout.Bias);
        _emit.JumpTable(HostRegister.Distance, StateLayout.JumpTargets(_set));
        _ends = true;
    }

    private void EmitPushAddress(int next)
    {
        RmOperand to = LookupStack(-8, write: true);
        _emit.Load(HostRegister.Address, StateLayout.CodePage);
        _emit.Lea(HostRegister.Address, HostRegister.Address, next);
        _emit.StoreMemory(HostRegister.Address, to.Register, to.Index, to.Displacement);
    }

    /// <summary>Brings the target of an indirect jump to R14.</summary>
    private void LoadTarget(in Instruction instruction)
    {
        if (instruction.Op0Kind == OpKind.Register)
        {
            MoveFromGuest(HostRegister.Address, Number(instruction.Op0Register));
            return;
        }

        RmOperand place = Lookup(instruction, 8, write: false, aligned: false);
        _emit.LoadMemory(HostRegister.Address, place.Register, place.Index, place.Displacement);
    }

    /// <summary>Ends the block with a jump to the linear address in R14, by the jump cache.</summary>
    /// <param name="missInfo">The exit for a target that is not known.</param>
    private void FarJump(int missInfo)
    {
        _ends = true;
        if (_set == TlbSet.SupervisorOpen)
        {
            EmitExit(missInfo);
            return;
        }

        BeginFarJump(missInfo, _set);
        _emit.JumpTable(HostRegister.Distance, StateLayout.JumpTargets(_set));
    }

    /// <summary>Looks the address in R14 up in the jump cache of a set; leaves the entry's index in R15.</summary>
    private void BeginFarJump(int missInfo, TlbSet set)
    {
        _emit.HashJump(set);
        _emit.Extract(HostRegister.Distance, HostRegister.Distance, StateLayout.JumpMask);
        _emit.LoadTable(HostRegister.Test, HostRegister.Distance, StateLayout.JumpTags(set));
        _emit.Lea(HostRegister.Test, HostRegister.Test, HostRegister.Address, 0, 0);
        long miss = _emit.JumpUnlessOneLater();
        _stubs.Add(new Stub(miss, missInfo, _emit.Here, HostRegister.Address, 0, 0, set) { IsJump = true });
    }

    private void NearJump(int target) => AddJump(_emit.JumpLater(), target);

    private void AddJump(long site, int target) => AddJump(site, target, _set);

    private void AddJump(long site, int target, TlbSet set)
    {
        if (_loopEntry != 0 && target == _blockOffset && set == _loopSet)
        {
            _emit.Patch(site, _loopEntry);
            return;
        }

        if (set != _set || !TryJumpForward(site, target))
        {
            AddLink(site, target, set);
        }
    }

    private void AddLink(long site, int target, TlbSet set) =>
        _stubs.Add(new Stub(site, ExitInfo.Pack(ExitKind.Link, target), 0, HostRegister.Address, 0, 0, set));

    private void AddStub(long site, int info) => _stubs.Add(new Stub(site, info, 0, HostRegister.Address, 0, 0, _set));

    /// <summary>Leaves when something asks for attention, before a jump that must look for it.</summary>
    private void PollBefore(int target, int info)
    {
        if (NeedsPoll(target))
        {
            Poll(info);
        }
    }

    /// <summary>Leaves when something asks for attention.</summary>
    private void Poll(int info)
    {
        _emit.Load(HostRegister.Test, StateLayout.Poll);
        AddStub(_emit.JumpUnlessOneLater(), info);
    }

    private void EmitExit(int info)
    {
        _emit.MoveImmediate(HostRegister.Test, info);
        _emit.Call(_common.Exit);
    }

    /// <summary>Ends the block before this instruction: it is for the interpreter.</summary>
    private void Interpret()
    {
        EmitExit(InterpretInfo);
        _ends = true;
    }
}
