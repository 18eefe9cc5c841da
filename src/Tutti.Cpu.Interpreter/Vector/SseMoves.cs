using System.Runtime.CompilerServices;

namespace Tutti.Cpu.Interpreter;

/// <summary>
/// SSE moves in plain C#: they are most of what compiled code does with XMM registers. Low half of Target: offset of the
/// destination in <see cref="CpuState"/>, high half: of the source (registers only).
/// </summary>
// SAFETY for all handlers: offsets were made from register numbers by the translator; memory goes through GuestAccess.
internal static unsafe class SseMoves
{
    public static Op* Load128<TAddress, TAligned>(CpuState* state, Op* op)
        where TAddress : struct, IAddress
        where TAligned : struct, IAlignment
    {
        if (state->FpuTraps != 0)
        {
            return VectorOps.SseUnavailable(state, op);
        }

        if (!TAddress.TryGet(state, op, 16, false, out ulong linear))
        {
            return Flow.Fault(state, op);
        }

        if (TAligned.Is16 && (linear & 15) != 0)
        {
            return VectorOps.Misaligned(state, op);
        }

        byte* memory = VectorMemory.Read(state, linear, 16);
        if (memory == null)
        {
            return Flow.Fault(state, op);
        }

        // SAFETY: VectorMemory gives a pointer to as many bytes as asked for; vector registers have 16.
        Unsafe.CopyBlockUnaligned(Destination(state, op), memory, 16);
        return op + 1;
    }

    public static Op* Store128<TAddress, TAligned>(CpuState* state, Op* op)
        where TAddress : struct, IAddress
        where TAligned : struct, IAlignment
    {
        if (state->FpuTraps != 0)
        {
            return VectorOps.SseUnavailable(state, op);
        }

        if (!TAddress.TryGet(state, op, 16, true, out ulong linear))
        {
            return Flow.Fault(state, op);
        }

        if (TAligned.Is16 && (linear & 15) != 0)
        {
            return VectorOps.Misaligned(state, op);
        }

        return VectorMemory.Write128(state, linear, Source(state, op)) ? op + 1 : Flow.Fault(state, op);
    }

    /// <summary>Loads an element; the rest of the 16 bytes is cleared or kept.</summary>
    public static Op* Load<TAddress, TWidth, TRest>(CpuState* state, Op* op)
        where TAddress : struct, IAddress
        where TWidth : struct, IWidth
        where TRest : struct, IRest
    {
        if (state->FpuTraps != 0)
        {
            return VectorOps.SseUnavailable(state, op);
        }

        if (!TAddress.TryGet(state, op, TWidth.Bytes, false, out ulong linear)
            || !GuestAccess.Read<TWidth>(state, linear, out ulong value))
        {
            return Flow.Fault(state, op);
        }

        Put<TWidth, TRest>(Destination(state, op), value);
        return op + 1;
    }

    /// <summary>Stores an element.</summary>
    public static Op* Store<TAddress, TWidth>(CpuState* state, Op* op)
        where TAddress : struct, IAddress
        where TWidth : struct, IWidth
    {
        if (state->FpuTraps != 0)
        {
            return VectorOps.SseUnavailable(state, op);
        }

        return TAddress.TryGet(state, op, TWidth.Bytes, true, out ulong linear)
            && GuestAccess.Write<TWidth>(state, linear, TWidth.Load(Source(state, op)))
            ? op + 1
            : Flow.Fault(state, op);
    }

    /// <summary>Stores a general register: MOVNTI, which no SSE availability rule touches.</summary>
    public static Op* StoreGeneral<TWidth>(CpuState* state, Op* op)
        where TWidth : struct, IWidth =>
        AnyAddress.TryGet(state, op, TWidth.Bytes, true, out ulong linear)
        && GuestAccess.Write<TWidth>(state, linear, TWidth.Load(Source(state, op)))
            ? op + 1
            : Flow.Fault(state, op);

    public static Op* Copy128(CpuState* state, Op* op)
    {
        if (state->FpuTraps != 0)
        {
            return VectorOps.SseUnavailable(state, op);
        }

        Unsafe.CopyBlockUnaligned(Destination(state, op), Source(state, op), 16);
        return op + 1;
    }

    /// <summary>Moves an element between registers.</summary>
    public static Op* Copy<TWidth, TRest>(CpuState* state, Op* op)
        where TWidth : struct, IWidth
        where TRest : struct, IRest
    {
        if (state->FpuTraps != 0)
        {
            return VectorOps.SseUnavailable(state, op);
        }

        Put<TWidth, TRest>(Destination(state, op), TWidth.Load(Source(state, op)));
        return op + 1;
    }

    /// <summary>PXOR or XORPS of a register with itself, the usual way to clear it.</summary>
    public static Op* Clear128(CpuState* state, Op* op)
    {
        if (state->FpuTraps != 0)
        {
            return VectorOps.SseUnavailable(state, op);
        }

        *(UInt128*)Destination(state, op) = default;
        return op + 1;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static byte* Destination(CpuState* state, Op* op) => (byte*)state + (ushort)op->Target;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static byte* Source(CpuState* state, Op* op) => (byte*)state + ((uint)op->Target >> 16);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Put<TWidth, TRest>(byte* destination, ulong value)
        where TWidth : struct, IWidth
        where TRest : struct, IRest
    {
        switch (TRest.Cleared)
        {
            case 16:
                *(ulong*)destination = value;
                *(ulong*)(destination + 8) = 0;
                break;
            case 8:
                *(ulong*)destination = value;
                break;
            default:
                TWidth.Store(destination, value);
                break;
        }
    }
}

/// <summary>Whether a 16-byte operand must lie on its boundary.</summary>
internal interface IAlignment
{
    static abstract bool Is16 { get; }
}

internal struct Aligned : IAlignment
{
    public static bool Is16 => true;
}

internal struct Unaligned : IAlignment
{
    public static bool Is16 => false;
}

/// <summary>How many bytes of the destination get a value: the element's own, or more, with zeros above it.</summary>
internal interface IRest
{
    /// <summary>16: a whole XMM register; 8: a whole general register; 0: only the element.</summary>
    static abstract int Cleared { get; }
}

internal struct KeepRest : IRest
{
    public static int Cleared => 0;
}

internal struct ClearXmm : IRest
{
    public static int Cleared => 16;
}

internal struct ClearGeneral : IRest
{
    public static int Cleared => 8;
}
