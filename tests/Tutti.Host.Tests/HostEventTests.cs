using System.Diagnostics;

namespace Tutti.Host.Tests;

public sealed class HostEventTests
{
    [Fact]
    public void KeptSignalEndsTheNextWaitOnly()
    {
        using HostEvent wake = new();
        wake.Signal();
        wake.Signal();
        Assert.True(wake.Wait(-1));
        Assert.False(wake.Wait(0));
        Assert.False(wake.Wait(1_000));
    }

    [Fact]
    public void WaitEndsAtItsTimeout()
    {
        using HostEvent wake = new();
        HostTime.UseExactWaits();
        Stopwatch watch = Stopwatch.StartNew();
        Assert.False(wake.Wait(20_000_000));
        Assert.InRange(watch.Elapsed.TotalMilliseconds, 20, 2000);
    }

    [Fact]
    public void SignalWakesAWaitingThread()
    {
        using HostEvent wake = new();
        bool woken = false;
        Thread waiter = new(() => woken = wake.Wait(-1));
        waiter.Start();
        Thread.Sleep(20);
        wake.Signal();
        Assert.True(waiter.Join(TimeSpan.FromSeconds(10)));
        Assert.True(woken);
    }

    [Fact]
    public void NoSignalIsLostOrCountedTwiceBetweenThreads()
    {
        using HostEvent ping = new();
        using HostEvent pong = new();
        const int Rounds = 20_000;
        Thread other = new(() =>
        {
            for (int i = 0; i < Rounds; i++)
            {
                Assert.True(ping.Wait(10_000_000_000));
                pong.Signal();
            }
        });
        other.Start();
        Random random = new(1);
        for (int i = 0; i < Rounds; i++)
        {
            ping.Signal();
            // Short timeouts race with the signal on purpose.
            int waits = 0;
            while (!pong.Wait(random.Next(1, 20_000)))
            {
                Assert.True(++waits < 1_000_000, "a signal got lost");
            }
        }

        Assert.True(other.Join(TimeSpan.FromSeconds(10)));
        Assert.False(ping.Wait(0));
        Assert.False(pong.Wait(1));
    }
}
