namespace Tutti.Engines.Compare.Streams;

/// <summary>Random code.</summary>
/// <param name="Mode">Where it runs.</param>
/// <param name="Address">Where it begins, as an offset in CS.</param>
/// <param name="Bytes">The code with the end of the run behind it.</param>
/// <param name="End">Offset in CS of that end.</param>
/// <param name="Text">Disassembly.</param>
/// <param name="UndefinedFlags">
/// For each offset in CS at which an instruction begins, and the end: arithmetic flags that the manuals leave undefined there, on
/// some way.
/// </param>
internal sealed record InstructionStream(
    StreamMode Mode, ulong Address, byte[] Bytes, ulong End, string Text, IReadOnlyDictionary<ulong, ulong> UndefinedFlags)
{
    /// <summary>What is undefined where control came to; nothing where no instruction begins.</summary>
    public ulong UndefinedAt(ulong offset) => UndefinedFlags.TryGetValue(offset, out ulong flags) ? flags : 0;
}
