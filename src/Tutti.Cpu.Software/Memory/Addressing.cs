using System.Runtime.CompilerServices;
using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>Address arithmetic and segment checks.</summary>
public static unsafe class Addressing
{
    /// <summary>Cuts an offset to an address size of 2, 4 or 8 bytes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Truncate(ulong offset, int addressSize) =>
        addressSize == 8 ? offset : addressSize == 4 ? (uint)offset : (ushort)offset;

    /// <summary>Base of a segment register (0 to 5) in 64-bit mode, where only FS and GS have one.</summary>
    public static ulong SegmentBase64(CpuState* state, int segment) =>
        segment >= 4 ? CpuState.SegmentOf(state, segment)->Base : 0;

    /// <summary>
    /// Linear address of an offset into a segment, in any mode; false after #GP(0), or #SS(0) for SS, for what
    /// lies outside the limit or what the type forbids.
    /// </summary>
    public static bool TrySegmented(CpuState* state, int segment, ulong offset, int size, bool write, out ulong linear)
    {
        if ((state->Mode & CodeMode.BitnessMask) == CodeMode.Bits64)
        {
            linear = SegmentBase64(state, segment) + offset;
            return true;
        }

        Segment* register = CpuState.SegmentOf(state, segment);
        linear = (uint)(register->Base + offset);
        if (IsInPlainData(register, offset, size)
            || (IsInside(register, (uint)offset, (uint)size) && IsPermitted(state, register, write)))
        {
            return true;
        }

        Faults.Raise(state, segment == 2 ? ExceptionVector.StackFault : ExceptionVector.GeneralProtection, 0);
        return false;
    }

    /// <summary>
    /// Whether bytes lie inside a writable data segment that grows up, as nearly all operands do: outside 64-bit mode such an access is
    /// right in every mode, read or write.
    /// </summary>
    /// <param name="offset">At most 32 bits.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool IsInPlainData(Segment* segment, ulong offset, int size)
    {
        const int Writable = SegmentAttributes.Present | SegmentAttributes.NonSystem | SegmentAttributes.WritableOrReadable;
        const int Kind = Writable | SegmentAttributes.Code | SegmentAttributes.ExpandDownOrConforming;
        return (segment->Attributes & Kind) == Writable && offset + (uint)size - 1 <= segment->Limit;
    }

    /// <summary>Whether the bytes lie inside a segment that permits the access; only outside 64-bit mode.</summary>
    public static bool IsAccessible(CpuState* state, int segment, uint offset, uint size, bool write)
    {
        Segment* register = CpuState.SegmentOf(state, segment);
        return IsInside(register, offset, size) && IsPermitted(state, register, write);
    }

    /// <summary>Whether [offset, offset+size) lies inside the limit, for expand-up and expand-down segments.</summary>
    internal static bool IsInside(Segment* segment, uint offset, uint size)
    {
        ulong last = (ulong)offset + size - 1;
        bool expandDown = (segment->Attributes & (SegmentAttributes.Code | SegmentAttributes.ExpandDownOrConforming)) == SegmentAttributes.ExpandDownOrConforming
            && (segment->Attributes & SegmentAttributes.NonSystem) != 0;
        if (!expandDown)
        {
            return last <= segment->Limit;
        }

        ulong top = (segment->Attributes & SegmentAttributes.Big) != 0 ? 0xFFFF_FFFF : 0xFFFF;
        return offset > segment->Limit && last <= top;
    }

    private static bool IsPermitted(CpuState* state, Segment* segment, bool write)
    {
        if ((state->Mode & CodeMode.Protected) == 0 || (state->Mode & CodeMode.Virtual8086) != 0)
        {
            return true;
        }

        if ((segment->Attributes & SegmentAttributes.Present) == 0)
        {
            // A null selector was loaded: the register holds nothing usable.
            return false;
        }

        bool code = (segment->Attributes & SegmentAttributes.Code) != 0;
        bool writableOrReadable = (segment->Attributes & SegmentAttributes.WritableOrReadable) != 0;
        return write ? !code && writableOrReadable : !code || writableOrReadable;
    }
}
