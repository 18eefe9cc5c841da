using System.Runtime.InteropServices;
using Tutti.Host;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Cpu.Translator;

/// <summary>
/// One address space's user pages, shown by the host's page tables: a linear address of a region becomes a host address by one addition. What is
/// shown is a part of what the guest's tables say, as in a TLB: it is compared with them whenever the guest drops translations.
/// </summary>
/// <remarks>SAFETY: tables are read where <see cref="GuestMemory.GetPointer"/> says that they lie, to the end of their page at most.</remarks>
internal sealed unsafe class UserWindow : IDisposable
{
    private const int RegionShift = StateLayout.RegionShift;

    /// <summary>Regions of the lower half.</summary>
    public const int RegionCount = 1 << (47 - RegionShift);

    /// <summary>Ranges that differ in host, file or right, before all are let go: the host gives a process 65,530.</summary>
    private const int MaxRanges = 12_000;

    /// <summary>The same of all windows of the process, which has mappings of its own.</summary>
    private const int MaxRangesOfAll = 40_000;

    private static int s_rangesOfAll;

    /// <summary>Pages around one that is asked for which are shown with it, if they have been used.</summary>
    private const int BatchPages = 16;

    private const int SlotShift = 21;
    private const int SlotPages = 512;
    private const ulong TopEntriesOfRegion = 1UL << (RegionShift - 39);
    /// <summary>Bits of an entry that a shown page has clear: addresses beyond the processor's, and a protection key other than 0.</summary>
    private const ulong Reserved = (PageTableEntry.AddressMask & ~((1UL << 40) - 1)) | (15UL << PageTableEntry.KeyShift);

    /// <summary>What must stay as it is in an entry whose page is shown.</summary>
    private const ulong Kept = PageTableEntry.AddressMask | PageTableEntry.Present | PageTableEntry.User | PageTableEntry.Accessed | PageTableEntry.PageSize | (15UL << PageTableEntry.KeyShift);

    private const ulong Changeable = PageTableEntry.Writable | PageTableEntry.Dirty;

    private readonly GuestMemory _memory;
    private readonly AddressWindow?[] _regions = new AddressWindow?[RegionCount];
    private readonly Dictionary<ulong, Slot> _slots = [];
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

        /// <summary>The entries as they were when they were looked at last; only those of shown pages count.</summary>
        public readonly ulong[] Entries = new ulong[SlotPages];

        /// <summary>0: not shown; 1: to read; 2: to write too.</summary>
        public readonly byte[] Shown = new byte[SlotPages];

        public int ShownCount;
    }

    /// <param name="root">CR3's address.</param>
    /// <param name="levels">Of page tables: 4 or 5.</param>
    public UserWindow(GuestMemory memory, ulong root, int levels)
    {
        _memory = memory;
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

    /// <summary>Distance from a linear address of a region to the host's; null where the region is not shown.</summary>
    public ulong? DistanceOf(int region) =>
        _regions[region] is { } window ? (ulong)window.Address - ((ulong)region << RegionShift) : null;

    /// <summary>Opens the regions in which the guest's top-level table has something; true when there is a new one.</summary>
    public bool OpenRegions()
    {
        bool opened = false;
        for (int region = 0; region < RegionCount; region++)
        {
            if (_regions[region] == null && IsUsed(region))
            {
                _regions[region] = new AddressWindow(1L << RegionShift);
                opened = true;
            }
        }

        return opened;
    }

    /// <summary>The linear address that a host address shows; false where none.</summary>
    public bool TryFindLinear(ulong host, out ulong linear)
    {
        for (int region = 0; region < RegionCount; region++)
        {
            if (_regions[region] is { } window && host - (ulong)window.Address < (1UL << RegionShift))
            {
                linear = host - (ulong)window.Address + ((ulong)region << RegionShift);
                return true;
            }
        }

        linear = 0;
        return false;
    }

    /// <summary>
    /// Shows a page whose accessed and, to be written, dirty bits the caller has set, and those around it that have theirs. False where it cannot be
    /// shown: it is not RAM, or has decoded code and is to be written.
    /// </summary>
    public bool TryShow(ulong linear, bool write)
    {
        int region = (int)(linear >> RegionShift);
        if (region >= RegionCount || _regions[region] is not { } window)
        {
            return false;
        }

        if (_ranges > MaxRanges || s_rangesOfAll > MaxRangesOfAll)
        {
            Clear();
        }

        ulong number = linear >> SlotShift;
        bool found = TryFindTable(linear, out ulong table, out bool isLarge, out bool canWrite);
        if (!_slots.TryGetValue(number, out Slot? slot))
        {
            if (!found)
            {
                return false;
            }

            slot = new Slot();
            _slots.Add(number, slot);
        }

        if (!found || slot.Table != table || slot.IsLarge != isLarge || slot.CanWrite != canWrite)
        {
            Hide(number, slot);
            (slot.Table, slot.IsLarge, slot.CanWrite) = (table, isLarge, canWrite);
        }

        int page = (int)(linear >> 12) & (SlotPages - 1);
        int batch = isLarge ? SlotPages : BatchPages;
        return found && TryShow(window, number, slot, page & -batch, batch, page, write);
    }

    /// <summary>Takes the right to write away from every alias of a page, given by its host address.</summary>
    public void DropWrites(ulong host)
    {
        foreach ((ulong number, Slot slot) in _slots)
        {
            if (slot.ShownCount == 0)
            {
                continue;
            }

            for (int page = 0; page < SlotPages; page++)
            {
                if (slot.Shown[page] == 2 && (ulong)_memory.GetPointer(slot.Entries[page] & PageTableEntry.AddressMask) == host)
                {
                    slot.Shown[page] = 1;
                    NoteRanges(2);
                    if (!WindowOf(number).TryProtect(OffsetOf(number, page), 4096))
                    {
                        Clear();
                        return;
                    }
                }
            }
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
        foreach (AddressWindow? window in _regions)
        {
            if (window != null && !window.TryClear(0, window.Length))
            {
                throw new HostException("mmap", 12);
            }
        }

        _slots.Clear();
        NoteRanges(-_ranges);
    }

    public void Dispose()
    {
        foreach (AddressWindow? window in _regions)
        {
            window?.Dispose();
        }

        Array.Clear(_regions);
        _slots.Clear();
        NoteRanges(-_ranges);
    }

    private void NoteRanges(int more)
    {
        _ranges += more;
        Interlocked.Add(ref s_rangesOfAll, more);
    }

    private bool IsUsed(int region)
    {
        // What the window covers lies in the first entry of a fifth level.
        ulong* top = (ulong*)_memory.GetPointer(Root);
        if (_levels == 5 && top != null)
        {
            ulong first = Volatile.Read(ref *top);
            top = (first & PageTableEntry.Present) == 0 ? null : (ulong*)_memory.GetPointer(first & PageTableEntry.AddressMask);
        }

        for (ulong entry = 0; top != null && entry < TopEntriesOfRegion; entry++)
        {
            if ((Volatile.Read(ref top[((ulong)region * TopEntriesOfRegion) + entry]) & (PageTableEntry.Present | PageTableEntry.User)) == (PageTableEntry.Present | PageTableEntry.User))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Shows pages of a slot from <paramref name="first"/> on, in as few ranges as they make; says whether the wanted one is among them.</summary>
    private bool TryShow(AddressWindow window, ulong number, Slot slot, int first, int count, int wanted, bool write)
    {
        int begin = first;
        long file = 0;
        int right = 0;
        for (int page = first; page <= first + count; page++)
        {
            long next = 0;
            int nextRight = page < first + count ? RightOf(slot, page, page == wanted, out next) : 0;
            if (right != 0 && nextRight == right && next == file + ((long)(page - begin) << 12))
            {
                continue;
            }

            if (right != 0 && !TryShowRange(window, number, slot, begin, page - begin, file, right == 2))
            {
                Clear();
                return false;
            }

            (begin, file, right) = (page, next, nextRight);
        }

        return slot.Shown[wanted] >= (write ? 2 : 1);
    }

    private bool TryShowRange(AddressWindow window, ulong number, Slot slot, int page, int count, long file, bool write)
    {
        if (!window.TryMap(OffsetOf(number, page), (long)count << 12, _memory.HostFile, file, write))
        {
            return false;
        }

        NoteRanges(2);
        MappedPages += count;
        for (int i = page; i < page + count; i++)
        {
            slot.ShownCount += slot.Shown[i] == 0 ? 1 : 0;
            slot.Shown[i] = write ? (byte)2 : (byte)1;
        }

        return true;
    }

    /// <summary>How a page may be shown that is not yet, or not so: 0 for not at all. Takes its entry over.</summary>
    private int RightOf(Slot slot, int page, bool isWanted, out long file)
    {
        file = 0;
        ulong entry = EntryOf(slot, page);
        const ulong Needed = PageTableEntry.Present | PageTableEntry.User | PageTableEntry.Accessed;
        if ((entry & Needed) != Needed || (entry & Reserved) != 0)
        {
            return 0;
        }

        long index = _memory.GetPageIndex(entry & PageTableEntry.AddressMask);
        if (index < 0)
        {
            return 0;
        }

        bool write = slot.CanWrite && (entry & Changeable) == Changeable;
        if (write)
        {
            _memory.Pages.NoteWritable(index);
            write = !_memory.Pages.HasCode(index);
        }

        int right = write ? 2 : 1;
        if (slot.Shown[page] >= right && slot.Shown[page] != 0 && !isWanted)
        {
            return 0;
        }

        if (write)
        {
            _memory.Pages.SetDirty(index);
        }

        slot.Entries[page] = entry;
        file = index << 12;
        return right;
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
        bool found = TryFindTable(number << SlotShift, out ulong table, out bool isLarge, out bool canWrite);
        if (!found || slot.Table != table || slot.IsLarge != isLarge || slot.CanWrite != canWrite)
        {
            Hide(number, slot);
            return;
        }

        if (isLarge)
        {
            return;
        }

        ulong* entries = (ulong*)_memory.GetPointer(table);
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
        int shown = slot.Shown[page];
        if (shown == 0)
        {
            // Found equal by the next comparison.
            slot.Entries[page] = entry;
            return;
        }

        ulong changed = entry ^ slot.Entries[page];
        bool keeps = (changed & Kept) == 0 && (shown == 1 || (entry & Changeable) == Changeable);
        if (keeps)
        {
            slot.Entries[page] = entry;
            return;
        }

        slot.Shown[page] = 0;
        slot.ShownCount--;
        Clears++;
        NoteRanges(2);
        if (!WindowOf(number).TryClear(OffsetOf(number, page), 4096))
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
        if (!WindowOf(number).TryClear(OffsetOf(number, 0), SlotPages << 12))
        {
            Clear();
        }
    }

    private AddressWindow WindowOf(ulong slot) => _regions[(int)(slot >> (RegionShift - SlotShift))]!;

    private static long OffsetOf(ulong slot, int page) => (long)((slot << SlotShift) & ((1UL << RegionShift) - 1)) + ((long)page << 12);

    /// <summary>Walks to the last-level table of a linear address, or to its large page; sets no bits.</summary>
    private bool TryFindTable(ulong linear, out ulong table, out bool isLarge, out bool canWrite)
    {
        table = Root;
        isLarge = false;
        canWrite = true;
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

            canWrite &= (entry & PageTableEntry.Writable) != 0;
            if (level < 4 && (entry & PageTableEntry.PageSize) != 0)
            {
                // Its first 4 KiB page of the slot, with the rights of all: bit 12 (PAT) is not an address bit here.
                ulong inPage = (1UL << shift) - 1;
                ulong page = (entry & PageTableEntry.AddressMask & ~inPage) | (linear & inPage & ~((1UL << SlotShift) - 1));
                table = page | (entry & (Needed | Changeable));
                isLarge = true;
                return true;
            }

            table = entry & PageTableEntry.AddressMask;
        }

        return true;
    }
}
