namespace Tutti.Memory;

/// <summary>Where RAM lies in a PC's physical address space.</summary>
public static class GuestMemoryLayout
{
    /// <summary>RAM stops here; firmware, APICs and PCI own the gap up to 4 GiB.</summary>
    public const ulong LowMemoryLimit = 0xC000_0000;

    /// <summary>RAM that does not fit below the gap goes on here.</summary>
    public const ulong HighMemoryStart = 0x1_0000_0000;

    /// <summary>Size of a page in bytes.</summary>
    public const int PageSize = 4096;

    /// <summary>The RAM regions of a PC with <paramref name="size"/> bytes (a multiple of 4096).</summary>
    public static IReadOnlyList<GuestMemoryRegion> Pc(ulong size)
    {
        ArgumentOutOfRangeException.ThrowIfZero(size);
        if (size % PageSize != 0)
        {
            throw new ArgumentException("Guest memory must be a whole number of 4096-byte pages.", nameof(size));
        }

        return size <= LowMemoryLimit
            ? [new GuestMemoryRegion(0, size)]
            : [new GuestMemoryRegion(0, LowMemoryLimit), new GuestMemoryRegion(HighMemoryStart, size - LowMemoryLimit)];
    }
}
