using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>The slow path of guest memory: walks, page crossings, devices, pages with decoded code.</summary>
/// <remarks>
/// SAFETY: guest pointers come from <see cref="GuestMemory.GetPointer"/> and are used to the end of their page at most;
/// buffers are those of the caller, who gives their size.
/// </remarks>
public sealed unsafe class LoadStoreUnit : IDisposable
{
    private readonly CpuState* _state;
    private readonly GuestMemory _memory;
    private readonly ICpuIo _io;
    private readonly ILocalApic _lapic;
    private readonly Breakpoints _breakpoints;
    private readonly Tlb _tlb;
    private readonly GuestPresence _presence;
    private readonly BusLock _bus;
    private GCHandle _self;

    internal LoadStoreUnit(
        CpuState* state, GuestMemory memory, ICpuIo io, ILocalApic lapic, Breakpoints breakpoints, Tlb tlb, GuestPresence presence,
        BusLock bus)
    {
        _state = state;
        _memory = memory;
        _io = io;
        _lapic = lapic;
        _breakpoints = breakpoints;
        _tlb = tlb;
        _presence = presence;
        _bus = bus;
        _self = GCHandle.Alloc(this);
        _state->LoadStore = GCHandle.ToIntPtr(_self);
    }

    /// <summary>The unit of the processor that owns a state.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static LoadStoreUnit From(CpuState* state) =>
        Unsafe.As<LoadStoreUnit>(GCHandle.FromIntPtr(state->LoadStore).Target!);

    public void Dispose()
    {
        if (_self.IsAllocated)
        {
            _self.Free();
        }
    }

    /// <summary>
    /// Moves bytes between guest memory and a buffer, or only probes: checks canonical form, alignment (when armed)
    /// and the rights of every page before it moves the first byte. False after a fault was raised.
    /// </summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public bool TryAccess(ulong linear, int size, byte* buffer, Access access)
    {
        if ((_state->Mode & CodeMode.BitnessMask) == CodeMode.Bits64)
        {
            if (!CpuState.IsCanonical(_state, linear) || !CpuState.IsCanonical(_state, linear + (ulong)size - 1))
            {
                Faults.Raise(_state, Faults.NonCanonical, 0);
                return false;
            }
        }
        else if ((access & Access.System) == 0)
        {
            linear = (uint)linear;
        }

        if (_tlb.ChecksAlignment && (access & (Access.System | Access.Fetch)) == 0
            && size is 2 or 4 or 8 && (linear & (ulong)(size - 1)) != 0)
        {
            Faults.Raise(_state, ExceptionVector.AlignmentCheck, 0);
            return false;
        }

        int first = Math.Min(size, 4096 - (int)(linear & 0xFFF));
        if (!_tlb.TryTranslate(linear, access, out ulong physical))
        {
            return false;
        }

        ulong secondPhysical = 0;
        ulong second = linear + (ulong)first;
        if ((_state->Efer & Efer.LongModeActive) == 0)
        {
            second = (uint)second;
        }

        if (first < size && !_tlb.TryTranslate(second, access, out secondPhysical))
        {
            return false;
        }

        if ((access & Access.Probe) != 0)
        {
            return true;
        }

        _breakpoints.NoteAccess(linear, size, (access & Access.Write) != 0);
        MovePhysical(physical, buffer, first, access);
        if (first < size)
        {
            MovePhysical(secondPhysical, buffer + first, size - first, access);
        }

        return true;
    }

    /// <summary>Reads a value with the processor's own (supervisor) rights: descriptor tables, TSS, interrupt vectors.</summary>
    internal bool TryReadSystem<T>(ulong linear, out T value)
        where T : unmanaged
    {
        T buffer;
        TlbEntry* entry = _tlb.SupervisorEntry(linear);
        if (((linear + (ulong)(sizeof(T) - 1)) & ~0xFFFUL) == entry->ReadTag)
        {
            // The set of a supervisor without RFLAGS.AC: the same rights.
            value = Unsafe.ReadUnaligned<T>((byte*)((long)linear + entry->Addend));
            return true;
        }

        bool done = TryAccess(linear, sizeof(T), (byte*)&buffer, Access.System);
        value = done ? buffer : default;
        return done;
    }

    /// <summary>Writes a value with the processor's own (supervisor) rights.</summary>
    internal bool TryWriteSystem<T>(ulong linear, T value)
        where T : unmanaged => TryWriteSystem(linear, (byte*)&value, sizeof(T));

    /// <summary>The same for at most a page of bytes.</summary>
    internal bool TryWriteSystem(ulong linear, byte* bytes, int size)
    {
        TlbEntry* entry = _tlb.SupervisorEntry(linear);
        if (((linear + (ulong)(size - 1)) & ~0xFFFUL) == entry->WriteTag)
        {
            // The index comes from the first byte, the page from the last one: both lie in it.
            Unsafe.CopyBlockUnaligned((byte*)((long)linear + entry->Addend), bytes, (uint)size);
            return true;
        }

        return TryAccess(linear, size, bytes, Access.System | Access.Write);
    }

    /// <summary>Copies between a buffer and guest physical addresses within one page: RAM, the local APIC or a device.</summary>
    public void MovePhysical(ulong physical, byte* buffer, int size, Access access)
    {
        byte* pointer = _memory.GetPointer(physical);
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
            long page = _memory.GetPageIndex(physical);
            if (_memory.Pages.HasCode(page))
            {
                _memory.NotifyCodeWritten(physical, size);
            }
        }
    }

    /// <summary>See <see cref="GuestAccess.BeginModify"/>.</summary>
    public byte* BeginModify(ulong linear, int size)
    {
        if ((_state->Mode & CodeMode.BitnessMask) != CodeMode.Bits64)
        {
            linear = (uint)linear;
        }

        // The write check comes first: a read-modify-write to a read-only page is a write fault.
        if (!TryAccess(linear, size, null, Access.Write | Access.Probe))
        {
            return null;
        }

        if ((linear & 0xFFF) + (ulong)size <= 4096)
        {
            if (!_tlb.TryTranslate(linear, Access.Write, out ulong physical))
            {
                // Another processor has changed the tables meanwhile.
                return null;
            }

            byte* pointer = _memory.GetPointer(physical);
            if (pointer != null)
            {
                _breakpoints.NoteAccess(linear, size, true);
                _state->BounceAddress = physical;
                _state->BounceSize = size;
                _state->BounceIsDirect = 1;
                return pointer;
            }
        }

        bool crossesPage = (linear & 0xFFF) + (ulong)size > 4096;
        if (crossesPage)
        {
            _bus.Take(_presence);
        }

        if (!TryAccess(linear, size, _state->Bounce, Access.Read))
        {
            _bus.Release(_presence);
            return null;
        }

        _state->BounceAddress = linear;
        _state->BounceSize = size;
        _state->BounceIsDirect = 0;
        return _state->Bounce;
    }

    /// <summary>See <see cref="GuestAccess.EndModify"/>.</summary>
    public void EndModify()
    {
        int size = _state->BounceSize;
        _state->BounceSize = 0;
        if (_state->BounceIsDirect != 0)
        {
            if (_memory.Pages.HasCode(_memory.GetPageIndex(_state->BounceAddress)))
            {
                _memory.NotifyCodeWritten(_state->BounceAddress, size);
            }

            return;
        }

        // Rights were checked by BeginModify and no other instruction ran since; a page table changed by another
        // processor in between makes the write vanish, as a stale TLB entry could.
        TryAccess(_state->BounceAddress, size, _state->Bounce, Access.Write);
        _state->FaultVector = Faults.None;
        _bus.Release(_presence);
    }

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
        _presence.Leave();
        // Devices take naturally sized pieces.
        while (data.Length > 0)
        {
            int piece = data.Length >= 8 ? 8 : data.Length >= 4 ? 4 : data.Length >= 2 ? 2 : 1;
            Span<byte> part = data[..piece];
            ulong apicOffset = physical - (_lapic.ApicBase & 0xFFFF_FFFF_F000);
            bool apic = apicOffset < 4096 && (_lapic.ApicBase & 0xC00) == 0x800;
            if (apic && write)
            {
                _lapic.WriteMmio((uint)apicOffset, part);
            }
            else if (apic)
            {
                _lapic.ReadMmio((uint)apicOffset, part);
            }
            else if (write)
            {
                _io.WriteMmio(physical, part);
            }
            else
            {
                _io.ReadMmio(physical, part);
            }

            physical += (ulong)piece;
            data = data[piece..];
        }

        _presence.Reenter();
    }
}
