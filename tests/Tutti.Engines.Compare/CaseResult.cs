namespace Tutti.Engines.Compare;

/// <summary>How two engines ran one guest.</summary>
/// <param name="Name">The guest's name, or a stream's mode, seed and number.</param>
/// <param name="Text">A stream's disassembly and what it started from.</param>
/// <param name="Mode">The mode it began in.</param>
/// <param name="Differences">Nothing where both agree.</param>
internal sealed record CaseResult(string Name, string Text, string Mode, IReadOnlyList<Difference> Differences);
