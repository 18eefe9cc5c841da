using Tutti.X86;

namespace Tutti.Cpu.Translator;

/// <summary>
/// System instructions that are too long to stand in each block. Each is called with the <see cref="ExitInfo"/> in ECX that leaves its
/// instruction to the interpreter, and does so for whatever is not ordinary, with all of the guest's registers and flags as they were.
/// </summary>
internal sealed partial class CommonCode
{
    /// <summary>Bytes of what IRETQ takes from the stack: RIP, CS, RFLAGS, RSP, SS.</summary>
    private const int FrameSize = 40;

    private const int Arithmetic = (int)Rflags.Arithmetic;

    /// <summary>What RFLAGS may have when IRETQ ends. RF is for breakpoints, with which no translated code runs.</summary>
    private const int ReturnableFlags = Arithmetic | (int)(Rflags.AlwaysOne | Rflags.Interrupt | Rflags.Identification | Rflags.Resume);

    private readonly List<long> _toInterpreter = [];

    /// <summary>RDTSC.</summary>
    public long ReadCounter { get; private set; }

    /// <summary>RDTSCP.</summary>
    public long ReadCounterOrdered { get; private set; }

    /// <summary>IRETQ of a supervisor with RFLAGS.AC clear. Comes back only to try again, after a TLB miss.</summary>
    public long InterruptReturn { get; private set; }

    private void EmitSystemCode()
    {
        ReadCounter = _emit.Here;
        EmitReadCounter(isOrdered: false);
        ReadCounterOrdered = _emit.Here;
        EmitReadCounter(isOrdered: true);
        InterruptReturn = _emit.Here;
        EmitInterruptReturn();
    }

    private void EmitReadCounter(bool isOrdered)
    {
        NoteInfoUnless(StateLayout.CounterForbidden, _exitNoted);
        if (isOrdered)
        {
            _emit.Bytes([0x0F, 0xAE, 0xE8]); // LFENCE
        }

        _emit.Bytes([0x0F, 0x31]); // RDTSC
        _emit.RotateRight(HostRegister.Rdx, HostRegister.Rdx, 32);
        _emit.Lea(HostRegister.Rdx, HostRegister.Rdx, HostRegister.Rax, 0, 0);
        _emit.Load(HostRegister.Rcx, StateLayout.CounterStart + Called);
        _emit.Lea(HostRegister.Rdx, HostRegister.Rdx, HostRegister.Rcx, 0, 0);

        // A counter that has begun anew is for the clock to see. What RAX and RDX held is not needed: the instruction writes both.
        _emit.Extract(HostRegister.Rcx, HostRegister.Rdx, StateLayout.SignMask + Called);
        long ordinary = _emit.BeginJumpIfZero();
        _emit.Jump(_exitNoted);
        _emit.EndShort(ordinary);
        _emit.Multiply(HostRegister.Rax, HostRegister.Rcx, StateLayout.CounterRate + Called);
        _emit.Load(HostRegister.Rcx, StateLayout.CounterOffset + Called);
        _emit.Lea(HostRegister.Rax, HostRegister.Rax, HostRegister.Rcx, 0, 0);
        _emit.RotateRight(HostRegister.Rdx, HostRegister.Rax, 32);
        _emit.Move32(HostRegister.Rdx, HostRegister.Rdx);
        _emit.Move32(HostRegister.Rax, HostRegister.Rax);
        if (isOrdered)
        {
            _emit.Load(HostRegister.GuestRcx, StateLayout.TscAux + Called);
        }

        _emit.Byte(0xC3);
    }

    /// <remarks>
    /// It goes only where the interpreter has gone before with the same selectors, and where memory still holds the descriptors that were
    /// loaded then: all checks of these come out as they did. Everything is checked before anything of the guest's is changed.
    /// </remarks>
    private void EmitInterruptReturn()
    {
        _toInterpreter.Clear();
        NoteInfoUnless(StateLayout.ReturnForbidden, _exitNoted);
        _emit.Move(HostRegister.Address, HostRegister.GuestRsp);
        LookupSystem(FrameSize, isFlagFree: true);

        // R15 is the frame's host address from here on; what LAHF gives stays until the end.
        _emit.Store(StateLayout.ReturnRax + Called, HostRegister.Rax);
        _emit.Bytes([0x9F, 0x0F, 0x90, 0xC0]); // LAHF; SETO AL
        _emit.Store32(StateLayout.Flags + Called, HostRegister.Rax);
        Test32(StateLayout.RflagsOffset, (int)Rflags.NestedTask);
        LeaveIf(5);
        LoadFrame(HostRegister.Address, 0);
        CheckCanonical();
        CheckFlags();
        _emit.Store(StateLayout.Saved + Called, HostRegister.Distance);
        FindReturnTarget();
        TakeReturn();
        EndInterruptReturn();
    }

    /// <summary>
    /// Looks R14 up for a read with a supervisor's rights, as the processor's own reads of tables have them; leaves the host address in
    /// R15. A miss is mended, and the instruction tried again. Changes RCX.
    /// </summary>
    private void LookupSystem(int size, bool isFlagFree)
    {
        _emit.Extract(HostRegister.Distance, HostRegister.Address, StateLayout.TlbIndexMask + Called);
        _emit.LoadTable(HostRegister.Test, HostRegister.Distance, StateLayout.ReadTags(TlbSet.Supervisor) + Called);
        _emit.Lea(HostRegister.Test, HostRegister.Test, HostRegister.Address, 0, size - 1);
        _emit.Extract(HostRegister.Test, HostRegister.Test, StateLayout.PageMask + Called);
        long miss = _emit.JumpUnlessOneLater();
        long hit = _emit.JumpLater();
        _emit.PatchHere(miss);
        if (!isFlagFree)
        {
            RestoreFlags();
        }

        _emit.Load32(HostRegister.Test, StateLayout.Info + Called);
        _emit.Lea(HostRegister.Test, HostRegister.Test, ExitInfo.Pack(ExitKind.TlbMiss, 0, size) | (int)ExitInfo.ProbeBit);
        _emit.Jump(Exit);
        _emit.PatchHere(hit);
        _emit.LoadTable(HostRegister.Distance, HostRegister.Distance, StateLayout.Distances(TlbSet.Supervisor, false) + Called);
        _emit.Lea(HostRegister.Distance, HostRegister.Distance, HostRegister.Address, 0, 0);
    }

    /// <summary>MOV r64, [R15+offset].</summary>
    private void LoadFrame(int to, int offset)
    {
        _emit.Rex(true, to, 0, HostRegister.Distance);
        _emit.Byte(0x8B);
        _emit.Operand(to, HostRegister.Distance, offset);
    }

    /// <summary>Leaves unless R14 is canonical.</summary>
    private void CheckCanonical()
    {
        _emit.Move(HostRegister.Rcx, HostRegister.Address);
        _emit.Bytes([0x48, 0xC1, 0xE1, 16, 0x48, 0xC1, 0xF9, 16]); // SHL RCX, 16; SAR RCX, 16
        _emit.Bytes([0x4C, 0x39, 0xF1]); // CMP RCX, R14
        LeaveIf(5);
    }

    /// <summary>Leaves where RFLAGS would become something out of the ordinary, or let a waiting event in; notes it.</summary>
    private void CheckFlags()
    {
        LoadFrame(HostRegister.Rcx, 16);
        _emit.Bytes([0xF7, 0xC1]); // TEST ECX, imm32
        _emit.Int32(~ReturnableFlags);
        LeaveIf(5);
        _emit.Store(StateLayout.ReturnFlags + Called, HostRegister.Rcx);
        _emit.Bytes([0xF7, 0xC1]);
        _emit.Int32((int)Rflags.Interrupt);
        long masked = _emit.BeginJumpIf(4);
        _emit.Byte(0x83); // CMP [EventWaits], 0
        _emit.Operand(7, HostRegister.State, StateLayout.EventWaits + Called);
        _emit.Byte(0);
        LeaveIf(5);
        _emit.EndShort(masked);
    }

    /// <summary>Leaves the number of the target in EAX that has the frame's selectors, and whose descriptors still stand in the GDT.</summary>
    private void FindReturnTarget()
    {
        // MOVZX EAX, WORD [R15+8]; MOVZX ECX, WORD [R15+32]; SHL ECX, 16; OR ECX, EAX
        _emit.Bytes([0x41, 0x0F, 0xB7, 0x47, 8, 0x41, 0x0F, 0xB7, 0x4F, 32, 0xC1, 0xE1, 16, 0x09, 0xC1]);
        List<long> found = [];
        for (int target = 0; target < ReturnTarget.Count; target++)
        {
            _emit.MoveImmediate(HostRegister.Rax, target);
            _emit.StateOperation(true, 0x3B, HostRegister.Rcx, StateLayout.Return(target) + Called); // CMP RCX, [selectors]
            long other = _emit.JumpIfLater(5);
            CheckDescriptor(target, 8, 0);
            if (target != ReturnTarget.SupervisorNullStack)
            {
                CheckDescriptor(target, 16, 2);
            }

            found.Add(_emit.JumpLater());
            _emit.PatchHere(other);
        }

        _toInterpreter.Add(_emit.JumpLater());
        foreach (long site in found)
        {
            _emit.PatchHere(site);
        }
    }

    /// <summary>Leaves unless the GDT holds what has been loaded for a selector.</summary>
    /// <param name="descriptor">Where among a target's fields the descriptor stands.</param>
    /// <param name="selector">And the selector.</param>
    private void CheckDescriptor(int target, int descriptor, int selector)
    {
        _emit.Load16(HostRegister.Rcx, StateLayout.Return(target) + selector + Called);
        _emit.Bytes([0x83, 0xE1, 0xF8]); // AND ECX, -8
        _emit.Load(HostRegister.Address, StateLayout.GdtBase + Called);
        _emit.Lea(HostRegister.Address, HostRegister.Address, HostRegister.Rcx, 0, 0);
        LookupSystem(8, isFlagFree: false);
        LoadFrame(HostRegister.Rcx, 0);
        _emit.StateOperation(true, 0x3B, HostRegister.Rcx, StateLayout.Return(target) + descriptor + Called); // CMP RCX, [descriptor]
        LeaveIf(5);
    }

    /// <summary>From here on nothing can keep the return from happening. RIP comes to R14, RSP to its place; the target's number is in EAX.</summary>
    private void TakeReturn()
    {
        _emit.Load(HostRegister.Distance, StateLayout.Saved + Called);
        LoadFrame(HostRegister.Address, 0);
        LoadFrame(HostRegister.GuestRsp, 24);
        _emit.Store32(StateLayout.Returned + Called, HostRegister.Rax);
        _emit.StoreImmediate32(StateLayout.Privilege + Called, (int)PrivilegeChange.Return);
        _emit.Load(HostRegister.Rcx, StateLayout.ReturnFlags + Called);
        _emit.Bytes([0x81, 0xE1]); // AND ECX, imm32
        _emit.Int32(~(Arithmetic | (int)Rflags.Resume));
        _emit.Bytes([0x83, 0xC9, (byte)Rflags.AlwaysOne]); // OR ECX, 2
        _emit.Store32(StateLayout.RflagsOffset + Called, HostRegister.Rcx);
    }

    /// <summary>Goes on at R14, in user or supervisor code.</summary>
    private void EndInterruptReturn()
    {
        _emit.Byte(0x83); // CMP [Returned], User
        _emit.Operand(7, HostRegister.State, StateLayout.Returned + Called);
        _emit.Byte(ReturnTarget.User);
        long supervisor = _emit.JumpIfLater(5);
        LandIn(TlbSet.User);
        _emit.PatchHere(supervisor);
        LandIn(TlbSet.Supervisor);
        foreach (long site in _toInterpreter)
        {
            _emit.PatchHere(site);
        }

        RestoreFlags();
        _emit.Jump(_exitNoted);
    }

    private void LandIn(TlbSet set)
    {
        _emit.Load32(HostRegister.Rax, StateLayout.ReturnFlags + Called);
        _emit.LoadFlagsFromEax();
        _emit.Load(HostRegister.Rax, StateLayout.ReturnRax + Called);
        _emit.HashJump(set, Called);
        long other = LookUpJump(set);
        long found = _emit.Here;

        // A RET for the call of this routine, in place of a jump that would leave its address to the processor's return stack.
        _emit.LoadTable(HostRegister.Test, HostRegister.Distance, StateLayout.JumpTargets(set) + Called);
        _emit.Store(ReturnAddress, HostRegister.Test);
        _emit.Byte(0xC3);
        _emit.PatchHere(other);
        long miss = LookUpSecondJump(set);
        _emit.Jump(found);
        _emit.PatchHere(miss);
        _emit.MoveImmediate(HostRegister.Test, ExitInfo.Pack(ExitKind.Landed, 0));
        _emit.Jump(Exit);
    }

    /// <summary>Compares R14 with an entry of the jump cache, made of what is in R15; gives the jump that is taken where it is another.</summary>
    private long LookUpJump(TlbSet set)
    {
        _emit.Extract(HostRegister.Distance, HostRegister.Distance, StateLayout.JumpMask + Called);
        _emit.LoadTable(HostRegister.Test, HostRegister.Distance, StateLayout.JumpTags(set) + Called);
        _emit.Lea(HostRegister.Test, HostRegister.Test, HostRegister.Address, 0, 0);
        return _emit.JumpUnlessOneLater();
    }

    /// <summary>The same of the other entry that R14 may have. With the mask at 0, which asks for attention, this is entry 0 again.</summary>
    private long LookUpSecondJump(TlbSet set)
    {
        _emit.Lea(HostRegister.Distance, HostRegister.Distance, StateLayout.JumpCount / 2);
        return LookUpJump(set);
    }

    /// <summary>Gives the flags and RAX back to the guest.</summary>
    private void RestoreFlags()
    {
        // ADD AL, 7Fh; SAHF
        _emit.Load32(HostRegister.Rax, StateLayout.Flags + Called);
        _emit.Bytes([0x04, 0x7F, 0x9E]);
        _emit.Load(HostRegister.Rax, StateLayout.ReturnRax + Called);
    }

    private void Test32(int field, int mask)
    {
        _emit.Byte(0xF7);
        _emit.Operand(0, HostRegister.State, field + Called);
        _emit.Int32(mask);
    }

    private void LeaveIf(int condition) => _toInterpreter.Add(_emit.JumpIfLater(condition));
}
