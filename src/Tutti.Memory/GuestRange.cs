namespace Tutti.Memory;

/// <summary>Bytes in guest physical addresses.</summary>
/// <param name="Address">The first byte's address.</param>
/// <param name="Length">Bytes, 0 or more.</param>
public readonly record struct GuestRange(ulong Address, int Length);
