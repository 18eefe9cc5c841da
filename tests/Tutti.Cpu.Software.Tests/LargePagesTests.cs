namespace Tutti.Cpu.Software.Tests;

public class LargePagesTests
{
    private const ulong InTwoMebibytes = 0x1F_FFFF;
    private const ulong InOneGibibyte = 0x3FFF_FFFF;

    private readonly LargePages _pages = new();

    [Fact]
    public void Addresses_in_pages_of_any_size_are_told_from_others()
    {
        _pages.Add(0x4012_3456, InTwoMebibytes);
        _pages.Add(0x1_0000_0000, InOneGibibyte);
        Assert.True(_pages.MayHold(0x4000_0000));
        Assert.True(_pages.MayHold(0x401F_FFFF));
        Assert.False(_pages.MayHold(0x4020_0000));
        Assert.True(_pages.MayHold(0x1_3FFF_FFFF));
        Assert.False(_pages.MayHold(0x1_4000_0000));
        _pages.Clear();
        Assert.False(_pages.MayHold(0x4000_0000));
    }

    [Fact]
    public void With_more_pages_than_are_remembered_every_address_may_lie_in_one()
    {
        for (ulong i = 0; i <= 5000; i++)
        {
            _pages.Add(i << 21, InTwoMebibytes);
        }

        Assert.True(_pages.MayHold(ulong.MaxValue));
    }
}
