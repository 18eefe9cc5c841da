using System.Runtime.InteropServices;

namespace Tutti.Cpu.Interpreter;

/// <summary>
/// One guest instruction (or a fused pair), decoded and resolved, in native memory.
/// <see cref="Handler"/> runs it and returns the op to run next, or null to give control back to the run loop.
/// </summary>
/// <remarks>
/// A handler that meets a fault has called <see cref="Faults.Raise"/> (memory accessors do so
/// themselves), has changed no architectural state yet, and returns <see cref="Flow.Fault"/>.
/// SAFETY: a handler gets the state and an op that the run loop owns, both valid while it runs; it reaches registers
/// only by offsets that translation has checked, and guest memory only through <see cref="GuestAccess"/>.
/// </remarks>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct Op
{
    public delegate*<CpuState*, Op*, Op*> Handler;

    /// <summary>Immediate, sign- or zero-extended as the instruction wants it; or a thunk's address.</summary>
    public ulong Imm;

    /// <summary>Where a direct branch in the same page goes, once it has been resolved.</summary>
    public Op* Link;

    /// <summary>Displacement of the memory operand; for RIP-relative ones counted from the block's first instruction.</summary>
    public int Disp;

    /// <summary>Target of a direct branch, counted from the block's first instruction.</summary>
    public int Target;

    /// <summary>Byte offsets into <see cref="CpuState"/>; for vector registers their number.</summary>
    public byte Dst;

    public byte Src;
    public byte Base;
    public byte Index;

    /// <summary>0 to 3: the index register is shifted left by it.</summary>
    public byte Scale;

    /// <summary>Segment register of the memory operand: ES, CS, SS, DS, FS, GS.</summary>
    public byte Segment;

    /// <summary>Address size in bytes: 2, 4 or 8.</summary>
    public byte AddressSize;

    /// <summary>Length of the instruction in bytes, at most 15 (two fused instructions: their sum).</summary>
    public byte Length;

    /// <summary>Offset of the instruction from the block's first one, in bytes.</summary>
    public ushort IpOffset;

    /// <summary>How many instructions of the block have run when this one has.</summary>
    public ushort Count;

    /// <summary><see cref="OpFlags"/>.</summary>
    public ushort Flags;

    /// <summary>Free for the handler: a condition, a control-register number.</summary>
    public ushort Aux;
}

/// <summary>Bits of <see cref="Op.Flags"/>.</summary>
internal static class OpFlags
{
    public const ushort Lock = 1;
    public const ushort Rep = 2;
    public const ushort Repne = 4;

    /// <summary>Of a block that has been dropped because its bytes were written.</summary>
    public const ushort Dropped = 8;

    /// <summary>Operand size is 16, 32 or 64 bits: bits 4 and 5 as log2 of bytes (1, 2, 3; 0 is 8 bits).</summary>
    public const int SizeShift = 4;

    public static int Size(Op op) => 1 << ((op.Flags >> SizeShift) & 3);
}
