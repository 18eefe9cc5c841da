using System.Buffers.Binary;
using System.Numerics;
using System.Runtime.CompilerServices;
using Tutti.Host;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>MOVBE, RDRAND, RDSEED, RDPID, POPCNT, TZCNT, LZCNT, CLFLUSH. Dst and Src are offsets of general registers.</summary>
// SAFETY for all handlers: register offsets come from RegisterOffset; memory goes through GuestAccess.
internal static unsafe class GeneralOps
{
    public static Op* LoadSwapped<TWidth>(CpuState* state, Op* op)
        where TWidth : struct, IWidth
    {
        if (!AnyAddress.TryGet(state, op, TWidth.Bytes, false, out ulong linear)
            || !GuestAccess.Read<TWidth>(state, linear, out ulong value))
        {
            return Flow.Fault(state, op);
        }

        TWidth.StoreRegister(CpuState.Register(state, op->Dst), Swap<TWidth>(value));
        return op + 1;
    }

    public static Op* StoreSwapped<TWidth>(CpuState* state, Op* op)
        where TWidth : struct, IWidth =>
        AnyAddress.TryGet(state, op, TWidth.Bytes, true, out ulong linear)
        && GuestAccess.Write<TWidth>(state, linear, Swap<TWidth>(TWidth.Load(CpuState.Register(state, op->Src))))
            ? op + 1
            : Flow.Fault(state, op);

    /// <summary>RDRAND and RDSEED: from the host's cryptographic generator, always ready.</summary>
    public static Op* Random<TWidth>(CpuState* state, Op* op)
        where TWidth : struct, IWidth
    {
        TWidth.StoreRegister(CpuState.Register(state, op->Dst), TWidth.Truncate(HostRandom.Next()));
        LazyFlags.SetArithmetic(state, Rflags.Carry);
        return op + 1;
    }

    /// <summary>RDPID: what RDTSCP has in ECX; all 64 bits of the register are written.</summary>
    public static Op* ReadProcessorId(CpuState* state, Op* op)
    {
        *(ulong*)CpuState.Register(state, op->Dst) = (uint)state->TscAux;
        return op + 1;
    }

    public static Op* CountRegister<TWidth, TCount>(CpuState* state, Op* op)
        where TWidth : struct, IWidth
        where TCount : struct, IBitCount
    {
        Count<TWidth, TCount>(state, op, TWidth.Load(CpuState.Register(state, op->Src)));
        return op + 1;
    }

    public static Op* CountMemory<TWidth, TCount>(CpuState* state, Op* op)
        where TWidth : struct, IWidth
        where TCount : struct, IBitCount
    {
        if (!AnyAddress.TryGet(state, op, TWidth.Bytes, false, out ulong linear)
            || !GuestAccess.Read<TWidth>(state, linear, out ulong value))
        {
            return Flow.Fault(state, op);
        }

        Count<TWidth, TCount>(state, op, value);
        return op + 1;
    }

    /// <summary>CLFLUSH, CLFLUSHOPT, CLWB: guest memory is coherent, but the address must be readable.</summary>
    public static Op* FlushLine(CpuState* state, Op* op) =>
        AnyAddress.TryGet(state, op, 1, false, out ulong linear)
        && LoadStoreUnit.From(state).TryAccess(linear, 1, null, Access.Read | Access.Probe)
            ? op + 1
            : Flow.Fault(state, op);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Count<TWidth, TCount>(CpuState* state, Op* op, ulong value)
        where TWidth : struct, IWidth
        where TCount : struct, IBitCount
    {
        ulong count = TCount.Count(value, TWidth.Bytes * 8);
        TWidth.StoreRegister(CpuState.Register(state, op->Dst), count);
        LazyFlags.SetArithmetic(state, TCount.Flags(value, count));
    }

    private static ulong Swap<TWidth>(ulong value)
        where TWidth : struct, IWidth => BinaryPrimitives.ReverseEndianness(value) >> (64 - (TWidth.Bytes * 8));
}

/// <summary>A bit count as a type, so that handlers are compiled once for each.</summary>
internal interface IBitCount
{
    /// <param name="value">Zero-extended operand.</param>
    /// <param name="bits">Its width.</param>
    static abstract ulong Count(ulong value, int bits);

    static abstract ulong Flags(ulong value, ulong count);
}

internal struct PopulationCount : IBitCount
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Count(ulong value, int bits) => (ulong)BitOperations.PopCount(value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Flags(ulong value, ulong count) => count == 0 ? Rflags.Zero : 0;
}

// CF: the operand was 0; ZF: the count is 0. The manual leaves the others undefined: they are cleared.
internal struct TrailingZeros : IBitCount
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Count(ulong value, int bits) => value == 0 ? (ulong)bits : (ulong)BitOperations.TrailingZeroCount(value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Flags(ulong value, ulong count) => (value == 0 ? Rflags.Carry : 0) | (count == 0 ? Rflags.Zero : 0);
}

internal struct LeadingZeros : IBitCount
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Count(ulong value, int bits) => (ulong)(BitOperations.LeadingZeroCount(value) - (64 - bits));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Flags(ulong value, ulong count) => (value == 0 ? Rflags.Carry : 0) | (count == 0 ? Rflags.Zero : 0);
}
