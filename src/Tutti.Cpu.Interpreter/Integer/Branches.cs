namespace Tutti.Cpu.Interpreter;

/// <summary>Near branches.</summary>
internal static unsafe class Branches
{
    /// <summary>Goes on behind a block that did not end with a branch.</summary>
    public static Op* EndOfBlock(CpuState* state, Op* op) => Flow.Jump(state, op, Flow.NextRip(state, op));
}
