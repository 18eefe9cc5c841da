using System.Numerics;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using Tutti.Cpu.Interpreter;
using Tutti.Host;

namespace Tutti.Cpu.Translator;

/// <summary>
/// Upkeep of the tables that translated code looks into: TLB, the stack's page, jump caches. They lie behind the vCPU's
/// state and hold a part of what the interpreter's TLB holds.
/// </summary>
/// <remarks>SAFETY: <see cref="StateLayout"/> says where the tables lie and the vCPU has allocated them; indexes are masked to their size.
/// Each list has room for all slots, and a slot that is marked as in a list is not added to it.</remarks>
internal sealed unsafe class TranslatorTables : IDisposable
{
    private const ulong PageSize = 4096;
    private const int SetCount = 3;

    /// <summary>Entries of all tables for reads and writes.</summary>
    private const int SlotCount = SetCount * 2 * StateLayout.TlbCount;

    private const byte InLocalList = 1;
    private const byte InGlobalList = 2;
    private const byte InKeyedList = 4;
    private const byte Global = 0x40;

    /// <summary>In an entry's size: its rights depend on PKRU; the key is in its mark, from bit 4 on.</summary>
    private const byte Keyed = 0x20;

    private const int KeyShift = 4;
    private const byte SizeMask = 0x1F;
    private const ulong TlbIndexMask = (StateLayout.TlbCount - 1UL) << 12;

    private const ulong JumpIndexMask = StateLayout.JumpCount - 1UL;

    /// <summary>Of RSP, which CALL and RET move by 8.</summary>
    private const ulong RingIndexMask = (StateLayout.RingCount - 1UL) << 3;

    /// <summary>
    /// The tag of an address that is not canonical, for the stack's page when there is none. An access there would fault on a
    /// processor; here it reaches a page of its own.
    /// </summary>
    private const ulong NoStack = 0x5A37_C1E6_94D2_B000;

    /// <summary>In the tags of empty jump-cache entries: an address that is not canonical; the one behind it has an index of the other parity.</summary>
    private const ulong NoJump = 0x5A37_C1E6_0000_0000;

    private readonly byte* _base;

    /// <summary>What follows: a guest uses a small part of it, and pages that nobody has touched cost nothing.</summary>
    private readonly HostMapping _lists = new(SlotCount * ((2 * sizeof(int)) + 2));

    /// <summary>The entries in use, by set and index, each once: of pages that a change of the address space drops, and of global ones.</summary>
    private readonly int* _local;

    private readonly int* _global;

    /// <summary>The lists that an entry stands in, and its protection key.</summary>
    private readonly byte* _marks;

    /// <summary><see cref="Global"/>, <see cref="Keyed"/> and log2 of its page's size.</summary>
    private readonly byte* _sizes;

    private readonly WriteEntries _writes = new(SetCount * StateLayout.TlbCount);

    /// <summary>Entries of pages that have, or have had, another protection key than 0.</summary>
    private readonly List<int> _keyed = [];

    /// <summary>Large pages with entries since the last flush.</summary>
    private readonly LargePages _largePages = new();

    private readonly nint _nowhere;
    private readonly ulong _leave;
    private readonly ulong _land;
    private bool _isSecondNext;
    private int _localCount;
    private int _globalCount;

    /// <param name="hot">The state that the host's RSP points to.</param>
    /// <param name="code">Says which access sites there are.</param>
    /// <param name="nowhere">A page that accesses without a stack page reach.</param>
    /// <param name="leave">Code that an empty entry of the jump cache leads to.</param>
    /// <param name="land">Code that an empty entry of a return ring leads to.</param>
    public TranslatorTables(HotState* hot, HotCode code, nint nowhere, long leave, long land)
    {
        _base = (byte*)hot;
        _nowhere = nowhere;
        _leave = (ulong)leave;
        _land = (ulong)land;
        _local = (int*)_lists.Address;
        _global = _local + SlotCount;
        _marks = (byte*)(_global + SlotCount);
        _sizes = _marks + SlotCount;
        hot->TlbIndexMask = TlbIndexMask;
        var exit = (ExitState*)(_base + StateLayout.Exit);
        exit->HostMxcsr = 0x1F80;
        exit->Masks[0] = ~0x1FFFUL;
        exit->Masks[1] = 1UL << 63;
        exit->Masks[2] = ~1UL;
        exit->Masks[3] = 31;
        exit->Masks[4] = 63;
        exit->Masks[5] = ~0UL << 47;
        exit->RingIndexMask = RingIndexMask;
        ArmLookups();
        for (int slot = 0; slot < SlotCount; slot++)
        {
            Empty(slot);
        }

        Sites = new AccessSites(hot, code, NoStack, (ulong)nowhere + NoStack - PageSize, (ulong)nowhere);
        exit->CountedSite = -1;
        DropPages();
        foreach (TlbSet set in (ReadOnlySpan<TlbSet>)[TlbSet.User, TlbSet.Supervisor])
        {
            ClearJumps(set);
            ClearRing(set);
            new Span<ulong>(Table(StateLayout.JumpTargets(set)), StateLayout.JumpCount).Fill((ulong)leave);
        }
    }

    public AccessSites Sites { get; }

    /// <summary>Nobody may use the tables any more.</summary>
    public void Dispose()
    {
        _lists.Dispose();
        _writes.Dispose();
    }

    /// <summary>Whether an access of this kind would hit.</summary>
    public bool Holds(TlbSet set, ulong linear, bool write) =>
        (linear + Table(StateLayout.Tags(set, write))[IndexOf(linear)]) >> 12 == 1;

    /// <summary>From the linear address of a page that is held to the host's.</summary>
    public ulong DistanceOf(TlbSet set, ulong linear, bool write) => Table(StateLayout.Distances(set, write))[IndexOf(linear)];

    /// <summary>Takes over an entry of the interpreter's TLB for reads or for writes.</summary>
    public void Fill(TlbSet set, TlbEntry* entry, bool write)
    {
        int index = IndexOf(entry->ReadTag);
        int slot = (((int)set * 2) + (write ? 1 : 0)) * StateLayout.TlbCount + index;
        ulong inPage = entry->PageMask & TlbEntry.InPage;
        byte global = (entry->PageMask & TlbEntry.GlobalMark) != 0 ? Global : (byte)0;
        byte listed = (byte)(_marks[slot] & (InLocalList | InGlobalList | InKeyedList));
        if (global != 0 && (listed & InGlobalList) == 0)
        {
            _global[_globalCount++] = slot;
            listed |= InGlobalList;
        }
        else if (global == 0 && (listed & InLocalList) == 0)
        {
            _local[_localCount++] = slot;
            listed |= InLocalList;
        }

        uint key = entry->KeyBit;
        if (key > 1 && (listed & InKeyedList) == 0)
        {
            _keyed.Add(slot);
            listed |= InKeyedList;
        }

        if (write)
        {
            _writes.Set(((int)set * StateLayout.TlbCount) + index, entry->ReadTag + (ulong)entry->Addend);
        }

        _marks[slot] = (byte)(listed | (key != 0 ? BitOperations.Log2(key) << KeyShift : 0));
        _sizes[slot] = (byte)(global | (key != 0 ? Keyed : 0) | BitOperations.PopCount(inPage));
        if (inPage > 0xFFF)
        {
            _largePages.Add(entry->ReadTag, inPage);
        }

        Table(StateLayout.Tags(set, write))[index] = PageSize - entry->ReadTag;
        Table(StateLayout.Distances(set, write))[index] = (ulong)entry->Addend;
    }

    /// <summary>
    /// The same for the other kind of access, where that may reach the page and no other page's entry stands there: most pages that are written
    /// are read too, and that would be one miss more.
    /// </summary>
    public void FillOther(TlbSet set, TlbEntry* entry, bool write)
    {
        int index = IndexOf(entry->ReadTag);
        if ((write ? entry->WriteTag : entry->ReadTag) == entry->ReadTag && Table(StateLayout.Tags(set, write))[index] == NoTag(index))
        {
            Fill(set, entry, write);
        }
    }

    /// <summary>Drops all pages, or all that are not global.</summary>
    public void Flush(bool keepsGlobal)
    {
        DropPages();
        for (int i = 0; i < _localCount; i++)
        {
            // One that has become a global page's since is in the other list too.
            int slot = _local[i];
            _marks[slot] &= unchecked((byte)~InLocalList);
            if (!keepsGlobal || (_sizes[slot] & Global) == 0)
            {
                Empty(slot);
            }
        }

        _localCount = 0;
        if (keepsGlobal)
        {
            return;
        }

        for (int i = 0; i < _globalCount; i++)
        {
            _marks[_global[i]] = 0;
            Empty(_global[i]);
        }

        foreach (int slot in _keyed)
        {
            _marks[slot] &= unchecked((byte)~InKeyedList);
        }

        _keyed.Clear();

        _globalCount = 0;
        _largePages.Clear();
    }

    /// <summary>Drops one linear page.</summary>
    public void Invalidate(ulong linear)
    {
        DropPages();
        if (!IsInLargePage(linear))
        {
            // The entry stays in the list, empty: the next flush takes it out.
            int index = IndexOf(linear);
            for (int table = 0; table < SetCount * 2; table++)
            {
                if (Holds(SetOf(table), linear, IsWrite(table)))
                {
                    int found = (table * StateLayout.TlbCount) + index;
                    Empty(found);
                }
            }

            return;
        }

        InvalidateIn(new ReadOnlySpan<int>(_local, _localCount), linear);
        InvalidateIn(new ReadOnlySpan<int>(_global, _globalCount), linear);
    }

    /// <summary>Drops the pages whose rights depend on one of these protection keys.</summary>
    public void DropKeys(uint keys)
    {
        DropPages();
        if ((keys & 1) == 0)
        {
            DropKeysIn(CollectionsMarshal.AsSpan(_keyed), keys);
            return;
        }

        DropKeysIn(new ReadOnlySpan<int>(_local, _localCount), keys);
        DropKeysIn(new ReadOnlySpan<int>(_global, _globalCount), keys);
    }

    /// <summary>Takes the right to write away from every alias of a page, given by its host address.</summary>
    public void DropWriteTags(ulong host)
    {
        DropPages();
        for (int entry = _writes.First(host); entry >= 0; entry = _writes.Next(entry))
        {
            int set = entry / StateLayout.TlbCount;
            int slot = (((set * 2) + 1) * StateLayout.TlbCount) + (entry & (StateLayout.TlbCount - 1));
            if (PageOf(slot) + Table(StateLayout.Distances((TlbSet)set, true))[entry & (StateLayout.TlbCount - 1)] == host)
            {
                Empty(slot);
            }
        }
    }

    /// <summary>Remembers where the code at a linear address runs.</summary>
    public void SetJump(TlbSet set, ulong linear, long farEntry)
    {
        if (set == TlbSet.SupervisorOpen)
        {
            return;
        }

        int index = ChooseJump(set, linear);
        Table(StateLayout.JumpTags(set))[index] = 1UL - linear;
        Table(StateLayout.JumpTargets(set))[index] = (ulong)farEntry;
    }

    /// <summary>Where jumps to a linear address lead, or 0.</summary>
    public long FindJump(TlbSet set, ulong linear)
    {
        if (set == TlbSet.SupervisorOpen)
        {
            return 0;
        }

        ulong* tags = Table(StateLayout.JumpTags(set));
        int index = JumpIndexOf(set, linear);
        if (tags[index] != 1UL - linear)
        {
            index = SecondIndexOf(index);
            if (tags[index] != 1UL - linear)
            {
                return 0;
            }
        }

        return (long)Table(StateLayout.JumpTargets(set))[index];
    }

    /// <summary>Of all that is known of user mode's code, lets be found what has been remembered with the same salt.</summary>
    /// <param name="salt">One of <see cref="JumpSalts"/>.</param>
    public void UseJumpSalt(uint salt) => ((HotState*)_base)->JumpSalt = salt;

    /// <summary>Forgets where code runs: user mode's of all address spaces, or the supervisor's.</summary>
    public void ClearJumps(TlbSet set)
    {
        // No address that is looked up has the index of its own tag here; see NoJumpTag.
        var tags = new Span<ulong>(Table(StateLayout.JumpTags(set)), StateLayout.JumpCount);
        (tags[0], tags[1]) = (NoJumpTag(0), NoJumpTag(1));
        for (int done = 2; done < tags.Length; done *= 2)
        {
            tags[..done].CopyTo(tags[done..]);
        }
    }

    /// <summary>Forgets where code goes on behind the calls of user mode, or of the supervisor.</summary>
    public void ClearRing(TlbSet set)
    {
        // Of an entry that holds nothing the guest can guess the address: it leads out, to go on there.
        new Span<ulong>(Table(StateLayout.RingTags(set)), StateLayout.RingCount + 1).Fill(ulong.MaxValue);
        new Span<ulong>(Table(StateLayout.RingLandings(set)), StateLayout.RingCount + 1).Fill(_land);
    }

    /// <summary>Forgets where the code at a linear address runs.</summary>
    public void ForgetJump(TlbSet set, ulong linear)
    {
        if (set == TlbSet.SupervisorOpen)
        {
            return;
        }

        int first = JumpIndexOf(set, linear);
        foreach (int index in (ReadOnlySpan<int>)[first, SecondIndexOf(first)])
        {
            if (Table(StateLayout.JumpTags(set))[index] == 1UL - linear)
            {
                Table(StateLayout.JumpTags(set))[index] = NoJumpTag(index);
                Table(StateLayout.JumpTargets(set))[index] = _leave;
            }
        }
    }

    /// <summary>Lets lookups of memory and of the jump cache find something again.</summary>
    public void ArmLookups()
    {
        var hot = (HotState*)_base;
        for (int i = 0; i < StateLayout.PageMaskCount; i++)
        {
            hot->PageMasks[i] = ~0xFFFUL | ((1UL << i) - 1);
        }

        hot->JumpMask = JumpIndexMask;
        hot->RingMask = RingIndexMask;
        hot->Poll = 1;
    }

    /// <summary>Lets all lookups miss.</summary>
    public void DisarmLookups() => PollMasks.Clear();

    /// <summary>Whether lookups find what is there: nobody has asked for attention since they were let.</summary>
    public bool AreLookupsArmed => !PollMasks.Contains(0UL);

    // SAFETY: so many words in a row, from the first to the last.
    private Span<ulong> PollMasks => new(&((HotState*)_base)->JumpMask, StateLayout.PollMaskCount);

    /// <summary>Whether the address may lie in a large page that has entries.</summary>
    public bool IsInLargePage(ulong linear) => _largePages.MayHold(linear);

    private static int IndexOf(ulong linear) => (int)((linear >> 12) & (StateLayout.TlbCount - 1));

    // CRC32 spreads addresses well and leaves the flags alone.
    private int JumpIndexOf(TlbSet set, ulong linear) =>
        (int)(Sse42.X64.Crc32(set == TlbSet.User ? ((HotState*)_base)->JumpSalt : 0, linear) & JumpIndexMask);

    /// <summary>The other entry that an address may have.</summary>
    private static int SecondIndexOf(int index) => (index + (StateLayout.JumpCount / 2)) & (StateLayout.JumpCount - 1);

    /// <summary>One of the two entries of an address: its own if it has one, one that is nobody's or another address space's, or each in turn.</summary>
    private int ChooseJump(TlbSet set, ulong linear)
    {
        ulong* tags = Table(StateLayout.JumpTags(set));
        int first = JumpIndexOf(set, linear);
        int second = SecondIndexOf(first);
        if (first == 0 || second == 0)
        {
            // Entry 0 is where a lookup goes that is to leave.
            return first + second;
        }

        if (tags[second] == 1UL - linear)
        {
            return second;
        }

        if (tags[first] == 1UL - linear || !IsInUse(set, first, tags[first]))
        {
            return first;
        }

        _isSecondNext = !_isSecondNext;
        return _isSecondNext || !IsInUse(set, second, tags[second]) ? second : first;
    }

    /// <summary>Whether lookups in the current address space can find an entry.</summary>
    private bool IsInUse(TlbSet set, int index, ulong tag)
    {
        int own = JumpIndexOf(set, 1UL - tag);
        return own == index || SecondIndexOf(own) == index;
    }

    /// <summary>The tag of an empty entry: of an address that is not canonical, and whose index is even where this one is odd, with any salt.</summary>
    private static ulong NoJumpTag(int index) => 1UL - ((index & 1) == (int)(Sse42.X64.Crc32(0, NoJump) & 1) ? NoJump + 1 : NoJump);

    private static TlbSet SetOf(int table) => (TlbSet)(table >> 1);

    private static bool IsWrite(int table) => (table & 1) != 0;

    private ulong PageOf(int slot)
    {
        int table = slot / StateLayout.TlbCount;
        return PageSize - Table(StateLayout.Tags(SetOf(table), IsWrite(table)))[slot & (StateLayout.TlbCount - 1)];
    }

    // A page that the index does not fit, nor the one before it: an access that begins in this entry's page never ends there.
    private static ulong NoTag(int index) => PageSize - ((ulong)(index ^ (StateLayout.TlbCount / 2)) << 12);

    private ulong* Table(int offset) => (ulong*)(_base + offset);

    private void InvalidateIn(ReadOnlySpan<int> slots, ulong linear)
    {
        foreach (int slot in slots)
        {
            if ((PageOf(slot) ^ linear) >> (_sizes[slot] & SizeMask) == 0)
            {
                Empty(slot);
            }
        }
    }

    private void DropKeysIn(ReadOnlySpan<int> slots, uint keys)
    {
        foreach (int slot in slots)
        {
            if ((_sizes[slot] & Keyed) != 0 && (keys >> (_marks[slot] >> KeyShift) & 1) != 0)
            {
                Empty(slot);
            }
        }
    }

    private void Empty(int slot)
    {
        int table = slot / StateLayout.TlbCount;
        int index = slot & (StateLayout.TlbCount - 1);
        Table(StateLayout.Tags(SetOf(table), IsWrite(table)))[index] = NoTag(index);
    }

    /// <summary>Forgets the pages that accesses are compared with before the tables are asked.</summary>
    private void DropPages()
    {
        Sites.Clear();
        for (int set = 0; set < SetCount; set++)
        {
            *Table(StateLayout.StackTag((TlbSet)set)) = NoStack;
            *Table(StateLayout.StackDistance((TlbSet)set)) = (ulong)_nowhere + NoStack - PageSize;
        }
    }
}
