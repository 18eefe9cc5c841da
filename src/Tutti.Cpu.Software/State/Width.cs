using System.Runtime.CompilerServices;

namespace Tutti.Cpu.Software;

/// <summary>An operand width as a type, so that handlers are compiled once for each. Values travel zero-extended in a ulong.</summary>
public unsafe interface IWidth
{
    static abstract int Bytes { get; }

    static abstract ulong Load(byte* pointer);

    static abstract void Store(byte* pointer, ulong value);

    /// <summary>Writes a general register: 32-bit results clear the upper half.</summary>
    static abstract void StoreRegister(byte* pointer, ulong value);

    static abstract ulong Truncate(ulong value);

    static abstract long SignExtend(ulong value);
}

// SAFETY for all widths: pointers come from register offsets or from checked guest-memory accessors and have Bytes bytes.
public unsafe struct W8 : IWidth
{
    public static int Bytes => 1;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Load(byte* pointer) => *pointer;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(byte* pointer, ulong value) => *pointer = (byte)value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreRegister(byte* pointer, ulong value) => *pointer = (byte)value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Truncate(ulong value) => (byte)value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static long SignExtend(ulong value) => (sbyte)value;
}

public unsafe struct W16 : IWidth
{
    public static int Bytes => 2;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Load(byte* pointer) => *(ushort*)pointer;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(byte* pointer, ulong value) => *(ushort*)pointer = (ushort)value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreRegister(byte* pointer, ulong value) => *(ushort*)pointer = (ushort)value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Truncate(ulong value) => (ushort)value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static long SignExtend(ulong value) => (short)value;
}

public unsafe struct W32 : IWidth
{
    public static int Bytes => 4;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Load(byte* pointer) => *(uint*)pointer;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(byte* pointer, ulong value) => *(uint*)pointer = (uint)value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreRegister(byte* pointer, ulong value) => *(ulong*)pointer = (uint)value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Truncate(ulong value) => (uint)value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static long SignExtend(ulong value) => (int)value;
}

public unsafe struct W64 : IWidth
{
    public static int Bytes => 8;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Load(byte* pointer) => *(ulong*)pointer;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(byte* pointer, ulong value) => *(ulong*)pointer = value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreRegister(byte* pointer, ulong value) => *(ulong*)pointer = value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Truncate(ulong value) => value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static long SignExtend(ulong value) => (long)value;
}
