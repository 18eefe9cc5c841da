using System.Runtime.CompilerServices;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>A way to compute the linear address of a memory operand, as a type, so that handlers are compiled once for each.</summary>
internal unsafe interface IAddress
{
    /// <summary>False after a fault was raised (segment limit or type).</summary>
    static abstract bool TryGet(CpuState* state, Op* op, int size, bool write, out ulong linear);
}

/// <summary>64-bit mode, 64-bit address size, segment base 0.</summary>
internal unsafe struct FlatAddress : IAddress
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool TryGet(CpuState* state, Op* op, int size, bool write, out ulong linear)
    {
        linear = OperandAddress.Offset(state, op);
        return true;
    }
}

/// <summary>64-bit mode with an FS or GS base, or with a 32-bit address size.</summary>
internal unsafe struct LongAddress : IAddress
{
    public static bool TryGet(CpuState* state, Op* op, int size, bool write, out ulong linear)
    {
        linear = OperandAddress.Linear64(state, op);
        return true;
    }
}

/// <summary>Every other mode: 16- or 32-bit offsets into a segment with a limit and access rights.</summary>
internal unsafe struct SegmentedAddress : IAddress
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool TryGet(CpuState* state, Op* op, int size, bool write, out ulong linear)
    {
        ulong offset = Addressing.Truncate(OperandAddress.Offset(state, op), op->AddressSize);
        Segment* segment = CpuState.SegmentOf(state, op->Segment);
        if (Addressing.IsInPlainData(segment, offset, size))
        {
            linear = (uint)(segment->Base + offset);
            return true;
        }

        return Addressing.TrySegmented(state, op->Segment, offset, size, write, out linear);
    }
}

/// <summary>Any mode, decided at run time: for instructions that are not worth a copy for each kind.</summary>
internal unsafe struct AnyAddress : IAddress
{
    public static bool TryGet(CpuState* state, Op* op, int size, bool write, out ulong linear) =>
        Addressing.TrySegmented(state, op->Segment, Addressing.Truncate(OperandAddress.Offset(state, op), op->AddressSize), size, write, out linear);
}

/// <summary>Addresses of an op's memory operand.</summary>
internal static unsafe class OperandAddress
{
    /// <summary>Base + index * scale + displacement, not yet cut to the address size.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Offset(CpuState* state, Op* op) =>
        *(ulong*)CpuState.Register(state, op->Base)
        + (*(ulong*)CpuState.Register(state, op->Index) << op->Scale)
        + (ulong)(long)op->Disp;

    /// <summary>Linear address in 64-bit mode: only FS and GS have a base.</summary>
    public static ulong Linear64(CpuState* state, Op* op) =>
        Addressing.SegmentBase64(state, op->Segment) + Addressing.Truncate(Offset(state, op), op->AddressSize);

    /// <summary><see cref="GuestAccess.BeginModify"/> of an op's memory operand, in any mode; null after a fault.</summary>
    public static byte* BeginModify(CpuState* state, Op* op, int size) =>
        AnyAddress.TryGet(state, op, size, true, out ulong linear) ? GuestAccess.BeginModify(state, linear, size) : null;
}
