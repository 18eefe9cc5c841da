using System.Diagnostics;
using Tutti.Cpu;

namespace Tutti.Machine.Tests;

public sealed class HostClockTests
{
    private readonly Lock _chipset = new();

    [Fact]
    public void TimeStandsStillUntilResumedAndWhilePaused()
    {
        using HostClock clock = new(_chipset, DateTimeOffset.UnixEpoch);
        Assert.Equal(0, clock.Nanoseconds);
        clock.Resume();
        Thread.Sleep(5);
        clock.Pause();
        long paused = clock.Nanoseconds;
        Assert.InRange(paused, 5_000_000, 10_000_000_000);
        Thread.Sleep(20);
        Assert.Equal(paused, clock.Nanoseconds);
        clock.Resume();
        Assert.InRange(clock.Nanoseconds - paused, 0, 15_000_000_000);
    }

    [Fact]
    public void TimersExpireInOrderOnceAndUnderTheChipsetLock()
    {
        using HostClock clock = new(_chipset, DateTimeOffset.UnixEpoch);
        List<int> fired = [];
        using CountdownEvent all = new(3);
        for (int i = 0; i < 3; i++)
        {
            int id = i;
            clock.CreateTimer(() =>
            {
                Assert.True(_chipset.IsHeldByCurrentThread);
                fired.Add(id);
                all.Signal();
            }).Arm((3 - i) * 5_000_000);
        }

        clock.Resume();
        Assert.True(all.Wait(TimeSpan.FromSeconds(10)));
        Thread.Sleep(20);
        lock (_chipset)
        {
            Assert.Equal([2, 1, 0], fired);
        }
    }

    [Fact]
    public void EarlierDeadlineOvertakesTheOneThatIsSleptFor()
    {
        using HostClock clock = new(_chipset, DateTimeOffset.UnixEpoch);
        clock.Resume();
        clock.CreateTimer(() => { }).Arm(long.MaxValue);
        Thread.Sleep(5);
        using ManualResetEventSlim fired = new();
        clock.CreateTimer(fired.Set).Arm(clock.Nanoseconds + 1_000_000);
        Assert.True(fired.Wait(TimeSpan.FromSeconds(10)));
    }

    [Fact]
    public void CancelledAndPostponedTimersDoNotExpire()
    {
        using HostClock clock = new(_chipset, DateTimeOffset.UnixEpoch);
        int count = 0;
        IClockTimer cancelled = clock.CreateTimer(() => count++);
        IClockTimer postponed = clock.CreateTimer(() => count++);
        cancelled.Arm(10_000_000);
        postponed.Arm(10_000_000);
        clock.Resume();
        cancelled.Cancel();
        cancelled.Cancel();
        postponed.Arm(long.MaxValue);
        Thread.Sleep(40);
        Assert.Equal(0, count);
    }

    [Fact]
    public void NothingExpiresWhilePaused()
    {
        using HostClock clock = new(_chipset, DateTimeOffset.UnixEpoch);
        using ManualResetEventSlim fired = new();
        clock.CreateTimer(fired.Set).Arm(-5);
        Assert.False(fired.Wait(20));
        clock.Resume();
        Assert.True(fired.Wait(TimeSpan.FromSeconds(10)));
    }

    [Fact]
    public void TimerThatRearmsForThePastLeavesOthersTheChipset()
    {
        using HostClock clock = new(_chipset, DateTimeOffset.UnixEpoch);
        IClockTimer? timer = null;
        timer = clock.CreateTimer(() => timer!.Arm(0));
        timer.Arm(0);
        clock.Resume();
        for (int i = 0; i < 100; i++)
        {
            Assert.True(_chipset.TryEnter(TimeSpan.FromSeconds(10)));
            _chipset.Exit();
        }

        timer.Cancel();
    }

    [Fact]
    public void ArmingAllocatesNothing()
    {
        using HostClock clock = new(_chipset, DateTimeOffset.UnixEpoch);
        IClockTimer timer = clock.CreateTimer(() => { });
        timer.Arm(1L << 60);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1000; i++)
        {
            timer.Arm((1L << 60) - i);
        }

        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
    }

    [Fact]
    public void IdleClockCostsNothing()
    {
        using HostClock clock = new(_chipset, DateTimeOffset.UnixEpoch);
        clock.Resume();
        TimeSpan before = Process.GetCurrentProcess().TotalProcessorTime;
        Thread.Sleep(200);
        // The test runner itself works beside this.
        Assert.True(Process.GetCurrentProcess().TotalProcessorTime - before < TimeSpan.FromMilliseconds(2000));
    }
}
