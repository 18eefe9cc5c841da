using System.Runtime.CompilerServices;

namespace Tutti.Cpu.Interpreter;

/// <summary>Atomic operations on guest memory by width. The host's own locked instructions do the work, split or not.</summary>
internal static unsafe class Atomic
{
    /// <summary>Stores <paramref name="value"/> if the operand still holds <paramref name="expected"/>; returns what it held.</summary>
    // SAFETY: pointer comes from GuestAccess.BeginModify and has the width's bytes.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong CompareExchange<TWidth>(byte* pointer, ulong value, ulong expected)
        where TWidth : struct, IWidth => TWidth.Bytes switch
        {
            1 => Interlocked.CompareExchange(ref *pointer, (byte)value, (byte)expected),
            2 => Interlocked.CompareExchange(ref *(ushort*)pointer, (ushort)value, (ushort)expected),
            4 => Interlocked.CompareExchange(ref *(uint*)pointer, (uint)value, (uint)expected),
            _ => Interlocked.CompareExchange(ref *(ulong*)pointer, value, expected),
        };

    /// <summary>Stores a value and returns what was there.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Exchange<TWidth>(byte* pointer, ulong value)
        where TWidth : struct, IWidth => TWidth.Bytes switch
        {
            1 => Interlocked.Exchange(ref *pointer, (byte)value),
            2 => Interlocked.Exchange(ref *(ushort*)pointer, (ushort)value),
            4 => Interlocked.Exchange(ref *(uint*)pointer, (uint)value),
            _ => Interlocked.Exchange(ref *(ulong*)pointer, value),
        };
}
