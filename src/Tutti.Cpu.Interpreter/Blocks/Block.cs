using System.Runtime.InteropServices;

namespace Tutti.Cpu.Interpreter;

/// <summary>Header of a decoded basic block in native memory; its ops follow it.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct Block
{
    /// <summary>Guest physical address of the first instruction; the whole block lies in one page.</summary>
    public ulong Physical;

    /// <summary>Next block in the same page, newest first.</summary>
    public Block* NextInPage;

    /// <summary>Next block in the same hash bucket.</summary>
    public Block* NextInBucket;

    public uint Mode;

    /// <summary>Length in instruction bytes.</summary>
    public ushort ByteLength;

    public ushort OpCount;

    /// <summary>What the first instruction is, as a <see cref="Iced.Intel.Mnemonic"/>.</summary>
    public ushort Mnemonic;

    // SAFETY: blocks are allocated with OpCount ops behind the header.
    public static Op* Ops(Block* block) => (Op*)(block + 1);
}

/// <summary>Remembers where the code at a linear address was last found, until the next TLB flush.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct JumpCacheEntry
{
    /// <summary>RIP (not linear: CS.base is 0 where this is used).</summary>
    public ulong Rip;

    public Op* Ops;
    /// <summary>The <see cref="CpuState.JumpTag"/> it is good for.</summary>
    public uint Tag;

    public uint Padding;

    public const int Count = 4096;

    public static int IndexOf(ulong rip) => (int)((rip ^ (rip >> 12)) & (Count - 1));
}
