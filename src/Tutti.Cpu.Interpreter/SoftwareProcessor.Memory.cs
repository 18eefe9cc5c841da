using System.Runtime.CompilerServices;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>The slow path of guest memory: walks, page crossings, devices, pages with decoded code; and TLB upkeep.</summary>
/// <remarks>
/// SAFETY: guest pointers come from <see cref="GuestMemory.GetPointer"/> and are used to the end of their page at most;
/// buffers are those of the caller, who gives their size.
/// </remarks>
internal sealed unsafe partial class SoftwareProcessor
{
    /// <summary>Supervisor with RFLAGS.AC clear, supervisor with it set, user, and one that stays empty (alignment checks on).</summary>
    private const int TlbSets = 4;

    private const int EmptySet = 3;

    /// <summary>Indexes of the entries, of all sets, that hold a page: what a flush has to look at.</summary>
    private readonly ushort[] _filled = new ushort[TlbSets * TlbEntry.Count];

    /// <summary>Which entries stand in that list: a page that is dropped alone stays in it.</summary>
    private readonly bool[] _isListed = new bool[TlbSets * TlbEntry.Count];

    private readonly LargePages _largePages = new();
    private readonly FetchTlb _fetches = new();

    private int _filledCount;

    /// <summary>Part of <see cref="CpuState.JumpTag"/>: another value makes all of the jump cache stale.</summary>
    private uint _jumpGeneration;

    /// <summary>
    /// Moves bytes between guest memory and a buffer, or only probes: checks canonical form, alignment (when armed)
    /// and the rights of every page before it moves the first byte. False after a fault was raised.
    /// </summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public bool AccessSlow(ulong linear, int size, byte* buffer, Access access)
    {
        if ((State->Mode & CodeMode.BitnessMask) == CodeMode.Bits64)
        {
            if (!IsCanonical(linear) || !IsCanonical(linear + (ulong)size - 1))
            {
                RaiseFault(State, NonCanonicalFault, 0);
                return false;
            }
        }
        else if ((access & Access.System) == 0)
        {
            linear = (uint)linear;
        }

        if (State->Tlb == _tlb + (EmptySet * TlbEntry.Count) && (access & (Access.System | Access.Fetch)) == 0
            && size is 2 or 4 or 8 && (linear & (ulong)(size - 1)) != 0)
        {
            RaiseFault(State, ExceptionVector.AlignmentCheck, 0);
            return false;
        }

        int first = Math.Min(size, 4096 - (int)(linear & 0xFFF));
        if (!TryTranslate(linear, access, out ulong physical))
        {
            return false;
        }

        ulong secondPhysical = 0;
        ulong second = linear + (ulong)first;
        if ((State->Efer & Efer.LongModeActive) == 0)
        {
            second = (uint)second;
        }

        if (first < size && !TryTranslate(second, access, out secondPhysical))
        {
            return false;
        }

        if ((access & Access.Probe) != 0)
        {
            return true;
        }

        CheckWatchpoints(linear, size, (access & Access.Write) != 0);
        MovePhysical(physical, buffer, first, access);
        if (first < size)
        {
            MovePhysical(secondPhysical, buffer + first, size - first, access);
        }

        return true;
    }

    /// <summary>Reads a value with the processor's own (supervisor) rights: descriptor tables, TSS, interrupt vectors.</summary>
    public bool TryReadSystem<T>(ulong linear, out T value)
        where T : unmanaged
    {
        T buffer;
        TlbEntry* entry = _tlb + ((linear >> 12) & (TlbEntry.Count - 1));
        if (((linear + (ulong)(sizeof(T) - 1)) & ~0xFFFUL) == entry->ReadTag)
        {
            // The set of a supervisor without RFLAGS.AC: the same rights.
            value = Unsafe.ReadUnaligned<T>((byte*)((long)linear + entry->Addend));
            return true;
        }

        bool done = AccessSlow(linear, sizeof(T), (byte*)&buffer, Access.System);
        value = done ? buffer : default;
        return done;
    }

    /// <summary>Writes a value with the processor's own (supervisor) rights.</summary>
    public bool TryWriteSystem<T>(ulong linear, T value)
        where T : unmanaged => TryWriteSystem(linear, (byte*)&value, sizeof(T));

    /// <summary>The same for at most a page of bytes.</summary>
    public bool TryWriteSystem(ulong linear, byte* bytes, int size)
    {
        TlbEntry* entry = _tlb + ((linear >> 12) & (TlbEntry.Count - 1));
        if (((linear + (ulong)(size - 1)) & ~0xFFFUL) == entry->WriteTag)
        {
            // The index comes from the first byte, the page from the last one: both lie in it.
            Unsafe.CopyBlockUnaligned((byte*)((long)linear + entry->Addend), bytes, (uint)size);
            return true;
        }

        return AccessSlow(linear, size, bytes, Access.System | Access.Write);
    }

    /// <summary>Whether level 0, 1 or 2 has fetched code from a page that is not global, since the last write of CR3.</summary>
    public bool HasFetchedLocalCode { get; set; }

    /// <summary>Translates, raises the page fault when it fails, and fills the TLB when the page may have an entry.</summary>
    public bool TryTranslate(ulong linear, Access access, out ulong physical)
    {
        bool done = TryTranslate(linear, access, out Translation translation);
        physical = translation.Physical;
        return done;
    }

    private bool TryTranslate(ulong linear, Access access, out Translation translation)
    {
        if (!Walker.TryTranslate(State, linear, access, out translation, out uint error))
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
            FillTlb(State->Tlb, linear, translation);
        }
        else if ((access & (Access.Write | Access.Fetch)) == 0)
        {
            FillTlb(_tlb, linear, translation with { Writable = false });
        }
        else if ((access & Access.Write) != 0)
        {
            FillTlb(_tlb, linear, translation);
            long page = Memory.GetPageIndex(physical);
            if (page >= 0)
            {
                Memory.Pages.SetDirty(page);
            }
        }

        return true;
    }

    public void RaisePageFault(ulong linear, uint error)
    {
        State->Cr2 = linear;
        RaiseFault(State, ExceptionVector.PageFault, error);
    }

    /// <summary>Brings a page into the TLB where it may have an entry; raises no fault.</summary>
    public bool TryFillTlb(ulong linear, Access access) => TryFillTlb(linear, access, out _);

    /// <param name="error">The page-fault error code that an access would raise; -1 where it would not, or where no entry tells.</param>
    public bool TryFillTlb(ulong linear, Access access, out long error)
    {
        error = -1;
        if (State->Tlb == _tlb + (EmptySet * TlbEntry.Count) || !IsCanonical(linear))
        {
            return false;
        }

        if (!Walker.TryTranslate(State, linear, access, out Translation translation, out uint code))
        {
            error = code;
            return false;
        }

        FillTlb(State->Tlb, linear, translation);
        TlbEntry* entry = State->Tlb + ((linear >> 12) & (TlbEntry.Count - 1));
        return ((access & Access.Write) != 0 ? entry->WriteTag : entry->ReadTag) == (linear & ~0xFFFUL);
    }

    /// <summary>Translates the address of an instruction; false after a page fault was raised.</summary>
    public bool TryTranslateFetch(ulong linear, out ulong physical)
    {
        bool user = State->Cpl == 3;
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
    public void FlushTlb()
    {
        for (int i = 0; i < _filledCount; i++)
        {
            Drop(_tlb + _filled[i]);
            _isListed[_filled[i]] = false;
        }

        _filledCount = 0;
        _largePages.Clear();
        _fetches.Flush();
        Tier?.FlushTlb(keepsGlobal: false);
        FlushJumpCache();
    }

    /// <summary>Drops all translations but those of global pages: a write of CR3.</summary>
    public void FlushTlbButGlobal()
    {
        int kept = 0;
        for (int i = 0; i < _filledCount; i++)
        {
            TlbEntry* entry = _tlb + _filled[i];
            if ((entry->PageMask & TlbEntry.GlobalMark) != 0)
            {
                _filled[kept++] = _filled[i];
            }
            else
            {
                Drop(entry);
                _isListed[_filled[i]] = false;
            }
        }

        _filledCount = kept;
        _fetches.Flush();
        Tier?.FlushTlb(keepsGlobal: true);
        FlushJumpCache();
    }

    /// <summary>WRPKRU and XRSTOR: drops the translations of pages whose key has other rights now.</summary>
    public void SetPkru(uint value)
    {
        uint changed = State->Pkru ^ value;
        State->Pkru = value;
        if (changed == 0 || (State->Cr4 & Cr4.ProtectionKeyEnable) == 0)
        {
            // While CR4.PKE is clear nothing depends on it, and setting that drops everything.
            return;
        }

        uint keys = 0;
        for (int key = 0; key < 16; key++)
        {
            keys |= ((changed >> (2 * key)) & 3) != 0 ? 1u << key : 0;
        }

        for (int i = 0; i < _filledCount; i++)
        {
            TlbEntry* entry = _tlb + _filled[i];
            if ((entry->KeyBit & keys) != 0)
            {
                // It stays in the list, empty: the next flush takes it out.
                Drop(entry);
            }
        }

        Tier?.DropKeys(keys);
    }

    /// <summary>Drops the translation of one linear page (INVLPG), which may be a large one with many entries.</summary>
    public void InvalidatePage(ulong linear)
    {
        if (_largePages.MayHold(linear))
        {
            for (int i = 0; i < _filledCount; i++)
            {
                DropIfHolds(_tlb + _filled[i], linear);
            }

            _fetches.Flush();
        }
        else
        {
            for (int set = 0; set < TlbSets; set++)
            {
                DropIfHolds(_tlb + (set * TlbEntry.Count) + (int)((linear >> 12) & (TlbEntry.Count - 1)), linear);
            }

            _fetches.Invalidate(linear);
        }

        Tier?.InvalidatePage(linear);
        FlushJumpCache();
    }

    /// <summary>Makes the jump cache stale, in one step: its entries carry a generation.</summary>
    public void FlushJumpCache()
    {
        _jumpGeneration += CodeMode.GenerationStep;
        if (_jumpGeneration == 0)
        {
            // The counter has come round: entries of its first time may still stand.
            new Span<JumpCacheEntry>(State->JumpCache, JumpCacheEntry.Count).Fill(new JumpCacheEntry { Rip = ulong.MaxValue });
        }

        State->JumpTag = State->Mode | _jumpGeneration;
    }

    /// <summary>Takes write tags away from every alias of a physical page, so that writes to it are seen.</summary>
    public void DropWriteTags(ulong physicalPage)
    {
        long host = (long)Memory.GetPointer(physicalPage);
        Tier?.DropWriteTags((ulong)host);
        for (int i = 0; i < _filledCount; i++)
        {
            TlbEntry* entry = _tlb + _filled[i];
            if (entry->WriteTag != TlbEntry.NoTag && (long)entry->WriteTag + entry->Addend == host)
            {
                entry->WriteTag = TlbEntry.NoTag;
            }
        }
    }

    /// <summary>Copies between a buffer and guest physical addresses within one page: RAM, the local APIC or a device.</summary>
    public void MovePhysical(ulong physical, byte* buffer, int size, Access access)
    {
        byte* pointer = Memory.GetPointer(physical);
        bool write = (access & Access.Write) != 0;
        if (pointer == null)
        {
            MoveDevice(physical, new Span<byte>(buffer, size), write);
        }
        else if (!write)
        {
            CopyWhole(buffer, pointer, size);
        }
        else
        {
            CopyWhole(pointer, buffer, size);
            long page = Memory.GetPageIndex(physical);
            if (Memory.Pages.HasCode(page))
            {
                Memory.NotifyCodeWritten(physical, size);
            }
        }
    }

    /// <summary>See <see cref="GuestAccess.BeginModify"/>.</summary>
    public byte* BeginModifySlow(ulong linear, int size)
    {
        if ((State->Mode & CodeMode.BitnessMask) != CodeMode.Bits64)
        {
            linear = (uint)linear;
        }

        // The write check comes first: a read-modify-write to a read-only page is a write fault.
        if (!AccessSlow(linear, size, null, Access.Write | Access.Probe))
        {
            return null;
        }

        if ((linear & 0xFFF) + (ulong)size <= 4096)
        {
            if (!TryTranslate(linear, Access.Write, out ulong physical))
            {
                // Another processor has changed the tables meanwhile.
                return null;
            }

            byte* pointer = Memory.GetPointer(physical);
            if (pointer != null)
            {
                CheckWatchpoints(linear, size, true);
                State->BounceAddress = physical;
                State->BounceSize = size;
                State->BounceIsDirect = 1;
                return pointer;
            }
        }

        bool crossesPage = (linear & 0xFFF) + (ulong)size > 4096;
        if (crossesPage)
        {
            _bus.Take(this);
        }

        if (!AccessSlow(linear, size, State->Bounce, Access.Read))
        {
            _bus.Release(this);
            return null;
        }

        State->BounceAddress = linear;
        State->BounceSize = size;
        State->BounceIsDirect = 0;
        return State->Bounce;
    }

    /// <summary>See <see cref="GuestAccess.EndModify"/>.</summary>
    public void EndModifySlow()
    {
        int size = State->BounceSize;
        State->BounceSize = 0;
        if (State->BounceIsDirect != 0)
        {
            if (Memory.Pages.HasCode(Memory.GetPageIndex(State->BounceAddress)))
            {
                Memory.NotifyCodeWritten(State->BounceAddress, size);
            }

            return;
        }

        // Rights were checked by BeginModify and no other instruction ran since; a page table changed by another
        // processor in between makes the write vanish, as a stale TLB entry could.
        AccessSlow(State->BounceAddress, size, State->Bounce, Access.Write);
        State->FaultVector = NothingPending;
        _bus.Release(this);
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

    /// <summary>Whether code of the current paging mode can use the address.</summary>
    public bool IsCanonical(ulong linear) => Addressing.IsCanonical(State, linear);

    // Values of up to 8 bytes must not be seen half-written by another processor.
    private static void CopyWhole(byte* to, byte* from, int size)
    {
        switch (size)
        {
            case 1:
                *to = *from;
                break;
            case 2:
                *(ushort*)to = *(ushort*)from;
                break;
            case 4:
                *(uint*)to = *(uint*)from;
                break;
            case 8:
                *(ulong*)to = *(ulong*)from;
                break;
            default:
                Unsafe.CopyBlockUnaligned(to, from, (uint)size);
                break;
        }
    }

    private void MoveDevice(ulong physical, Span<byte> data, bool write)
    {
        LeaveGuest();
        // Devices take naturally sized pieces.
        while (data.Length > 0)
        {
            int piece = data.Length >= 8 ? 8 : data.Length >= 4 ? 4 : data.Length >= 2 ? 2 : 1;
            Span<byte> part = data[..piece];
            ulong apicOffset = physical - (Lapic.ApicBase & 0xFFFF_FFFF_F000);
            bool apic = apicOffset < 4096 && (Lapic.ApicBase & 0xC00) == 0x800;
            if (apic && write)
            {
                Lapic.WriteMmio((uint)apicOffset, part);
            }
            else if (apic)
            {
                Lapic.ReadMmio((uint)apicOffset, part);
            }
            else if (write)
            {
                Io.WriteMmio(physical, part);
            }
            else
            {
                Io.ReadMmio(physical, part);
            }

            physical += (ulong)piece;
            data = data[piece..];
        }

        ReenterGuest();
    }

    private void FillTlb(TlbEntry* set, ulong linear, in Translation translation)
    {
        byte* host = Memory.GetPointer(translation.Physical & ~0xFFFUL);
        if (host == null || set == _tlb + (EmptySet * TlbEntry.Count) || IsWatched(linear))
        {
            return;
        }

        ulong page = linear & ~0xFFFUL;
        TlbEntry* entry = set + ((linear >> 12) & (TlbEntry.Count - 1));
        int number = (int)(entry - _tlb);
        if (!_isListed[number])
        {
            _isListed[number] = true;
            _filled[_filledCount++] = (ushort)number;
        }

        if (translation.PageMask > 0xFFF)
        {
            _largePages.Add(linear, translation.PageMask);
        }

        entry->PageMask = translation.PageMask | (translation.Global ? TlbEntry.GlobalMark : 0)
            | (translation.Key < 0 ? 0 : TlbEntry.KeyMark | ((ulong)translation.Key << TlbEntry.KeyShift));
        entry->ReadTag = page;
        entry->WriteTag = TlbEntry.NoTag;
        entry->Addend = (long)host - (long)page;
        long index = Memory.GetPageIndex(translation.Physical);
        if (translation.Writable && !Memory.Pages.HasCode(index))
        {
            entry->WriteTag = page;
            Memory.Pages.SetDirty(index);
        }
    }
}
