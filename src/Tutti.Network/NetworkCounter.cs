namespace Tutti.Network;

/// <summary>Something that a network has counted.</summary>
/// <param name="Name">What.</param>
/// <param name="Value">How many.</param>
/// <param name="Unit">Of what; empty for a bare number.</param>
public readonly record struct NetworkCounter(string Name, long Value, string Unit = "");
