using System.Runtime.CompilerServices;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>
/// The software TLB of one vCPU: entries by privilege and RFLAGS.AC, which handlers read inline through <see cref="CpuState.Tlb"/>, and the
/// code pages fetched from last. Fills, drops and flushes them.
/// </summary>
/// <remarks>SAFETY: the entries are <see cref="ByteCount"/> bytes of the caller's; indexes into them are cut to a set's size.</remarks>
public sealed unsafe class Tlb
{
    /// <summary>Supervisor with RFLAGS.AC clear, supervisor with it set, user, and one that stays empty (alignment checks on).</summary>
    private const int TlbSets = 4;

    private const int EmptySet = 3;

    private readonly CpuState* _state;
    private readonly GuestMemory _memory;
    private readonly PageWalker _walker;
    private readonly Breakpoints _breakpoints;
    private readonly JumpCache _jumpCache;

    /// <summary>All sets, one behind the other.</summary>
    private readonly TlbEntry* _entries;

    /// <summary>Indexes of the entries, of all sets, that hold a page which is not global, and of those that hold a global one: what a flush has to look at.</summary>
    private readonly EntryList _local = new();

    private readonly EntryList _global = new();

    private readonly LargePages _largePages = new();

    private readonly FetchTlb _fetches = new();

    /// <summary>Entries, each once. A page that is dropped alone, or whose place another one has taken, stays listed.</summary>
    private sealed class EntryList
    {
        private readonly ushort[] _numbers = new ushort[TlbSets * TlbEntry.Count];
        private readonly bool[] _isListed = new bool[TlbSets * TlbEntry.Count];
        private int _count;

        public ReadOnlySpan<ushort> Numbers => _numbers.AsSpan(0, _count);

        public void Add(int number)
        {
            if (!_isListed[number])
            {
                _isListed[number] = true;
                _numbers[_count++] = (ushort)number;
            }
        }

        public void Clear()
        {
            foreach (ushort number in Numbers)
            {
                _isListed[number] = false;
            }

            _count = 0;
        }
    }

    internal Tlb(CpuState* state, TlbEntry* entries, GuestMemory memory, PageWalker walker, Breakpoints breakpoints, JumpCache jumpCache)
    {
        _state = state;
        _memory = memory;
        _walker = walker;
        _breakpoints = breakpoints;
        _jumpCache = jumpCache;
        _entries = entries;
        for (int i = 0; i < TlbSets * TlbEntry.Count; i++)
        {
            Drop(_entries + i);
        }
    }

    /// <summary>Bytes of the entries of all sets.</summary>
    internal static int ByteCount => TlbSets * TlbEntry.Count * sizeof(TlbEntry);

    /// <summary>Whether alignment checks are armed: no entry answers then, so that every access is looked at.</summary>
    internal bool ChecksAlignment => _state->Tlb == _entries + (EmptySet * TlbEntry.Count);

    /// <summary>The translation tier's own copies of translations, which go with these.</summary>
    internal ITlbFollower? Follower { get; set; }

    /// <summary>The entry for an address in the set of a supervisor with RFLAGS.AC clear, whose rights the processor's own accesses have.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal TlbEntry* SupervisorEntry(ulong linear) => _entries + ((linear >> 12) & (TlbEntry.Count - 1));

    /// <summary>Whether level 0, 1 or 2 has fetched code from a page that is not global, since the last write of CR3.</summary>
    public bool HasFetchedLocalCode { get; set; }

    /// <summary>Translates, raises the page fault when it fails, and fills the TLB when the page may have an entry.</summary>
    internal bool TryTranslate(ulong linear, Access access, out ulong physical)
    {
        bool done = TryTranslate(linear, access, out Translation translation);
        physical = translation.Physical;
        return done;
    }

    internal bool TryTranslate(ulong linear, Access access, out Translation translation)
    {
        if (!_walker.TryTranslate(_state, linear, access, out translation, out uint error))
        {
            translation = default;
            RaisePageFault(linear, error);
            return false;
        }

        ulong physical = translation.Physical;
        if ((access & Access.Fetch) != 0 && translation.PageMask > 0xFFF)
        {
            _largePages.Add(linear, translation.PageMask);
        }

        if ((access & (Access.System | Access.Fetch)) == 0)
        {
            FillTlb(_state->Tlb, linear, translation);
        }
        else if ((access & (Access.Write | Access.Fetch)) == 0)
        {
            FillTlb(_entries, linear, translation with { Writable = false });
        }
        else if ((access & Access.Write) != 0)
        {
            FillTlb(_entries, linear, translation);
            long page = _memory.GetPageIndex(physical);
            if (page >= 0)
            {
                _memory.Pages.SetDirty(page);
            }
        }

        return true;
    }

    /// <summary>Sets CR2 and raises #PF.</summary>
    /// <param name="error">As in <see cref="PageFaultError"/>.</param>
    public void RaisePageFault(ulong linear, uint error)
    {
        _state->Cr2 = linear;
        Faults.Raise(_state, ExceptionVector.PageFault, error);
    }

    /// <summary>Brings a page into the TLB where it may have an entry; raises no fault.</summary>
    public bool TryFillTlb(ulong linear, Access access) => TryFillTlb(linear, access, out _);

    /// <param name="error">The page-fault error code that an access would raise; -1 where it would not, or where no entry tells.</param>
    public bool TryFillTlb(ulong linear, Access access, out long error)
    {
        error = -1;
        if (ChecksAlignment || !CpuState.IsCanonical(_state, linear))
        {
            return false;
        }

        if (!_walker.TryTranslate(_state, linear, access, out Translation translation, out uint code))
        {
            error = code;
            return false;
        }

        FillTlb(_state->Tlb, linear, translation);
        TlbEntry* entry = _state->Tlb + ((linear >> 12) & (TlbEntry.Count - 1));
        return ((access & Access.Write) != 0 ? entry->WriteTag : entry->ReadTag) == (linear & ~0xFFFUL);
    }

    /// <summary>Translates the address of an instruction; false after a page fault was raised.</summary>
    public bool TryTranslateFetch(ulong linear, out ulong physical)
    {
        bool user = _state->Cpl == 3;
        if (_fetches.TryGet(linear, user, out physical))
        {
            return true;
        }

        bool done = TryTranslate(linear, Access.Fetch, out Translation translation);
        physical = translation.Physical;
        if (!done)
        {
            return false;
        }

        HasFetchedLocalCode |= !user && !translation.Global;
        _fetches.Set(linear, user, physical);
        return true;
    }

    /// <summary>Drops every translation.</summary>
    public void Flush()
    {
        DropLocal();
        foreach (ushort number in _global.Numbers)
        {
            Drop(_entries + number);
        }

        _global.Clear();
        _largePages.Clear();
        Follower?.FlushTlb(keepsGlobal: false);
    }

    /// <summary>Drops all translations but those of global pages.</summary>
    public void FlushButGlobal()
    {
        DropLocal();
        Follower?.FlushTlb(keepsGlobal: true);
    }

    /// <summary>The same where CR3 has been written; whoever keeps translations apart by PCID need not drop those of others.</summary>
    /// <param name="keeps">Those of the new PCID stay, too.</param>
    internal void SwitchSpace(bool keeps)
    {
        DropLocal();
        Follower?.SwitchSpace(keeps);
    }

    private void DropLocal()
    {
        foreach (ushort number in _local.Numbers)
        {
            TlbEntry* entry = _entries + number;
            if ((entry->PageMask & TlbEntry.GlobalMark) == 0)
            {
                Drop(entry);
            }
        }

        _local.Clear();
        _fetches.Flush();
        _jumpCache.Flush();
    }

    /// <summary>WRPKRU and XRSTOR: drops the translations of pages whose key has other rights now.</summary>
    public void SetPkru(uint value)
    {
        uint changed = _state->Pkru ^ value;
        _state->Pkru = value;
        if (changed == 0 || (_state->Cr4 & Cr4.ProtectionKeyEnable) == 0)
        {
            // While CR4.PKE is clear nothing depends on it, and setting that drops everything.
            return;
        }

        uint keys = 0;
        for (int key = 0; key < 16; key++)
        {
            keys |= ((changed >> (2 * key)) & 3) != 0 ? 1u << key : 0;
        }

        DropKeys(_local, keys);
        DropKeys(_global, keys);
        Follower?.DropKeys(keys);
    }

    private void DropKeys(EntryList list, uint keys)
    {
        foreach (ushort number in list.Numbers)
        {
            TlbEntry* entry = _entries + number;
            if ((entry->KeyBit & keys) != 0)
            {
                Drop(entry);
            }
        }
    }

    /// <summary>Drops the translation of one linear page (INVLPG), which may be a large one with many entries.</summary>
    public void InvalidatePage(ulong linear)
    {
        if (_largePages.MayHold(linear))
        {
            foreach (ushort number in _local.Numbers)
            {
                DropIfHolds(_entries + number, linear);
            }

            foreach (ushort number in _global.Numbers)
            {
                DropIfHolds(_entries + number, linear);
            }

            _fetches.Flush();
        }
        else
        {
            for (int set = 0; set < TlbSets; set++)
            {
                DropIfHolds(_entries + (set * TlbEntry.Count) + (int)((linear >> 12) & (TlbEntry.Count - 1)), linear);
            }

            _fetches.Invalidate(linear);
        }

        Follower?.InvalidatePage(linear);
        _jumpCache.Flush();
    }

    /// <summary>Takes write tags away from every alias of a physical page, so that writes to it are seen.</summary>
    internal void DropWriteTags(ulong physicalPage)
    {
        long host = (long)_memory.GetPointer(physicalPage);
        Follower?.DropWriteTags((ulong)host);
        DropWriteTags(_local, host);
        DropWriteTags(_global, host);
    }

    private void DropWriteTags(EntryList list, long host)
    {
        foreach (ushort number in list.Numbers)
        {
            TlbEntry* entry = _entries + number;
            if (entry->WriteTag != TlbEntry.NoTag && (long)entry->WriteTag + entry->Addend == host)
            {
                entry->WriteTag = TlbEntry.NoTag;
            }
        }
    }

    /// <summary>Chooses the TLB set for CPL and RFLAGS.AC.</summary>
    public void SelectSet()
    {
        bool alignmentCheck = (_state->Flags & Rflags.AlignmentCheck) != 0;
        int set = alignmentCheck ? 1 : 0;
        if (_state->Cpl == 3)
        {
            set = alignmentCheck && (_state->Cr0 & Cr0.AlignmentMask) != 0 ? EmptySet : 2;
        }

        _state->Tlb = _entries + (set * TlbEntry.Count);
    }

    private static void Drop(TlbEntry* entry)
    {
        entry->ReadTag = TlbEntry.NoTag;
        entry->WriteTag = TlbEntry.NoTag;
    }

    private static void DropIfHolds(TlbEntry* entry, ulong linear)
    {
        if (((entry->ReadTag ^ linear) & ~entry->PageMask) == 0)
        {
            Drop(entry);
        }
    }

    private void FillTlb(TlbEntry* set, ulong linear, in Translation translation)
    {
        byte* host = _memory.GetPointer(translation.Physical & ~0xFFFUL);
        if (host == null || set == _entries + (EmptySet * TlbEntry.Count) || _breakpoints.IsWatched(linear))
        {
            return;
        }

        ulong page = linear & ~0xFFFUL;
        TlbEntry* entry = set + ((linear >> 12) & (TlbEntry.Count - 1));
        (translation.Global ? _global : _local).Add((int)(entry - _entries));
        if (translation.PageMask > 0xFFF)
        {
            _largePages.Add(linear, translation.PageMask);
        }

        entry->PageMask = translation.PageMask | (translation.Global ? TlbEntry.GlobalMark : 0)
            | (translation.Key < 0 ? 0 : TlbEntry.KeyMark | ((ulong)translation.Key << TlbEntry.KeyShift));
        entry->ReadTag = page;
        entry->WriteTag = TlbEntry.NoTag;
        entry->Addend = (long)host - (long)page;
        long index = _memory.GetPageIndex(translation.Physical);
        _memory.NoteUse(index);
        if (!translation.Writable)
        {
            return;
        }

        _memory.Pages.NoteWritable(index);
        if (!_memory.Pages.HasCode(index))
        {
            entry->WriteTag = page;
            _memory.Pages.SetDirty(index);
        }
    }
}
