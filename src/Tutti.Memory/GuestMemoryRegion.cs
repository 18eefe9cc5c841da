namespace Tutti.Memory;

/// <summary>A run of guest RAM that is contiguous in guest physical addresses.</summary>
/// <param name="Start">First guest physical address, a multiple of 4096.</param>
/// <param name="Size">Length in bytes, a multiple of 4096.</param>
public readonly record struct GuestMemoryRegion(ulong Start, ulong Size)
{
    /// <summary>First guest physical address behind the region.</summary>
    public ulong End => Start + Size;
}
