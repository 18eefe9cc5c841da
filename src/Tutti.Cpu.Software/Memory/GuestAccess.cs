using System.Runtime.CompilerServices;

namespace Tutti.Cpu.Software;

/// <summary>
/// How handlers reach guest memory by linear address, with the rights of the current privilege level. Each accessor
/// tries the TLB inline; what it does not hold goes to <see cref="LoadStoreUnit.TryAccess"/>. A false (or null)
/// answer means that a fault has been raised and nothing was changed.
/// </summary>
/// <remarks>
/// SAFETY: a tag is set only while the whole page at Addend is guest RAM of this machine, and the compare of the last
/// byte's page with the tag of the first byte's entry fails for whatever crosses the page's end.
/// </remarks>
public static unsafe class GuestAccess
{
    /// <summary>Reads a value, zero-extended.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool Read<TWidth>(CpuState* state, ulong linear, out ulong value)
        where TWidth : struct, IWidth
    {
        TlbEntry* entry = state->Tlb + ((linear >> 12) & (TlbEntry.Count - 1));
        if (((linear + (ulong)(TWidth.Bytes - 1)) & ~0xFFFUL) == entry->ReadTag)
        {
            value = TWidth.Load((byte*)((long)linear + entry->Addend));
            return true;
        }

        return ReadSlow(state, linear, TWidth.Bytes, out value);
    }

    /// <summary>Writes the low bytes of a value.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool Write<TWidth>(CpuState* state, ulong linear, ulong value)
        where TWidth : struct, IWidth
    {
        TlbEntry* entry = state->Tlb + ((linear >> 12) & (TlbEntry.Count - 1));
        if (((linear + (ulong)(TWidth.Bytes - 1)) & ~0xFFFUL) == entry->WriteTag)
        {
            TWidth.Store((byte*)((long)linear + entry->Addend), value);
            return true;
        }

        return WriteSlow(state, linear, TWidth.Bytes, value);
    }

    /// <summary>
    /// Starts a read-modify-write: gives where the operand can be read and written, or null after a fault. All rights
    /// for the write have been checked. The operand may be a copy, which <see cref="EndModify"/> writes back; it is the
    /// memory itself wherever it lies in one page of RAM, so that locked instructions are atomic.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static byte* BeginModify(CpuState* state, ulong linear, int size)
    {
        TlbEntry* entry = state->Tlb + ((linear >> 12) & (TlbEntry.Count - 1));
        if (((linear + (ulong)(size - 1)) & ~0xFFFUL) == entry->WriteTag)
        {
            return (byte*)((long)linear + entry->Addend);
        }

        return BeginModifySlow(state, linear, size);
    }

    /// <summary>Ends what <see cref="BeginModify"/> started.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void EndModify(CpuState* state)
    {
        if (state->BounceSize != 0)
        {
            EndModifySlow(state);
        }
    }

    /// <summary>Copies up to 4096 guest bytes out.</summary>
    public static bool ReadBytes(CpuState* state, ulong linear, byte* buffer, int size)
    {
        TlbEntry* entry = state->Tlb + ((linear >> 12) & (TlbEntry.Count - 1));
        if (((linear + (ulong)(size - 1)) & ~0xFFFUL) == entry->ReadTag)
        {
            Unsafe.CopyBlockUnaligned(buffer, (byte*)((long)linear + entry->Addend), (uint)size);
            return true;
        }

        return LoadStoreUnit.From(state).TryAccess(linear, size, buffer, Access.Read);
    }

    /// <summary>Copies up to 4096 bytes into guest memory: all of them, or none after a fault.</summary>
    public static bool WriteBytes(CpuState* state, ulong linear, byte* buffer, int size)
    {
        TlbEntry* entry = state->Tlb + ((linear >> 12) & (TlbEntry.Count - 1));
        if (((linear + (ulong)(size - 1)) & ~0xFFFUL) == entry->WriteTag)
        {
            Unsafe.CopyBlockUnaligned((byte*)((long)linear + entry->Addend), buffer, (uint)size);
            return true;
        }

        return LoadStoreUnit.From(state).TryAccess(linear, size, buffer, Access.Write);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static bool ReadSlow(CpuState* state, ulong linear, int size, out ulong value)
    {
        ulong buffer = 0;
        bool done = LoadStoreUnit.From(state).TryAccess(linear, size, (byte*)&buffer, Access.Read);
        value = buffer;
        return done;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static bool WriteSlow(CpuState* state, ulong linear, int size, ulong value) =>
        LoadStoreUnit.From(state).TryAccess(linear, size, (byte*)&value, Access.Write);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static byte* BeginModifySlow(CpuState* state, ulong linear, int size) =>
        LoadStoreUnit.From(state).BeginModify(linear, size);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void EndModifySlow(CpuState* state) => LoadStoreUnit.From(state).EndModify();
}
