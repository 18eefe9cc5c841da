namespace Tutti.Memory.Tests;

public class GuestMemoryLayoutTests
{
    private const ulong GiB = 1UL << 30;

    [Fact]
    public void Memory_up_to_3_GiB_is_one_region()
    {
        Assert.Equal([new GuestMemoryRegion(0, 4096)], GuestMemoryLayout.Pc(4096));
        Assert.Equal([new GuestMemoryRegion(0, 3 * GiB)], GuestMemoryLayout.Pc(3 * GiB));
    }

    [Fact]
    public void Memory_that_does_not_fit_below_3_GiB_goes_on_at_4_GiB()
    {
        Assert.Equal([new(0, 3 * GiB), new(4 * GiB, 4096)], GuestMemoryLayout.Pc((3 * GiB) + 4096));
        Assert.Equal([new(0, 3 * GiB), new(4 * GiB, 61 * GiB)], GuestMemoryLayout.Pc(64 * GiB));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(4095)]
    [InlineData(4097)]
    public void Sizes_that_are_no_whole_pages_are_refused(ulong size) =>
        Assert.ThrowsAny<ArgumentException>(() => GuestMemoryLayout.Pc(size));

    [Fact]
    public unsafe void The_gap_is_no_memory_and_both_sides_of_it_are_neighbours_in_the_mapping()
    {
        // SAFETY: only addresses are computed; nothing is read through this made-up mapping.
        const ulong Host = 0x1000_0000;
        GuestMemory memory = new(GuestMemoryLayout.Pc(4 * GiB), (nint)Host);
        Assert.Equal(4 * GiB, memory.Size);
        Assert.Equal(5 * GiB, memory.End);
        Assert.Equal((3 * GiB) - 1 + Host, (ulong)memory.GetPointer((3 * GiB) - 1));
        Assert.Equal((3 * GiB) + Host, (ulong)memory.GetPointer(4 * GiB));
        Assert.All([3 * GiB, 0xFEC0_0000, 0xFEE0_0000, (4 * GiB) - 1, 5 * GiB], address => Assert.Equal(-1, memory.GetPageIndex(address)));
        Assert.Equal(3L << 18, memory.GetPageIndex(4 * GiB));
        Assert.Equal((4L << 18) - 1, memory.GetPageIndex((5 * GiB) - 1));
        Assert.False(memory.TryGetSpan((3 * GiB) - 4, 8, out _));
    }
}
