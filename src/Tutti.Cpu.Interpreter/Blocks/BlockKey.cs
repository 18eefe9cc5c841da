namespace Tutti.Cpu.Interpreter;

/// <summary>
/// What the meaning of a block's bytes depends on, and how much of them the block takes: with the address of the bytes its key. Blocks of
/// 16-, 32- and 64-bit code, of user and of supervisor, stand side by side in the cache.
/// </summary>
/// <param name="Bits"><see cref="CodeMode"/> bits of the code, and <see cref="SingleBit"/>.</param>
internal readonly record struct BlockMode(uint Bits)
{
    private const uint SingleBit = 1u << 31;

    /// <summary>The mode that the processor is in: blocks are as long as they come.</summary>
    public static unsafe BlockMode Of(CpuState* state) => new(state->Mode);

    /// <summary>The same mode, for a block that is one instruction.</summary>
    public BlockMode Single => new(Bits | SingleBit);

    /// <summary>Instructions in a block at most.</summary>
    public int MaxInstructions => (Bits & SingleBit) != 0 ? 1 : Block.MaxInstructions;
}

/// <summary>What a block is found by.</summary>
/// <param name="Physical">Guest physical address of the first instruction: processes that share a page share its blocks.</param>
/// <param name="Mode">The mode that it was decoded for.</param>
internal readonly record struct BlockKey(ulong Physical, BlockMode Mode)
{
    /// <summary>A hash of both.</summary>
    public uint Hash => (uint)Physical ^ (uint)(Physical >> 16) ^ (Mode.Bits << 9);

    // Spelled out: a lookup is two compares.
    public bool Equals(BlockKey other) => Physical == other.Physical && Mode.Bits == other.Mode.Bits;

    public override int GetHashCode() => (int)Hash;
}
