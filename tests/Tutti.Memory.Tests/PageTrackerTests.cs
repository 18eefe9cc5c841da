namespace Tutti.Memory.Tests;

public class PageTrackerTests
{
    // Nothing is read through the mapping, so it may be made up.
    private static PageTracker Create() => new GuestMemory(GuestMemoryLayout.Pc(16 * 4096), 0x1000_0000).Pages;

    [Fact]
    public void Setting_a_code_mark_tells_whether_it_is_new()
    {
        PageTracker pages = Create();
        Assert.Equal(16, pages.Count);
        Assert.True(pages.SetCode(3));
        Assert.False(pages.SetCode(3));
        Assert.True(pages.HasCode(3));
        Assert.False(pages.HasCode(2) || pages.HasCode(4));
        pages.ClearCode(3);
        Assert.False(pages.HasCode(3));
        Assert.True(pages.SetCode(3));
    }

    [Fact]
    public void Taking_a_dirty_mark_clears_it_once()
    {
        PageTracker pages = Create();
        Assert.False(pages.TakeDirty(5));
        pages.SetDirty(5);
        Assert.True(pages.IsDirty(5));
        Assert.True(pages.TakeDirty(5));
        Assert.False(pages.TakeDirty(5));
    }

    [Fact]
    public void The_marks_of_a_page_do_not_disturb_each_other()
    {
        PageTracker pages = Create();
        pages.SetDirty(1);
        pages.SetCode(1);
        Assert.True(pages.TakeDirty(1));
        Assert.True(pages.HasCode(1));
        pages.SetDirty(1);
        pages.ClearCode(1);
        Assert.True(pages.IsDirty(1));
    }

    [Fact]
    public void No_mark_is_lost_between_threads()
    {
        PageTracker pages = Create();
        const int Rounds = 50_000;
        long taken = 0;
        long set = 0;
        Parallel.Invoke(
            () =>
            {
                for (int i = 0; i < Rounds; i++)
                {
                    // A neighbouring byte and the other mark of the same byte change all the time.
                    pages.SetCode(0);
                    pages.ClearCode(0);
                }
            },
            () =>
            {
                for (int i = 0; i < Rounds; i++)
                {
                    pages.SetDirty(0);
                    set++;
                    Assert.True(pages.TakeDirty(0));
                    taken++;
                    Assert.False(pages.IsDirty(0));
                }
            });
        Assert.Equal(set, taken);
        Assert.False(pages.HasCode(0));
    }
}
