using System.Runtime.CompilerServices;

namespace Tutti.Cpu.Interpreter;

/// <summary>Guest memory for operands of up to 16 bytes. Null or false: a fault has been raised and nothing was changed.</summary>
internal static unsafe class VectorMemory
{
    /// <summary>
    /// Where an operand can be read by the host: guest memory itself, or a copy on a 16-byte boundary that lives until
    /// the next call.
    /// </summary>
    // SAFETY: see GuestAccess; a page boundary is a multiple of 16 on both sides, so alignment carries over.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static byte* Read(CpuState* state, ulong linear, int size)
    {
        TlbEntry* entry = state->Tlb + ((linear >> 12) & (TlbEntry.Count - 1));
        if (((linear + (ulong)(size - 1)) & ~0xFFFUL) == entry->ReadTag)
        {
            return (byte*)((long)linear + entry->Addend);
        }

        return ReadSlow(state, linear, size);
    }

    /// <summary>Copies 16 bytes into guest memory.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool Write128(CpuState* state, ulong linear, byte* value)
    {
        TlbEntry* entry = state->Tlb + ((linear >> 12) & (TlbEntry.Count - 1));
        if (((linear + 15) & ~0xFFFUL) == entry->WriteTag)
        {
            Unsafe.CopyBlockUnaligned((byte*)((long)linear + entry->Addend), value, 16);
            return true;
        }

        return LoadStoreUnit.From(state).TryAccess(linear, 16, value, Access.Write);
    }

    /// <summary>Checks that up to 4096 bytes can be written, and changes nothing.</summary>
    public static bool ProbeWrite(CpuState* state, ulong linear, int size)
    {
        TlbEntry* entry = state->Tlb + ((linear >> 12) & (TlbEntry.Count - 1));
        return ((linear + (ulong)(size - 1)) & ~0xFFFUL) == entry->WriteTag
            || LoadStoreUnit.From(state).TryAccess(linear, size, null, Access.Write | Access.Probe);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static byte* ReadSlow(CpuState* state, ulong linear, int size)
    {
        byte* copy = state->VectorScratch;
        return LoadStoreUnit.From(state).TryAccess(linear, size, copy, Access.Read) ? copy : null;
    }
}
