using static Tutti.Cpu.Translator.HostRegister;

namespace Tutti.Cpu.Translator.Tests.Emitted;

/// <summary>The checker sees what it is there to see: code that breaks each rule, made by hand.</summary>
public sealed unsafe class EmittedCodeCheckerTests : IDisposable
{
    private const TlbSet Set = TlbSet.User;

    private readonly TranslationCache _cache = new();
    private readonly Emitter _emit = new();

    public void Dispose() => _cache.Dispose();

    public static TheoryData<string, string> BadBytes => new()
    {
        { "06", "is no instruction" },
        { "0F05", "is forbidden" },
        { "0F34", "is forbidden" },
        { "CD80", "is forbidden" },
        { "CC", "is forbidden" },
        { "E410", "is forbidden" },
        { "EE", "is forbidden" },
        { "F4", "is forbidden" },
        { "FA", "is forbidden" },
        { "FB", "is forbidden" },
        { "FD", "is forbidden" },
        { "FC", "is forbidden" },
        { "0F31", "is forbidden" },
        { "0FA2", "is forbidden" },
        { "0F30", "is forbidden" },
        { "0F0B", "is forbidden" },
        { "9C", "is forbidden" },
        { "9D", "is forbidden" },
        { "F3480FAED0", "is forbidden" },
        { "F3480FAED8", "is forbidden" },
        { "0FAE2C24", "is forbidden" },
        { "0FAE1424", "is forbidden" },
        { "0F01D0", "is forbidden" },
        { "50", "the host's stack" },
        { "58", "the host's stack" },
        { "C3", "the host's stack" },
        { "FFD0", "the host's stack" },
        { "FF1C24", "the host's stack" },
        { "FF2C24", "leads who knows where" },
        { "FFE0", "leads who knows where" },
        { "FF2424", "leads who knows where" },
        { "8ED8", "segment or system register" },
        { "8CD8", "segment or system register" },
        { "65488B0424", "by FS or GS" },
        { "64488B03", "by FS or GS" },
        { "4883C408", "writes RSP" },
        { "488D6424F8", "writes RSP" },
        { "4889C4", "writes RSP" },
        { "4894", "writes RSP" },
        { "62F17C48280424", "an encoding that is not copied" },
        { "EB01C3C3", "the host's stack" },
        { "EB04E9000000009090", "no block" },
        { "E905000010", "no block" },
        { "E800000010", "calls what is no exit" },
        { "E201909090", "NOP behind it" },
        { "488B03", "without a lookup" },
        { "488903", "without a lookup" },
        { "4A8B043B", "without a lookup" },
        { "488B0500000000", "no operand of known size" },
        { "488B042500100000", "without a lookup" },
        { "F3A4", "no run" },
        { "A4", "no run" },
        { "48A7", "no run" },
        { "C4E26D9004CB", "without a lookup" },
        { "488B842418FCFFFF", "outside the state" },
        { "488B842400000040", "outside the state" },
        { "48890424", "a field of the state that is not its own" },
        { "488B84CC00080200", "no mask has bounded" },
        { "FFA4CC00080200", "no mask has bounded" },
    };

    [Theory]
    [MemberData(nameof(BadBytes))]
    public void Finds_an_instruction_that_may_not_be_there(string hex, string rule)
    {
        ArgumentNullException.ThrowIfNull(hex);
        AssertFinds(rule, () => _emit.Bytes(Convert.FromHexString(hex)));
    }

    [Fact]
    public void Passes_reads_writes_groups_and_runs_behind_their_lookups()
    {
        Assert.Empty(Check(() =>
        {
            Lookup(size: 8, write: false);
            _emit.LoadMemory(Rax, Rdx, Distance, 0);
            Lookup(size: 8, write: true);
            _emit.StoreMemory(Rax, Rdx, Distance, 0);
            Group();
            _emit.Load(Distance, StateLayout.Slot(2));
            Reach(Rax, 24);
        }));
    }

    [Fact]
    public void Finds_each_way_to_get_round_a_lookup()
    {
        AssertFinds("past what has been looked up", () => { Lookup(4, false); _emit.LoadMemory(Rax, Rdx, Distance, 0); });
        AssertFinds("past what has been looked up", () => { Lookup(8, false); _emit.LoadMemory(Rax, Rdx, Distance, 1); });
        AssertFinds("past what has been looked up", () => { Lookup(8, false); _emit.LoadMemory(Rax, Rdx, Distance, -1); });
        AssertFinds("behind a lookup for reads", () => { Lookup(8, false); _emit.StoreMemory(Rax, Rdx, Distance, 0); });
        AssertFinds("without a lookup", () => { Lookup(8, false); _emit.LoadMemory(Rax, Rbx, Distance, 0); });
        AssertFinds("without a lookup", () => { Lookup(8, false); _emit.Move(Rdx, Rbx); _emit.LoadMemory(Rax, Rdx, Distance, 0); });
        AssertFinds("without a lookup", () => { Lookup(8, false); _emit.Not(Distance); _emit.LoadMemory(Rax, Rdx, Distance, 0); });
        AssertFinds("without a lookup", () => { Lookup(8, false, wrongDistance: true); _emit.LoadMemory(Rax, Rdx, Distance, 0); });
        AssertFinds("without a lookup", () => { Lookup(8, false, compares: false); _emit.LoadMemory(Rax, Rdx, Distance, 0); });
        AssertFinds("without a lookup", () => { Lookup(8, false, mask: StateLayout.SignMask); _emit.LoadMemory(Rax, Rdx, Distance, 0); });
        AssertFinds("without a lookup", () => { Lookup(5000, false); _emit.LoadMemory(Rax, Rdx, Distance, 0); });
        AssertFinds("without a lookup", () =>
        {
            // A way that skips the lookup meets the one that does not.
            long over = _emit.BeginJumpIf(4);
            Lookup(8, false);
            _emit.EndShort(over);
            _emit.LoadMemory(Rax, Rdx, Distance, 0);
        });
        AssertFinds("a table that is not the block's", () => Lookup(8, false, tags: StateLayout.ReadTags(TlbSet.Supervisor)));
    }

    [Fact]
    public void Finds_slots_that_do_not_hold_what_a_group_has_looked_up()
    {
        AssertFinds("no host address", () => _emit.Store(StateLayout.Slot(2), Rax));
        AssertFinds("without a lookup", () => { Group(); _emit.Load(Distance, StateLayout.Slot(3)); Reach(Rax, 0); });
        AssertFinds("past what has been looked up", () => { Group(); _emit.Load(Distance, StateLayout.Slot(2)); Reach(Rax, 25); });
        AssertFinds("not its own", () => { Lookup(8, true); _emit.Store(StateLayout.StackDistance(Set), Distance); });
        AssertFinds("not its own", () => _emit.Store(StateLayout.WriteTags(Set), Rax));
        AssertFinds("not its own", () => _emit.Store(StateLayout.AlignedMask(3), Rax));
        AssertFinds("not its own", () => _emit.Store(StateLayout.PageMask, Rax));
        AssertFinds("not its own", () => _emit.Store(StateLayout.TlbIndexMask, Rax));
    }

    [Fact]
    public void Passes_sites_of_one_access_and_of_a_group()
    {
        Assert.Empty(Check(() =>
        {
            Site(3, StateLayout.AlignedMask(3), 16);
            _emit.LoadMemory(Rax, Rdx, Distance, 16);
            GroupSite(4, 24);
            _emit.Lea(Distance, Distance, Rdx, 0, 8);
            _emit.Store(StateLayout.Slot(2), Distance);
            Reach(Rax, 16);
            Site(StateLayout.SiteCount, StateLayout.AlignedMask(3), 0);
            _emit.StoreMemory(Rax, Rdx, Distance, 0);
        }));
    }

    [Fact]
    public void Finds_each_way_to_get_round_the_compare_of_a_site()
    {
        AssertFinds("writes behind a lookup for reads", () => { Site(3, StateLayout.AlignedMask(3), 0); _emit.StoreMemory(Rax, Rdx, Distance, 0); });
        AssertFinds("past what has been looked up", () => { Site(3, StateLayout.AlignedMask(2), 0); _emit.LoadMemory(Rax, Rdx, Distance, 0); });
        AssertFinds("past what has been looked up", () => { Site(3, StateLayout.AlignedMask(3), 0); _emit.LoadMemory(Rax, Rdx, Distance, 8); });
        AssertFinds("past what has been looked up", () => { Site(3, StateLayout.PageMask, 0); _emit.LoadMemory(Rax, Rdx, Distance, 0); });
        AssertFinds("without a lookup", () => { Site(3, StateLayout.AlignedMask(3), 0, distanceOf: 4); _emit.LoadMemory(Rax, Rdx, Distance, 0); });
        AssertFinds("without a lookup", () => { Site(3, StateLayout.AlignedMask(3), 0, compares: false); _emit.LoadMemory(Rax, Rdx, Distance, 0); });
        AssertFinds("without a lookup", () => { Site(3, StateLayout.AlignedMask(3), 0); _emit.LoadMemory(Rax, Rbx, Distance, 0); });
        AssertFinds("without a lookup", () => { GroupSite(4, 24, added: -1); _emit.Lea(Distance, Distance, Rdx, 0, 8); Reach(Rax, 0); });
        AssertFinds("without a lookup", () => { GroupSite(4, 24, added: -1, scale: 0); _emit.Lea(Distance, Distance, Rdx, 0, 8); Reach(Rax, 0); });
        AssertFinds("without a lookup", () => { GroupSite(4, 24, isLastFirst: true); _emit.Lea(Distance, Distance, Rdx, 0, 8); Reach(Rax, 0); });
        AssertFinds("without a lookup", () => { GroupSite(4, 5000); _emit.Lea(Distance, Distance, Rdx, 0, 8); Reach(Rax, 0); });
        AssertFinds("past what has been looked up", () => { GroupSite(4, 24); _emit.Lea(Distance, Distance, Rdx, 0, 8); Reach(Rax, 17); });
        AssertFinds("not its own", () => _emit.Store(StateLayout.Sites, Rax));
        AssertFinds("not its own", () => _emit.Store(StateLayout.Sites + 8, Rax));
    }

    [Fact]
    public void Finds_records_that_are_filled_with_what_is_not_for_them()
    {
        AssertFinds("not for it", () => SlowSite(write: true, record: 16, added: 7, info: ExitInfo.Pack(ExitKind.TlbMiss, 0, 8, true)));
        AssertFinds("not for it", () => SlowSite(write: false, record: 8, added: 7, info: ExitInfo.Pack(ExitKind.TlbMiss, 0, 8)));
        AssertFinds("not for it", () => SlowSite(write: false, record: StateLayout.SiteCount * 16, added: 7, info: ExitInfo.Pack(ExitKind.TlbMiss, 0, 8)));
        AssertFinds("info says", () => SlowSite(write: false, record: 16, added: 0, info: ExitInfo.Pack(ExitKind.TlbMiss, 0, 8)));
        AssertFinds("info says", () => SlowSite(write: false, record: 16, added: 7, info: ExitInfo.Pack(ExitKind.TlbMiss, 0, 8, true)));
    }

    [Fact]
    public void Finds_what_reaches_more_than_a_slow_way_of_a_site_has_looked_up()
    {
        Assert.Empty(Check(() => { Slow(Rdx, write: false); _emit.LoadMemory(Rax, Rdx, Distance, 0); }));
        Assert.Empty(Check(() => { Slow(Rdx, write: true); _emit.StoreMemory(Rax, Rdx, Distance, 0); }));
        AssertFinds("past what has been looked up", () => { Slow(Rdx, write: false); _emit.LoadMemory(Rax, Rdx, Distance, 1); });
        AssertFinds("behind a lookup for reads", () => { Slow(Rdx, write: false); _emit.StoreMemory(Rax, Rdx, Distance, 0); });
        AssertFinds("without a lookup", () => { Slow(Rdx, write: false); _emit.LoadMemory(Rax, Rbx, Distance, 0); });

        // The record may be empty, or another page's: the access may be on trial.
        AssertFinds("without a lookup", () =>
        {
            Slow(Rdx, write: false);
            _emit.Load(Distance, StateLayout.Sites + 24);
            _emit.LoadMemory(Rax, Rdx, Distance, 0);
        });
    }

    /// <summary>The slow way of a site for 8 bytes at a register's address; where it is to be tried again the code leaves.</summary>
    private void Slow(int register, bool write)
    {
        _emit.Move(Address, register);
        _emit.Call(_cache.Common.SiteLookup(write, 0));
        long resume = _emit.JumpLater();
        _emit.Int32(write ? StateLayout.SiteCount * StateLayout.SiteSize : StateLayout.SiteSize);
        _emit.Int32(7);
        _emit.Int32(ExitInfo.Pack(ExitKind.TlbMiss, 0, 8, write) | (int)ExitInfo.SiteBit);
        EndWithExit();
        _emit.PatchHere(resume);
    }

    [Fact]
    public void Finds_bit_offsets_runs_and_jumps_that_nothing_bounds()
    {
        AssertFinds("bit offset", () => { Lookup(8, true); _emit.Bytes([0x4A, 0x0F, 0xAB, 0x04, 0x3A]); });
        AssertFinds("no run", () =>
        {
            Lookup(8, true);
            _emit.Lea(7, Rdx, Distance, 0, 0);
            _emit.Move(Rcx, GuestRcx);
            _emit.Bytes([0xF3, 0xAA]);
        });
        AssertFinds("bytes that have not been looked up", () =>
        {
            _emit.Extract(Rcx, GuestRcx, StateLayout.LargeCountMask);
            long few = _emit.BeginJumpIfZero();
            EndWithExit();
            _emit.EndShort(few);
            _emit.Move(Rcx, GuestRcx);
            _emit.Bytes([0xF3, 0xAA]);
        });
        AssertFinds("has not been compared", () =>
        {
            _emit.Extract(Distance, Address, StateLayout.JumpMask);
            _emit.JumpTable(Distance, StateLayout.JumpTargets(Set));
        });
        AssertFinds("info says", () =>
        {
            _emit.Call(_cache.Common.StackLookup(Set, new ExitInfo((uint)ExitInfo.Pack(ExitKind.TlbMiss, 0, 8))));
            long resume = _emit.JumpLater();
            _emit.PatchHere(resume);
            _emit.Int32(0);
            _emit.Int32(ExitInfo.Pack(ExitKind.TlbMiss, 0, 16));
        });
    }

    [Fact]
    public void Passes_calls_and_returns_by_the_ring() => Assert.Empty(Check(() =>
    {
        Remember();
        CallOwn(() => _emit.PopTable(Distance, StateLayout.RingLandings(Set) + 8));
        _emit.Extract(Distance, GuestRsp, StateLayout.RingIndexMask);
        long landing = _emit.LeaLater(Test);
        _emit.StoreTable(Distance, StateLayout.RingLandings(Set) + 8, Test);
        CallOwn(() => _emit.Lea(State, State, 8 + StateLayout.Bias), landing);
        long over = _emit.JumpIfLater(4);
        Return();
        _emit.PatchHere(over);
    }));

    [Fact]
    public void Finds_each_way_to_get_off_the_ring()
    {
        const string NotForIt = "the return ring";
        const string Stack = "the host's stack";
        const int CallWithInfo = 9 + Emitter.ReturnTableLength;
        AssertFinds(NotForIt, () => Remember(mask: StateLayout.RingMask));
        AssertFinds(NotForIt, () => Remember(tags: StateLayout.RingTags(Set)));
        AssertFinds(NotForIt, () => Remember(tags: StateLayout.RingTags(TlbSet.Supervisor) + 8));
        AssertFinds("more than read", () => Remember(mask: StateLayout.JumpMask));
        AssertFinds(NotForIt, () => { Remember(); _emit.StoreTable(Distance, StateLayout.RingLandings(Set) + 8, Rax); });
        AssertFinds(NotForIt, () => { Remember(); long at = _emit.LeaLater(Test); _emit.PatchHere(at); _emit.StoreTable(Distance, StateLayout.RingLandings(Set) + 8, Test); });
        AssertFinds(NotForIt, () => { Remember(); CallOwn(() => _emit.PopTable(Distance, StateLayout.RingLandings(Set))); });
        AssertFinds(NotForIt, () => { Remember(); CallOwn(() => _emit.PopTable(Distance, StateLayout.RingTags(Set) + 8)); });
        AssertFinds(NotForIt, () => CallOwn(() => _emit.PopTable(Distance, StateLayout.RingLandings(Set) + 8)));
        AssertFinds(Stack, () => CallOwn(() => _emit.Move(Rax, Rdx)));
        AssertFinds(Stack, () => { Remember(); CallOwn(() => { _emit.Move(Rax, Rdx); _emit.PopTable(Distance, StateLayout.RingLandings(Set) + 8); }); });
        AssertFinds("writes RSP", () => CallOwn(() => _emit.Lea(State, State, 16 + StateLayout.Bias)));
        AssertFinds(Stack, () => { Remember(); _emit.PopTable(Distance, StateLayout.RingLandings(Set) + 8); });
        AssertFinds(Stack, () => { long to = _emit.JumpIfLater(4); CallOwn(() => { _emit.PatchHere(to); _emit.Lea(State, State, 8 + StateLayout.Bias); }); });
        AssertFinds(Stack, () => { long to = _emit.CallLater(); _emit.Move(Rax, Rdx); _emit.PatchHere(to); _emit.Lea(State, State, 8 + StateLayout.Bias); });
        AssertFinds(Stack, () => _emit.Byte(0xC3));
        AssertFinds(Stack, () => { long to = _emit.JumpIfLater(4); Return(); _emit.Patch(to, _emit.Here - CallWithInfo - 1); });
        AssertFinds(NotForIt, () => Return(compares: false));
        AssertFinds(NotForIt, () => Return(added: 1));
        AssertFinds(NotForIt, () => Return(tags: StateLayout.RingTags(TlbSet.Supervisor)));
        AssertFinds(NotForIt, () => Return(landings: StateLayout.RingLandings(TlbSet.Supervisor)));
        AssertFinds("another kind", () => Return(info: ExitInfo.Pack(ExitKind.Attention, 0)));
        AssertFinds("another kind", () => Return(set: TlbSet.Supervisor));
        AssertFinds(NotForIt, () => Return(found: StateLayout.JumpTags(Set)));
        AssertFinds(NotForIt, () => Return(found: StateLayout.JumpTargets(TlbSet.Supervisor)));
    }

    /// <summary>What CALL writes down, with the index left in R15.</summary>
    private void Remember(int mask = 0, int tags = 0)
    {
        _emit.Extract(Distance, GuestRsp, mask == 0 ? StateLayout.RingIndexMask : mask);
        _emit.StoreTable(Distance, tags == 0 ? StateLayout.RingTags(Set) + 8 : tags, Rax);
    }

    /// <summary>A call of the block's own code; whoever comes back leaves.</summary>
    private void CallOwn(Action takesBack, long landing = 0)
    {
        long call = _emit.CallLater();
        if (landing != 0)
        {
            _emit.PatchHere(landing);
        }

        long leaves = _emit.JumpLater();
        _emit.PatchHere(call);
        takesBack();
        long over = _emit.JumpLater();
        _emit.PatchHere(leaves);
        EndWithExit();
        _emit.PatchHere(over);
    }

    private void Return(bool compares = true, int added = 2, int tags = 0, int landings = 0, int info = 0, TlbSet set = Set, int found = 0)
    {
        _emit.Extract(Distance, GuestRsp, StateLayout.RingMask);
        _emit.LoadTable(Test, Distance, tags == 0 ? StateLayout.RingTags(Set) : tags);
        _emit.Lea(Test, Test, Address, 0, added);
        long miss = compares ? _emit.JumpUnlessOneLater() : _emit.JumpIfLater(4);
        _emit.ReturnTable(Distance, landings == 0 ? StateLayout.RingLandings(Set) : landings);
        _emit.PatchHere(miss);
        _emit.Call(_cache.Common.Return(set));
        _emit.ReturnTable(Distance, found == 0 ? StateLayout.JumpTargets(Set) : found);
        _emit.Int32(info == 0 ? ExitInfo.Pack(ExitKind.Jump, 0) | (8 << 16) : info);
    }

    [Fact]
    public void Passes_frames()
    {
        Assert.Empty(Check(() =>
        {
            Frame(3, 32, () =>
            {
                _emit.Store(StateLayout.Slot(2), Distance);
                Reach(Rax, 24);
                Write(Rax, 0);
            });
            Frame(4, 16, () => Reach(Rax, 8), write: false);
        }));
    }

    [Fact]
    public void Finds_each_way_to_get_round_the_compare_of_a_frame()
    {
        AssertFinds("past what has been looked up", () => Frame(3, 32, () => Reach(Rax, 25)));
        AssertFinds("past what has been looked up", () => Frame(3, 32, () => Reach(Rax, -1)));
        AssertFinds("writes behind a lookup for reads", () => Frame(3, 32, () => Write(Rax, 0), write: false));
        AssertFinds("without a lookup", () => Frame(3, 32, () => Reach(Rax, 0), compared: Rdx));
        AssertFinds("without a lookup", () => Frame(3, 32, () => Reach(Rax, 0), compared: -1));
        AssertFinds("without a lookup", () => Frame(3, 32, () => Reach(Rax, 0), read: 4));
        AssertFinds("not for it", () => Frame(-1, 32, () => Reach(Rax, 0)));
        AssertFinds("not for it", () => Frame(StateLayout.SiteCount, 32, () => Reach(Rax, 0)));
        AssertFinds("not for it", () => { Frame(3, 32, () => Reach(Rax, 0)); Frame(3, 16, () => Reach(Rax, 0)); });
        AssertFinds("not the stack's", () => Frame(3, 32, () => Reach(Rax, 0), from: Rdx));
        AssertFinds("info says", () => Frame(3, 32, () => Reach(Rax, 0), said: 8));
    }

    /// <summary>A frame of some bytes from RSP, and what is done with it, its host address in R15.</summary>
    /// <param name="compared">The register that is compared, -1 for none.</param>
    /// <param name="read">Whose address is taken; -1 for this one's.</param>
    /// <param name="from">The register that the slow way looks up.</param>
    /// <param name="said">Bytes that the exit speaks of; 0 for all.</param>
    private void Frame(int frame, int size, Action use, bool write = true, int compared = GuestRsp, int read = -1, int from = GuestRsp, int said = 0)
    {
        int record = ((2 * StateLayout.SiteCount) + frame) * StateLayout.SiteSize;
        int taken = read < 0 ? record : ((2 * StateLayout.SiteCount) + read) * StateLayout.SiteSize;
        _emit.Load(Test, StateLayout.Sites + record);
        _emit.Lea(Test, Test, compared < 0 ? Rdx : compared, 0, 0);
        long miss = compared < 0 ? _emit.BeginJumpIf(4) : _emit.JumpUnlessOneLater();
        _emit.Load(Distance, StateLayout.Sites + taken + 8);
        long hit = _emit.Here;
        use();
        long over = _emit.JumpLater();
        if (compared < 0)
        {
            _emit.EndShort(miss);
        }
        else
        {
            _emit.PatchHere(miss);
        }

        _emit.Lea(Address, from, 0);
        _emit.Call(_cache.Common.FrameLookup(write));
        long resume = _emit.JumpLater();
        _emit.Patch(resume, hit);
        _emit.Int32(record);
        _emit.Int32(size - 1);
        _emit.Int32(ExitInfo.Pack(ExitKind.TlbMiss, 0, said == 0 ? size : said, write) | (int)(ExitInfo.SiteBit | ExitInfo.GroupBit));
        _emit.PatchHere(over);
    }

    /// <summary>MOV [R15+displacement], r64.</summary>
    private void Write(int from, int displacement) => _emit.StoreMemory(from, Distance, -1, displacement);

    /// <summary>The compare of [RDX + added] with a site's page; leaves the distance in R15.</summary>
    private void Site(int site, int mask, int added, int distanceOf = -1, bool compares = true)
    {
        int record = StateLayout.Sites + (site * StateLayout.SiteSize);
        _emit.Load(Test, record);
        _emit.Lea(Test, Test, Rdx, 0, added + (mask == StateLayout.PageMask ? 0 : 1 - 4096));
        _emit.Extract(Test, Test, mask);
        EndCompare(compares);
        _emit.Load(Distance, (distanceOf < 0 ? record : StateLayout.Sites + (distanceOf * StateLayout.SiteSize)) + 8);
    }

    /// <summary>The same for both ends of a group, in R15 the last one's comparison, weighed against the first one's.</summary>
    private void GroupSite(int site, int size, int added = -2, int scale = 1, bool isLastFirst = false)
    {
        int record = StateLayout.Sites + (site * StateLayout.SiteSize);
        _emit.Load(Test, record);
        _emit.Lea(Test, Test, Rdx, 0, 8);
        _emit.Lea(Distance, Test, size - 1);
        _emit.Extract(isLastFirst ? Distance : Test, isLastFirst ? Distance : Test, StateLayout.PageMask);
        _emit.Extract(isLastFirst ? Test : Distance, isLastFirst ? Test : Distance, StateLayout.PageMask);
        _emit.Lea(Test, Distance, Test, scale, added);
        EndCompare(true);
        _emit.Load(Distance, record + 8);
    }

    private void EndCompare(bool compares)
    {
        if (!compares)
        {
            return;
        }

        long miss = _emit.JumpUnlessOneLater();
        long over = _emit.JumpLater();
        _emit.PatchHere(miss);
        EndWithExit();
        _emit.PatchHere(over);
    }

    private void SlowSite(bool write, int record, int added, int info)
    {
        _emit.Call(_cache.Common.SiteLookup(write, 0));
        long resume = _emit.JumpLater();
        _emit.PatchHere(resume);
        _emit.Int32(record);
        _emit.Int32(added);
        _emit.Int32(info | (int)ExitInfo.SiteBit);
    }

    private void AssertFinds(string rule, Action code, TlbSet set = Set)
    {
        IReadOnlyCollection<string> violations = Check(code, set);
        Assert.True(violations.Any(violation => violation.Contains(rule, StringComparison.Ordinal)), $"Expected: {rule}. Found: {string.Join("; ", violations)}");
    }

    /// <summary>Checks a block of this code and an exit.</summary>
    private IReadOnlyCollection<string> Check(Action code, TlbSet set = Set)
    {
        byte[] bytes = new byte[1024];

        // SAFETY: no code here is longer; it never runs.
        fixed (byte* write = bytes)
        {
            long start = _cache.End + 64;
            _emit.Begin(write, start);
            code();
            EndWithExit();
            int length = (int)(_emit.Here - start);
            return EmittedCodeChecker.Check(new EmittedBlock(bytes[..length], (ulong)start, (ulong)start, set, _cache.Common, _ => false));
        }
    }

    private void EndWithExit()
    {
        _emit.MoveImmediate(Test, ExitInfo.Pack(ExitKind.Interpret, 0));
        _emit.Call(_cache.Common.Exit);
    }

    /// <summary>The lookup of [RDX]; its miss leaves right there.</summary>
    private void Lookup(int size, bool write, bool wrongDistance = false, bool compares = true, int mask = StateLayout.PageMask, int tags = 0)
    {
        _emit.Extract(Distance, Rdx, StateLayout.TlbIndexMask);
        _emit.LoadTable(Test, Distance, tags != 0 ? tags : StateLayout.Tags(Set, write));
        _emit.Lea(Test, Test, Rdx, 0, size - 1);
        _emit.Extract(Test, Test, mask);
        if (compares)
        {
            long miss = _emit.JumpUnlessOneLater();
            long hit = _emit.JumpLater();
            _emit.PatchHere(miss);
            EndWithExit();
            _emit.PatchHere(hit);
        }

        _emit.LoadTable(Distance, Distance, StateLayout.Distances(Set, write ^ wrongDistance));
    }

    /// <summary>32 bytes from [RDX], kept in a slot.</summary>
    private void Group()
    {
        Lookup(32, false);
        _emit.Lea(Distance, Distance, Rdx, 0, 0);
        _emit.Store(StateLayout.Slot(2), Distance);
    }

    /// <summary>MOV r64, [R15+displacement].</summary>
    private void Reach(int to, int displacement)
    {
        _emit.Rex(true, to, 0, Distance);
        _emit.Byte(0x8B);
        _emit.Operand(to, Distance, displacement);
    }
}
