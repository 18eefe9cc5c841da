using Iced.Intel;

namespace Tutti.Cpu.Interpreter;

/// <summary>Decodes guest bytes into the ops of a block. One for each vCPU, used by its thread alone.</summary>
internal unsafe interface IBlockBuilder : IDisposable
{
    /// <summary>The ops of the block built last.</summary>
    Op* Ops { get; }

    /// <summary>How many these are, at most <see cref="Block.MaxInstructions"/> and one.</summary>
    int OpCount { get; }

    /// <summary>Bytes of the instructions of the block built last; 0 when the first instruction runs past the bytes given.</summary>
    int ByteLength { get; }

    /// <summary>What the first instruction of the block built last is.</summary>
    Mnemonic FirstMnemonic { get; }

    /// <summary>Blocks built so far.</summary>
    long BlockCount { get; }

    /// <summary>Instructions decoded so far.</summary>
    long InstructionCount { get; }

    /// <summary>Told of each block: its RIP, its mode, its bytes, its instructions; null for nobody.</summary>
    Action<ulong, uint, int, int>? OnBuilt { get; set; }

    /// <summary>Decodes from <paramref name="code"/> until a branch, the end of the bytes or the limit.</summary>
    void Build(byte* code, int length, uint mode, ulong rip, int maxInstructions);
}
