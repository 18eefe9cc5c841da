using System.Runtime.InteropServices;
using Tutti.Host;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Cpu.Translator;

/// <summary>
/// One address space's user pages as the host's page tables show them somewhere. What is shown is a part of what the guest's tables say, as in a TLB: it
/// is compared with them whenever the guest drops translations.
/// </summary>
/// <remarks>SAFETY: tables are read where <see cref="GuestMemory.GetPointer"/> says that they lie, to the end of their page at most.</remarks>
internal sealed unsafe class ShownPages
{
    /// <summary>Ranges that differ in host, file or right, before all are let go: the host gives a process 65,530.</summary>
    private const int MaxRanges = 12_000;

    /// <summary>The same of all windows of this process.</summary>
    private const int MaxRangesOfAll = 40_000;

    private const int SlotShift = 21;
    private const int SlotPages = 512;
    /// <summary>Bits of an entry that a shown page has clear: addresses beyond the processor's, and a protection key other than 0.</summary>
    private const ulong Reserved = (PageTableEntry.AddressMask & ~((1UL << 40) - 1)) | (15UL << PageTableEntry.KeyShift);

    /// <summary>What must stay as it is in an entry whose page is shown.</summary>
    private const ulong Kept = PageTableEntry.AddressMask | PageTableEntry.Present | PageTableEntry.User | PageTableEntry.Accessed | PageTableEntry.PageSize | PageTableEntry.NoExecute | (15UL << PageTableEntry.KeyShift);

    private const ulong Changeable = PageTableEntry.Writable | PageTableEntry.Dirty;

    private static int s_rangesOfAll;

    private readonly GuestMemory _memory;
    private readonly IShownPlace _place;
    private readonly Dictionary<ulong, Slot> _slots = [];

    /// <summary>Where pages have been shown for writes that may be still, by their host addresses.</summary>
    private readonly Dictionary<ulong, ulong> _written = [];

    /// <summary>Some page was to be shown for writes at two places.</summary>
    private bool _hasAliases;
    private readonly int _levels;
    private int _ranges;

    /// <summary>Pages of one last-level table, or a large page taken apart.</summary>
    private sealed class Slot
    {
        /// <summary>Guest physical address of the table; the entry itself for a large page.</summary>
        public ulong Table;

        public bool IsLarge;

        /// <summary>Whether all upper levels let user mode write.</summary>
        public bool CanWrite;

        /// <summary>Whether no upper level forbids to execute.</summary>
        public bool CanExecute;

        public bool Matches(in SlotTable now) =>
            Table == now.Address && IsLarge == now.IsLarge && CanWrite == now.CanWrite && CanExecute == now.CanExecute;

        public void Set(in SlotTable now) => (Table, IsLarge, CanWrite, CanExecute) = (now.Address, now.IsLarge, now.CanWrite, now.CanExecute);

        /// <summary>The entries as they were when they were looked at last; only those of shown pages count.</summary>
        public readonly ulong[] Entries = new ulong[SlotPages];

        public readonly PageRights[] Shown = new PageRights[SlotPages];

        public int ShownCount;
    }

    /// <summary>What the upper levels say of a slot: see <see cref="Slot"/>.</summary>
    private record struct SlotTable(ulong Address, bool IsLarge, bool CanWrite, bool CanExecute);

    /// <param name="root">CR3's address.</param>
    /// <param name="levels">Of page tables: 4 or 5.</param>
    /// <param name="place">Where the pages are shown.</param>
    public ShownPages(GuestMemory memory, ulong root, int levels, IShownPlace place)
    {
        _memory = memory;
        _place = place;
        _levels = levels;
        Root = root;
    }

    /// <summary>Guest physical address of the top-level table.</summary>
    public ulong Root { get; }

    /// <summary>The guest has dropped translations since the pages were compared with its tables.</summary>
    public bool IsStale { get; set; }

    public long MappedPages { get; private set; }

    /// <summary>Calls to the host that took pages away, so far.</summary>
    public long Clears { get; private set; }

    public long Comparisons { get; private set; }

    /// <summary>
    /// Shows a page whose accessed and, to be written, dirty bits the caller has set, and those around it that have theirs. False where it cannot be
    /// shown: it is not RAM, or has decoded code and is to be written, or code that the place does not show and is to be executed.
    /// </summary>
    /// <param name="wanted">One right.</param>
    public bool TryShow(ulong linear, PageRights wanted)
    {
        if (!_place.Covers(linear & ~0xFFFUL, 4096))
        {
            return false;
        }

        if (_ranges > MaxRanges || (_place.IsOfThisProcess && s_rangesOfAll > MaxRangesOfAll))
        {
            Clear();
        }

        ulong number = linear >> SlotShift;
        bool found = TryFindTable(linear, out SlotTable table);
        if (!_slots.TryGetValue(number, out Slot? slot))
        {
            if (!found)
            {
                return false;
            }

            slot = new Slot();
            _slots.Add(number, slot);
        }

        if (!found || !slot.Matches(table))
        {
            Hide(number, slot);
            slot.Set(table);
        }

        int page = (int)(linear >> 12) & (SlotPages - 1);
        int batch = table.IsLarge && _place.Covers(number << SlotShift, SlotPages << 12) ? SlotPages : _place.BatchPages;
        return found && TryShow(number, slot, (page & -batch, batch), page, wanted);
    }

    /// <summary>How a page is shown now.</summary>
    public PageRights RightsOf(ulong linear) =>
        _slots.TryGetValue(linear >> SlotShift, out Slot? slot) ? slot.Shown[(int)(linear >> 12) & (SlotPages - 1)] : PageRights.None;

    /// <summary>Takes the right to write away from every alias of a page, given by its host address.</summary>
    public void DropWrites(ulong host)
    {
        if (!_hasAliases)
        {
            if (_written.Remove(host, out ulong linear) && _slots.TryGetValue(linear >> SlotShift, out Slot? slot))
            {
                TryDropWrites(linear >> SlotShift, slot, (int)(linear >> 12) & (SlotPages - 1), host);
            }

            return;
        }

        foreach ((ulong number, Slot slot) in _slots)
        {
            for (int page = 0; slot.ShownCount != 0 && page < SlotPages; page++)
            {
                if (!TryDropWrites(number, slot, page, host))
                {
                    return;
                }
            }
        }
    }

    /// <summary>Takes the right to write away from a page, if it is the one that is meant; false where everything has been cleared instead.</summary>
    private bool TryDropWrites(ulong number, Slot slot, int page, ulong host)
    {
        if ((slot.Shown[page] & PageRights.Write) == 0 || HostOf(slot, page) != host)
        {
            return true;
        }

        slot.Shown[page] = PageRights.Read;
        NoteRanges(2);
        if (_place.TryProtect(LinearOf(number, page), 4096))
        {
            return true;
        }

        Clear();
        return false;
    }

    /// <summary>Shows a page no more.</summary>
    public void Hide(ulong linear)
    {
        ulong number = linear >> SlotShift;
        int page = (int)(linear >> 12) & (SlotPages - 1);
        if (_slots.TryGetValue(number, out Slot? slot) && slot.Shown[page] != PageRights.None)
        {
            Hide(number, slot, page);
        }
    }

    /// <summary>Compares one linear page with the guest's tables.</summary>
    public void Invalidate(ulong linear)
    {
        ulong number = linear >> SlotShift;
        if (_slots.TryGetValue(number, out Slot? slot) && slot.ShownCount > 0)
        {
            Compare(number, slot);
        }
    }

    /// <summary>Compares all pages with the guest's tables.</summary>
    public void Refresh()
    {
        IsStale = false;
        Comparisons++;
        foreach ((ulong number, Slot slot) in _slots)
        {
            if (slot.ShownCount > 0)
            {
                Compare(number, slot);
                if (_slots.Count == 0)
                {
                    // The host has refused, and all has been cleared.
                    return;
                }
            }
        }
    }

    /// <summary>Shows nothing any more.</summary>
    public void Clear()
    {
        if (!_place.TryClearAll())
        {
            throw new HostException("mmap", 12);
        }

        Forget();
    }

    /// <summary>Whoever shows the pages has taken them all away.</summary>
    public void Forget()
    {
        _slots.Clear();
        _written.Clear();
        _hasAliases = false;
        NoteRanges(-_ranges);
    }

    private void NoteRanges(int more)
    {
        _ranges += more;
        if (_place.IsOfThisProcess)
        {
            Interlocked.Add(ref s_rangesOfAll, more);
        }
    }

    /// <summary>Shows pages of a slot, in as few ranges as they make; says whether the wanted one is among them.</summary>
    private bool TryShow(ulong number, Slot slot, (int First, int Count) batch, int wanted, PageRights right)
    {
        int begin = batch.First;
        long file = 0;
        PageRights rights = PageRights.None;
        for (int page = batch.First; page <= batch.First + batch.Count; page++)
        {
            long next = 0;
            PageRights nextRights = page < batch.First + batch.Count ? RightsOf(slot, LinearOf(number, page), page == wanted ? right : PageRights.None, out next) : PageRights.None;
            if (rights != PageRights.None && nextRights == rights && next == file + ((long)(page - begin) << 12))
            {
                continue;
            }

            if (rights != PageRights.None && !TryShowRange(number, slot, (begin, page - begin), file, rights))
            {
                Clear();
                return false;
            }

            (begin, file, rights) = (page, next, nextRights);
        }

        return (slot.Shown[wanted] & right) != 0;
    }

    private bool TryShowRange(ulong number, Slot slot, (int First, int Count) range, long file, PageRights rights)
    {
        if (!_place.TryMap(LinearOf(number, range.First), (long)range.Count << 12, file, rights))
        {
            return false;
        }

        NoteRanges(2);
        MappedPages += range.Count;
        for (int i = range.First; i < range.First + range.Count; i++)
        {
            slot.ShownCount += slot.Shown[i] == PageRights.None ? 1 : 0;
            slot.Shown[i] = rights;
            if ((rights & PageRights.Write) != 0)
            {
                NoteWritten(HostOf(slot, i), LinearOf(number, i));
            }
        }

        return true;
    }

    private void NoteWritten(ulong host, ulong linear)
    {
        ref ulong place = ref CollectionsMarshal.GetValueRefOrAddDefault(_written, host, out bool exists);
        _hasAliases |= exists && place != linear && (RightsOf(place) & PageRights.Write) != 0
            && HostOf(_slots[place >> SlotShift], (int)(place >> 12) & (SlotPages - 1)) == host;
        place = linear;
    }

    private ulong HostOf(Slot slot, int page) => (ulong)_memory.GetPointer(slot.Entries[page] & PageTableEntry.AddressMask);

    /// <summary>How a page may be shown that is not yet, or not so: none for not at all. Takes its entry over.</summary>
    /// <param name="wanted">The right that it is asked for; none for a page around the one that is.</param>
    private PageRights RightsOf(Slot slot, ulong linear, PageRights wanted, out long file)
    {
        file = 0;
        int page = (int)(linear >> 12) & (SlotPages - 1);
        ulong entry = EntryOf(slot, page);
        const ulong Needed = PageTableEntry.Present | PageTableEntry.User | PageTableEntry.Accessed;
        if ((entry & Needed) != Needed || (entry & Reserved) != 0 || !_place.Covers(linear, 4096))
        {
            return PageRights.None;
        }

        long index = _memory.GetPageIndex(entry & PageTableEntry.AddressMask);
        PageRights shown = slot.Shown[page];
        if (index < 0 || (wanted == PageRights.None && (shown & PageRights.Execute) != 0))
        {
            return PageRights.None;
        }

        bool write = slot.CanWrite && (entry & Changeable) == Changeable && wanted != PageRights.Execute;
        if (write)
        {
            _memory.Pages.NoteWritable(index);
            write = !_memory.Pages.HasCode(index);
        }

        bool execute = _place.ShowsCode && slot.CanExecute && (entry & PageTableEntry.NoExecute) == 0 && !write
            && _place.MayExecute(linear, _memory.GetPointer(entry & PageTableEntry.AddressMask), wanted == PageRights.Execute);
        PageRights rights = PageRights.Read | (execute ? PageRights.Execute : write ? PageRights.Write : PageRights.None);
        if (wanted == PageRights.None && shown != PageRights.None && (rights & ~shown) == PageRights.None)
        {
            return PageRights.None;
        }

        if ((rights & PageRights.Write) != 0)
        {
            _memory.Pages.SetDirty(index);
        }

        slot.Entries[page] = entry;
        file = index << 12;
        return rights;
    }

    private ulong EntryOf(Slot slot, int page)
    {
        if (slot.IsLarge)
        {
            return slot.Table + ((ulong)page << 12);
        }

        ulong* entries = (ulong*)_memory.GetPointer(slot.Table);
        return entries == null ? 0 : Volatile.Read(ref entries[page]);
    }

    private void Compare(ulong number, Slot slot)
    {
        bool found = TryFindTable(number << SlotShift, out SlotTable table);
        if (!found || !slot.Matches(table))
        {
            Hide(number, slot);
            return;
        }

        if (table.IsLarge)
        {
            return;
        }

        ulong* entries = (ulong*)_memory.GetPointer(table.Address);
        var now = new ReadOnlySpan<ulong>(entries, SlotPages);
        int page = 0;
        while (entries != null && page < SlotPages)
        {
            // Most have not changed.
            page += now[page..].CommonPrefixLength(slot.Entries.AsSpan(page));
            if (page < SlotPages)
            {
                Compare(number, slot, page, Volatile.Read(ref entries[page]));
                page++;
            }
        }
    }

    private void Compare(ulong number, Slot slot, int page, ulong entry)
    {
        PageRights shown = slot.Shown[page];
        if (shown == PageRights.None)
        {
            // Found equal by the next comparison.
            slot.Entries[page] = entry;
            return;
        }

        ulong changed = entry ^ slot.Entries[page];
        bool keeps = (changed & Kept) == 0 && ((shown & PageRights.Write) == 0 || (entry & Changeable) == Changeable);
        if (keeps)
        {
            slot.Entries[page] = entry;
            return;
        }

        Hide(number, slot, page);
    }

    private void Hide(ulong number, Slot slot, int page)
    {
        slot.Shown[page] = PageRights.None;
        slot.ShownCount--;
        Clears++;
        NoteRanges(2);
        if (!_place.TryClear(LinearOf(number, page), 4096))
        {
            Clear();
        }
    }

    private void Hide(ulong number, Slot slot)
    {
        if (slot.ShownCount == 0)
        {
            return;
        }

        Array.Clear(slot.Shown);
        slot.ShownCount = 0;
        if (!_place.TryClear(LinearOf(number, 0), SlotPages << 12))
        {
            Clear();
        }
    }

    private static ulong LinearOf(ulong slot, int page) => (slot << SlotShift) + ((ulong)page << 12);

    /// <summary>Walks to the last-level table of a linear address, or to its large page; sets no bits.</summary>
    private bool TryFindTable(ulong linear, out SlotTable found)
    {
        ulong table = Root;
        found = new SlotTable(0, false, true, true);
        for (int level = _levels; level > 1; level--)
        {
            ulong* entries = (ulong*)_memory.GetPointer(table);
            int shift = 12 + (9 * (level - 1));
            ulong entry = entries == null ? 0 : Volatile.Read(ref entries[(linear >> shift) & 511]);
            const ulong Needed = PageTableEntry.Present | PageTableEntry.User | PageTableEntry.Accessed;
            if ((entry & Needed) != Needed || (entry & Reserved) != 0)
            {
                return false;
            }

            found.CanWrite &= (entry & PageTableEntry.Writable) != 0;
            found.CanExecute &= (entry & PageTableEntry.NoExecute) == 0;
            if (level < 4 && (entry & PageTableEntry.PageSize) != 0)
            {
                // Its first 4 KiB page of the slot, with the rights of all: bit 12 (PAT) is not an address bit here.
                ulong inPage = (1UL << shift) - 1;
                ulong page = (entry & PageTableEntry.AddressMask & ~inPage) | (linear & inPage & ~((1UL << SlotShift) - 1));
                found.Address = page | (entry & (Needed | Changeable));
                found.IsLarge = true;
                return true;
            }

            table = entry & PageTableEntry.AddressMask;
        }

        found.Address = table;
        return true;
    }
}
