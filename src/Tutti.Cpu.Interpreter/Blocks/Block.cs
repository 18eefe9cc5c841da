using System.Runtime.InteropServices;

namespace Tutti.Cpu.Interpreter;

/// <summary>Header of a decoded basic block in native memory; its ops follow it.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct Block
{
    /// <summary>Instructions in a block at most; blocks end at unconditional branches and page ends anyhow.</summary>
    public const int MaxInstructions = 64;

    /// <summary>What it is found by; the whole block lies in one page.</summary>
    public BlockKey Key;

    /// <summary>Next block in the same page, newest first.</summary>
    public Block* NextInPage;

    /// <summary>Next block in the same hash bucket.</summary>
    public Block* NextInBucket;

    /// <summary>Length in instruction bytes.</summary>
    public ushort ByteLength;

    public ushort OpCount;

    /// <summary>What the first instruction is, as a <see cref="Iced.Intel.Mnemonic"/>.</summary>
    public ushort Mnemonic;

    // SAFETY: blocks are allocated with OpCount ops behind the header.
    public static Op* Ops(Block* block) => (Op*)(block + 1);
}
