using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>Where a linear page lies and what may be done with it.</summary>
/// <param name="Physical">Guest physical address of the byte asked for.</param>
/// <param name="Writable">A write with the same rights would need no further walk: permitted, and the dirty bit is set.</param>
/// <param name="User">Every level allows user access.</param>
/// <param name="Global">Stays valid across writes of CR3.</param>
/// <param name="PageMask">The bits of the address inside the page: 0xFFF for a 4 KiB page.</param>
/// <param name="Key">The protection key that the rights depend on, or <see cref="NoKey"/>.</param>
internal readonly record struct Translation(ulong Physical, bool Writable, bool User, bool Global, ulong PageMask, int Key = Translation.NoKey)
{
    public const int NoKey = -1;
}

/// <summary>
/// Translates linear to physical addresses by the guest's page tables: no paging, 32-bit (with 4 MiB pages), PAE,
/// 4-level and 5-level, the last two with protection keys. Source: Intel SDM volume 3, chapter "Paging".
/// </summary>
internal sealed unsafe class PageWalker(GuestMemory memory)
{
    /// <summary>Physical address width that CPUID leaf 0x80000008 shows.</summary>
    public const int PhysicalBits = 40;

    private const ulong PhysicalReserved = PageTableEntry.AddressMask & ~((1UL << PhysicalBits) - 1);

    /// <summary>In place of an error code: an entry was no longer what the walk had read, so it must begin anew.</summary>
    private const uint TablesChanged = uint.MaxValue;

    private static readonly Translation Nothing = default;

    /// <summary>Walks so far: misses of the TLBs, and whatever must look at the tables anew.</summary>
    public long Count { get; private set; }

    /// <summary>
    /// Walks the tables, sets accessed and dirty bits. On false, <paramref name="error"/> is the page-fault error code.
    /// </summary>
    public bool TryTranslate(CpuState* state, ulong linear, Access access, out Translation translation, out uint error)
    {
        if ((state->Cr0 & Cr0.Paging) == 0)
        {
            translation = new Translation((uint)linear, true, true, false, 0xFFF);
            error = 0;
            return true;
        }

        Count++;
        bool user = state->Cpl == 3 && (access & Access.System) == 0;
        error = (access & Access.Write) != 0 ? PageFaultError.Write : 0;
        error |= user ? PageFaultError.User : 0;
        bool noExecute = (state->Efer & Efer.NoExecuteEnable) != 0 && (state->Cr4 & Cr4.PhysicalAddressExtension) != 0;
        if ((access & Access.Fetch) != 0 && (noExecute || (state->Cr4 & Cr4.SupervisorModeExecutionPrevention) != 0))
        {
            error |= PageFaultError.InstructionFetch;
        }

        uint first = error;
        bool found;
        do
        {
            error = first;
            found = (state->Cr4 & Cr4.PhysicalAddressExtension) != 0
                ? TryWalkLong(state, linear, access, user, out translation, ref error)
                : TryWalk32(state, linear, access, user, out translation, ref error);
        }
        while (!found && error == TablesChanged);
        return found;
    }

    private bool TryWalkLong(CpuState* state, ulong linear, Access access, bool user, out Translation translation, ref uint error)
    {
        translation = Nothing;
        bool longMode = (state->Efer & Efer.LongModeActive) != 0;
        bool noExecuteEnabled = (state->Efer & Efer.NoExecuteEnable) != 0;
        ulong reserved = PhysicalReserved | (noExecuteEnabled ? 0 : PageTableEntry.NoExecute);
        ulong rights = PageTableEntry.Writable | PageTableEntry.User;
        ulong noExecute = 0;
        int level = !longMode ? 3 : (state->Cr4 & Cr4.LinearAddress57) != 0 ? 5 : 4;
        ulong table = longMode ? state->Cr3 & PageTableEntry.AddressMask : state->Cr3 & 0xFFFF_FFE0;
        while (true)
        {
            int shift = 12 + (9 * (level - 1));
            ulong index = (linear >> shift) & (level == 3 && !longMode ? 3UL : 511UL);
            ulong slotAddress = table + (index * 8);
            ulong* slot = (ulong*)memory.GetPointer(slotAddress);

            // Tables outside RAM read as all-ones on a PC's bus, which has reserved bits set.
            ulong entry = slot == null ? ulong.MaxValue : Volatile.Read(ref *slot);
            if ((entry & PageTableEntry.Present) == 0)
            {
                return false;
            }

            bool pointers = level == 3 && !longMode;
            bool leaf = level == 1 || ((entry & PageTableEntry.PageSize) != 0 && level is 2 or 3 && !pointers && (level == 2 || longMode));
            ulong mustBeZero = pointers ? PhysicalReserved | PageTableEntry.NoExecute | 0x1E6 : reserved;
            mustBeZero |= level >= 4 ? PageTableEntry.PageSize : 0;
            mustBeZero |= leaf && level > 1 ? ((1UL << shift) - 1) & PageTableEntry.AddressMask & ~0x1000UL : 0;
            if ((entry & mustBeZero) != 0 || (!longMode && (entry & 0x7FF0_0000_0000_0000) != 0))
            {
                error |= PageFaultError.Present | PageFaultError.ReservedBit;
                return false;
            }

            if (!pointers)
            {
                rights &= entry;
                noExecute |= entry & PageTableEntry.NoExecute;
            }

            if (leaf)
            {
                ulong offsetMask = (1UL << shift) - 1;
                ulong physical = (entry & PageTableEntry.AddressMask & ~offsetMask) | (linear & offsetMask);
                return TryFinish(state, slot, slotAddress, entry, 8, access, user, rights, noExecute, physical, offsetMask, out translation, ref error);
            }

            if (!pointers && (entry & PageTableEntry.Accessed) == 0 && !TrySetBits(slot, slotAddress, entry, 8, PageTableEntry.Accessed, ref error))
            {
                return false;
            }

            table = entry & PageTableEntry.AddressMask;
            level--;
        }
    }

    private bool TryWalk32(CpuState* state, ulong linear, Access access, bool user, out Translation translation, ref uint error)
    {
        translation = Nothing;
        ulong slotAddress = (state->Cr3 & 0xFFFF_F000) + (((uint)linear >> 22) * 4);
        uint* slot = (uint*)memory.GetPointer(slotAddress);
        uint directory = slot == null ? uint.MaxValue : Volatile.Read(ref *slot);
        if ((directory & PageTableEntry.Present) == 0)
        {
            return false;
        }

        if ((directory & PageTableEntry.PageSize) != 0 && (state->Cr4 & Cr4.PageSizeExtensions) != 0)
        {
            // PSE-36: bits 20:13 are address bits 39:32; bit 21 is reserved.
            if ((directory & (1u << 21)) != 0)
            {
                error |= PageFaultError.Present | PageFaultError.ReservedBit;
                return false;
            }

            ulong physical = (directory & 0xFFC0_0000) | ((ulong)((directory >> 13) & 0xFF) << 32) | (linear & 0x3F_FFFF);
            return TryFinish(state, slot, slotAddress, directory, 4, access, user, directory, 0, physical, 0x3F_FFFF, out translation, ref error);
        }

        if ((directory & PageTableEntry.Accessed) == 0 && !TrySetBits(slot, slotAddress, directory, 4, PageTableEntry.Accessed, ref error))
        {
            return false;
        }

        ulong pageSlotAddress = (directory & 0xFFFF_F000) + (((linear >> 12) & 0x3FF) * 4);
        uint* pageSlot = (uint*)memory.GetPointer(pageSlotAddress);
        uint page = pageSlot == null ? uint.MaxValue : Volatile.Read(ref *pageSlot);
        if ((page & PageTableEntry.Present) == 0)
        {
            return false;
        }

        return TryFinish(state, pageSlot, pageSlotAddress, page, 4, access, user, directory & page, 0, (page & 0xFFFF_F000) | (linear & 0xFFF), 0xFFF, out translation, ref error);
    }

    private bool TryFinish(CpuState* state, void* slot, ulong slotAddress, ulong entry, int entrySize, Access access, bool user, ulong rights, ulong noExecute, ulong physical, ulong pageMask, out Translation translation, ref uint error)
    {
        translation = Nothing;
        bool userPage = (rights & PageTableEntry.User) != 0;
        bool writeAllowed = (rights & PageTableEntry.Writable) != 0 || (!user && (state->Cr0 & Cr0.WriteProtect) == 0);
        bool allowed = !user || userPage;
        allowed &= (access & Access.Write) == 0 || writeAllowed;
        if ((access & Access.Fetch) != 0)
        {
            allowed &= noExecute == 0;
            allowed &= user || !userPage || (state->Cr4 & Cr4.SupervisorModeExecutionPrevention) == 0;
        }
        else if (!user && userPage && (state->Cr4 & Cr4.SupervisorModeAccessPrevention) != 0)
        {
            // An implicit system access obeys SMAP whatever RFLAGS.AC says; so does an explicit one with AC clear.
            allowed &= (state->Flags & Rflags.AlignmentCheck) != 0 && (access & Access.System) == 0;
        }

        int key = userPage ? FindKey(state, entry) : Translation.NoKey;
        if (key != Translation.NoKey)
        {
            // Both bits hold for every level; a supervisor with CR0.WP clear writes whatever the second says.
            uint denied = (state->Pkru >> (2 * key)) & 3;
            bool readDenied = (denied & Pkru.AccessDisable) != 0;
            bool writeDenied = readDenied || ((denied & Pkru.WriteDisable) != 0 && (user || (state->Cr0 & Cr0.WriteProtect) != 0));
            writeAllowed &= !writeDenied;
            if ((access & Access.Fetch) == 0 && ((access & Access.Write) != 0 ? writeDenied : readDenied))
            {
                allowed = false;
                error |= PageFaultError.ProtectionKey;
            }
        }

        if (!allowed)
        {
            error |= PageFaultError.Present;
            return false;
        }

        ulong wanted = PageTableEntry.Accessed | ((access & Access.Write) != 0 ? PageTableEntry.Dirty : 0);
        if ((entry & wanted) != wanted && slot != null)
        {
            if (!TrySetBits(slot, slotAddress, entry, entrySize, wanted, ref error))
            {
                return false;
            }

            entry |= wanted;
        }

        bool global = (entry & PageTableEntry.Global) != 0 && (state->Cr4 & Cr4.PageGlobalEnable) != 0;
        translation = new Translation(physical, writeAllowed && (entry & PageTableEntry.Dirty) != 0, userPage, global, pageMask, key);
        return true;
    }

    /// <summary>The protection key of a user page, which only 8-byte entries of long mode have.</summary>
    private static int FindKey(CpuState* state, ulong entry) =>
        (state->Cr4 & Cr4.ProtectionKeyEnable) != 0 && (state->Efer & Efer.LongModeActive) != 0
            ? (int)(entry >> PageTableEntry.KeyShift) & 15
            : Translation.NoKey;

    /// <summary>
    /// Sets bits in an entry that is still what the walk has read. Another processor may have made it something else, not
    /// present perhaps, whose bits mean other things.
    /// </summary>
    private bool TrySetBits(void* slot, ulong slotAddress, ulong seen, int entrySize, ulong bits, ref uint error)
    {
        // SAFETY: slot points at an entry in guest RAM, aligned to its size.
        bool done = entrySize == 8
            ? Interlocked.CompareExchange(ref *(ulong*)slot, seen | bits, seen) == seen
            : Interlocked.CompareExchange(ref *(uint*)slot, (uint)(seen | bits), (uint)seen) == (uint)seen;
        if (!done)
        {
            error = TablesChanged;
            return false;
        }

        memory.MarkWritten(slotAddress, entrySize);
        return true;
    }
}
