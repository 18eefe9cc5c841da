namespace Tutti.Cpu.Software.Tests;

public class FetchTlbTests
{
    private const ulong Linear = 0x7FFF_1234_5678;
    private const ulong Physical = 0x12_3678;

    private readonly FetchTlb _tlb = new();

    public FetchTlbTests() => _tlb.Set(Linear, user: true, Physical);

    [Fact]
    public void A_page_is_found_for_the_rights_that_were_checked()
    {
        Assert.True(_tlb.TryGet(Linear + 1, user: true, out ulong physical));
        Assert.Equal(Physical + 1, physical);
        Assert.False(_tlb.TryGet(Linear, user: false, out _));
        Assert.False(_tlb.TryGet(Linear + 0x1000, user: true, out _));
    }

    [Fact]
    public void Only_the_page_that_is_invalidated_goes()
    {
        _tlb.Invalidate(Linear + 0x1000);
        Assert.True(_tlb.TryGet(Linear, user: true, out _));
        _tlb.Invalidate(Linear & ~0xFFFUL);
        Assert.False(_tlb.TryGet(Linear, user: true, out _));
    }

    [Fact]
    public void What_a_flush_has_dropped_stays_dropped_when_generations_come_round()
    {
        // More flushes than there are generations.
        for (int i = 0; i < 5000; i++)
        {
            _tlb.Flush();
            Assert.False(_tlb.TryGet(Linear, user: true, out _));
        }
    }
}
