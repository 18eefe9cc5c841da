namespace Tutti.Cpu.Translator;

/// <summary>
/// What the stubs behind a block share. A stub is met seldom, and there is one for nearly every access of the guest's code: so it is
/// no more than a call, and what its routine must know stands as data behind that.
/// </summary>
internal sealed partial class CommonCode
{
    /// <summary>A JMP rel32, back to the fast path.</summary>
    private const int ResumeLength = 5;

    private const int WordLength = 4;

    /// <summary>Bytes from where a stack stub's call comes back to, to where its instruction is tried again.</summary>
    private const int StackRetry = ResumeLength + WordLength + WordLength;

    /// <summary>Bytes from where a site's call comes back to, to where its instruction is tried again.</summary>
    public const int SiteRetry = ResumeLength + WordLength + WordLength + WordLength;

    /// <summary>While a routine runs, its return address lies on the stack: offsets are 8 more.</summary>
    private const int Called = 8;

    /// <summary>There it is.</summary>
    private const int ReturnAddress = StateLayout.Bias;

    private readonly long[] _misses = new long[16];
    private readonly long[] _stackLookups = new long[3 * 6 * 4];
    private readonly long[] _siteLookups = new long[2 * 8];
    private readonly long[] _frameLookups = new long[2];

    /// <summary>Called with an <see cref="ExitInfo"/> in the four bytes behind the call; an exit that is mended goes on behind those.</summary>
    public long ExitInline { get; private set; }

    /// <summary>The same for a TLB miss, with the linear address in a register.</summary>
    public long Miss(int address) => _misses[address];

    /// <summary>
    /// Looks the stack up in the TLB. Behind the call stand a JMP rel32 for a hit, the displacement from RSP, an <see cref="ExitInfo"/>,
    /// and what is to be run after a miss that is mended.
    /// </summary>
    public long StackLookup(TlbSet set, ExitInfo info) => _stackLookups[StackIndex(set, Log2(info.Size), info.IsWrite, info.NeedsAlignment)];

    /// <summary>
    /// Looks up, for a site of user code, the address in R14 in the TLB, keeps its page in the site's record and leaves its distance in R15.
    /// Behind the call stand a JMP rel32 for a hit, the record's place, what the compare adds to the address, an <see cref="ExitInfo"/>, and what is to be run
    /// after a miss that is mended.
    /// </summary>
    /// <param name="alignment">Bytes that the operand must be aligned to; 0 where none.</param>
    public long SiteLookup(bool write, int alignment) => _siteLookups[(write ? 8 : 0) + (alignment == 0 ? 7 : Log2(alignment))];

    /// <summary>The same for a frame: the address in R14 is that of its first byte, and it is good as long as RSP is what it is now. R15 has the host address.</summary>
    public long FrameLookup(bool write) => _frameLookups[write ? 1 : 0];

    /// <summary>Where an access goes on whose site's record does not hold its page: R14 and R15 come from the state, and where it goes on.</summary>
    public long ResumeSite { get; private set; }

    private static int Log2(int size) => System.Numerics.BitOperations.Log2((uint)size);

    private static int StackIndex(TlbSet set, int log2, bool write, bool aligned) => (((int)set * 6) + log2) * 4 + (write ? 2 : 0) + (aligned ? 1 : 0);

    /// <summary>
    /// Looks the linear address in R14 up in the second of the jump cache's entries that it may have, with the first one's index in R15.
    /// Behind the call stand a JMP rel32 for a hit, which leaves the index in R15, and an <see cref="ExitInfo"/>.
    /// </summary>
    public long SecondJump(TlbSet set) => set == TlbSet.User ? _secondUserJump : _secondSupervisorJump;

    private long _secondUserJump;
    private long _secondSupervisorJump;

    /// <summary>
    /// Looks the linear address in R14, in another page, up in the jump cache; leaves where that does not know it, and now and then to have the
    /// jump led straight there. Behind the call stand a jump to what was found, with the index in R15, an <see cref="ExitInfo"/>, the distance to the jump, and
    /// the next one with the same target.
    /// </summary>
    public long FarLink(TlbSet set) => set == TlbSet.User ? _farUserLink : _farSupervisorLink;

    private long _farUserLink;
    private long _farSupervisorLink;

    /// <summary>
    /// The same for a RET that its ring has not helped: behind the call stand the way to what was found (<see cref="Emitter.ReturnTable"/>) and an
    /// <see cref="ExitInfo"/>.
    /// </summary>
    public long Return(TlbSet set) => set == TlbSet.User ? _userReturn : _supervisorReturn;

    private long _userReturn;
    private long _supervisorReturn;

    /// <remarks>It comes back, where a jump from here would do: an address that no RET takes away would mislead the processor about all returns to come.</remarks>
    /// <param name="length">Bytes between the call and its info.</param>
    private void EmitLookUp(TlbSet set, bool links, int length)
    {
        _emit.HashJump(set, Called);
        long other = LookUpJump(set);
        long found = _emit.Here;
        long leaves = 0;
        if (links)
        {
            _emit.Load32(HostRegister.Test, StateLayout.LinkCountdown + Called);
            _emit.Lea(HostRegister.Test, HostRegister.Test, -1);
            _emit.Store32(StateLayout.LinkCountdown + Called, HostRegister.Test);
            leaves = _emit.BeginJumpIfZero();
        }

        _emit.Byte(0xC3);
        _emit.PatchHere(other);
        long miss = LookUpSecondJump(set);
        _emit.Jump(found);
        _emit.PatchHere(miss);
        if (links)
        {
            _emit.EndShort(leaves);
        }

        EmitExitWithInfo(length);
    }

    private void EmitSecondJump(TlbSet set)
    {
        long miss = LookUpSecondJump(set);
        _emit.Byte(0xC3);
        _emit.PatchHere(miss);
        EmitExitWithInfo(ResumeLength);
    }

    private void EmitStubCode()
    {
        _secondUserJump = _emit.Here;
        EmitSecondJump(TlbSet.User);
        _secondSupervisorJump = _emit.Here;
        EmitSecondJump(TlbSet.Supervisor);
        _farUserLink = _emit.Here;
        EmitLookUp(TlbSet.User, links: true, Emitter.JumpTableLength);
        _farSupervisorLink = _emit.Here;
        EmitLookUp(TlbSet.Supervisor, links: true, Emitter.JumpTableLength);
        _userReturn = _emit.Here;
        EmitLookUp(TlbSet.User, links: false, Emitter.ReturnTableLength);
        _supervisorReturn = _emit.Here;
        EmitLookUp(TlbSet.Supervisor, links: false, Emitter.ReturnTableLength);
        ExitInline = _emit.Here;
        EmitExitWithInfo(0);
        for (int register = 0; register < _misses.Length; register++)
        {
            _misses[register] = _emit.Here;
            _emit.Move(HostRegister.Address, register);
            _emit.Jump(ExitInline);
        }

        for (int i = 0; i < _stackLookups.Length; i++)
        {
            _stackLookups[i] = _emit.Here;
            EmitStackLookup((TlbSet)(i / 24), i / 4 % 6, (i & 2) != 0, (i & 1) != 0);
        }

        for (int i = 0; i < _siteLookups.Length; i++)
        {
            _siteLookups[i] = _emit.Here;
            EmitSiteLookup(i >= 8, (i & 7) == 7 ? StateLayout.PageMask : StateLayout.AlignedMask(i & 7), isFrame: false);
        }

        ResumeSite = _emit.Here;
        _emit.Load(HostRegister.Address, StateLayout.TrialAddress);
        _emit.Load(HostRegister.Distance, StateLayout.TrialDistance);
        _emit.StateOperation(false, 0xFF, 4, StateLayout.TrialResume); // JMP [RSP+TrialResume]
        for (int i = 0; i < _frameLookups.Length; i++)
        {
            _frameLookups[i] = _emit.Here;
            EmitSiteLookup(i == 1, StateLayout.PageMask, isFrame: true);
        }
    }

    /// <summary>Leaves with the info that stands a number of bytes behind the caller's call.</summary>
    private void EmitExitWithInfo(int distance)
    {
        _emit.Load(HostRegister.Test, ReturnAddress);
        _emit.Lea(HostRegister.Test, HostRegister.Test, distance + WordLength);
        _emit.Store(ReturnAddress, HostRegister.Test);
        _emit.Bytes([0x8B, 0x49, unchecked((byte)-WordLength)]); // MOV ECX, [RCX-4]
        _emit.Jump(Exit);
    }

    /// <summary>A page that is written becomes the stack's page. R14 is kept over a hit.</summary>
    private void EmitStackLookup(TlbSet set, int log2, bool write, bool aligned)
    {
        _emit.Store(StateLayout.Address + Called, HostRegister.Address);
        LoadInline(HostRegister.Address, ResumeLength);
        _emit.Lea(HostRegister.Address, HostRegister.GuestRsp, HostRegister.Address, 0, 0);
        _emit.Extract(HostRegister.Distance, HostRegister.Address, StateLayout.TlbIndexMask + Called);
        _emit.LoadTable(HostRegister.Test, HostRegister.Distance, StateLayout.Tags(set, write) + Called);

        // As in each lookup: see BlockTranslator.EmitGenericLookup.
        _emit.Lea(HostRegister.Test, HostRegister.Test, HostRegister.Address, 0, aligned ? 1 - 4096 : (1 << log2) - 1);
        _emit.Extract(HostRegister.Test, HostRegister.Test, (aligned ? StateLayout.AlignedMask(log2) : StateLayout.PageMask) + Called);
        long miss = _emit.JumpUnlessOneLater();
        if (write)
        {
            _emit.LoadTable(HostRegister.Test, HostRegister.Distance, StateLayout.WriteTags(set) + Called);
            _emit.Store(StateLayout.StackTag(set) + Called, HostRegister.Test);
        }

        _emit.LoadTable(HostRegister.Distance, HostRegister.Distance, StateLayout.Distances(set, write) + Called);
        if (write)
        {
            _emit.Store(StateLayout.StackDistance(set) + Called, HostRegister.Distance);
        }

        _emit.Load(HostRegister.Address, StateLayout.Address + Called);
        _emit.Byte(0xC3);
        _emit.PatchHere(miss);
        EmitExitWithInfo(StackRetry - WordLength);
    }

    private void EmitSiteLookup(bool write, int mask, bool isFrame)
    {
        // One miss more: of so many in a row that each one counts, the tier is told.
        LoadInline(HostRegister.Distance, ResumeLength);
        LoadAt(HostRegister.Test, HostRegister.Distance, StateLayout.SiteMisses + Called);
        _emit.Lea(HostRegister.Test, HostRegister.Test, -1);
        StoreAt(HostRegister.Distance, StateLayout.SiteMisses + Called, HostRegister.Test);
        long counts = _emit.BeginJumpIfZero();
        long lookup = _emit.JumpLater();
        _emit.EndShort(counts);
        _emit.Store(StateLayout.CountedSite + Called, HostRegister.Distance);
        EmitExitWithInfo(SiteRetry - WordLength);
        _emit.PatchHere(lookup);

        // As in each lookup: see BlockTranslator.EmitGenericLookup.
        _emit.Extract(HostRegister.Distance, HostRegister.Address, StateLayout.TlbIndexMask + Called);
        _emit.LoadTable(HostRegister.Distance, HostRegister.Distance, StateLayout.Tags(TlbSet.User, write) + Called);
        LoadInline(HostRegister.Test, ResumeLength + WordLength);
        _emit.Lea(HostRegister.Test, HostRegister.Test, HostRegister.Distance, 0, 0);
        _emit.Lea(HostRegister.Test, HostRegister.Test, HostRegister.Address, 0, 0);
        _emit.Extract(HostRegister.Test, HostRegister.Test, mask + Called);
        long miss = _emit.JumpUnlessOneLater();
        LoadInline(HostRegister.Test, ResumeLength);
        if (!isFrame)
        {
            StoreAt(HostRegister.Test, StateLayout.Sites + Called, HostRegister.Distance);
        }

        _emit.Extract(HostRegister.Distance, HostRegister.Address, StateLayout.TlbIndexMask + Called);
        _emit.LoadTable(HostRegister.Distance, HostRegister.Distance, StateLayout.Distances(TlbSet.User, write) + Called);
        if (isFrame)
        {
            // 1 - RSP, and where the frame lies.
            _emit.Lea(HostRegister.Distance, HostRegister.Distance, HostRegister.Address, 0, 0);
            _emit.Move(HostRegister.Address, HostRegister.GuestRsp);
            _emit.Not(HostRegister.Address);
            _emit.Lea(HostRegister.Address, HostRegister.Address, 2);
            StoreAt(HostRegister.Test, StateLayout.Sites + Called, HostRegister.Address);
        }

        StoreAt(HostRegister.Test, StateLayout.Sites + 8 + Called, HostRegister.Distance);
        _emit.StoreImmediate32(StateLayout.SitesUsed + Called, 1);
        _emit.Byte(0xC3);
        _emit.PatchHere(miss);
        EmitExitWithInfo(SiteRetry - WordLength);
    }

    /// <summary>MOVSXD of a number that stands a distance behind the caller's call.</summary>
    private void LoadInline(int to, int distance)
    {
        _emit.Load(to, ReturnAddress);
        _emit.Rex(true, to, 0, to);
        _emit.Byte(0x63);
        _emit.Operand(to, to, distance);
    }

    /// <summary>MOV r64, [RSP+index+offset].</summary>
    private void LoadAt(int to, int index, int offset) => _emit.LoadMemory(to, HostRegister.State, index, offset);

    /// <summary>MOV [RSP+index+offset], r64.</summary>
    private void StoreAt(int index, int offset, int from) => _emit.StoreMemory(from, HostRegister.State, index, offset);
}
