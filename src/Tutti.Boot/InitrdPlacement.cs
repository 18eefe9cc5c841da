using Tutti.Memory;

namespace Tutti.Boot;

/// <summary>Finds a place for the RAM disk.</summary>
internal static class InitrdPlacement
{
    private const ulong PageMask = ~0xFFFUL;

    /// <summary>
    /// The highest page-aligned address below 4 GiB that keeps clear of the kernel and below the limit. Only when there
    /// is none, and the kernel takes it, memory above 4 GiB is used: that way is rarely walked in kernels.
    /// </summary>
    /// <param name="memory">Where it is to lie.</param>
    /// <param name="size">Bytes; not 0.</param>
    /// <param name="kernelStart">First byte that the kernel occupies, at least 1 MiB.</param>
    /// <param name="kernelEnd">First byte behind the kernel, in the first region.</param>
    /// <param name="limit">First address that the RAM disk may not reach.</param>
    /// <param name="above4G">Whether it may lie above 4 GiB.</param>
    /// <exception cref="BootException">It does not fit.</exception>
    public static ulong Place(GuestMemory memory, ulong size, ulong kernelStart, ulong kernelEnd, ulong limit, bool above4G)
    {
        ulong lowEnd = memory.Regions[0].End;
        if (TryBelow(Math.Min(lowEnd, limit), kernelEnd, size, out ulong address)
            || TryBelow(Math.Min(Math.Min(lowEnd, limit), kernelStart), BootLayout.ExtendedMemoryStart, size, out address))
        {
            return address;
        }

        if (above4G && memory.Regions.Count > 1 && TryBelow(memory.Regions[1].End, memory.Regions[1].Start, size, out address))
        {
            return address;
        }

        ulong needed = ((kernelEnd + 0xFFF) & PageMask) + ((size + 0xFFF) & PageMask);
        throw needed <= Math.Min(limit, GuestMemoryLayout.LowMemoryLimit)
            ? new BootException($"The initial RAM disk of {MemorySize.Format(size)} does not fit into the machine's memory: {MemorySize.AtLeast(needed)}.")
            : above4G
                ? new BootException($"The initial RAM disk of {MemorySize.Format(size)} does not fit into the machine's memory: {MemorySize.AtLeast(GuestMemoryLayout.LowMemoryLimit + size)}.")
                : new BootException($"The initial RAM disk of {MemorySize.Format(size)} does not fit below 0x{limit:x}, the highest address that this kernel takes: use a smaller one.");
    }

    private static bool TryBelow(ulong end, ulong start, ulong size, out ulong address)
    {
        address = 0;
        if (end < start || end - start < size)
        {
            return false;
        }

        address = (end - size) & PageMask;
        return address >= start;
    }
}
