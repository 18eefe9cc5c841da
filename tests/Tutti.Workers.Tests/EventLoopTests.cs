using Tutti.Host;

namespace Tutti.Workers.Tests;

public sealed class EventLoopTests : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);
    private readonly List<Exception> _failures = [];
    private readonly EventLoop _loop;

    public EventLoopTests() => _loop = new EventLoop("test loop", _failures.Add);

    public void Dispose() => _loop.Dispose();

    [Fact]
    public void Each_ring_is_followed_by_work_on_the_loops_thread()
    {
        int count = 0;
        bool isCurrent = false;
        using SemaphoreSlim isDone = new(0);
        using LoopDoorbell doorbell = _loop.AddDoorbell(() =>
        {
            isCurrent = _loop.IsCurrent;
            count++;
            isDone.Release();
        });
        for (int i = 1; i <= 1000; i++)
        {
            doorbell.Ring();
            Assert.True(isDone.Wait(Patience));
            Assert.Equal(i, count);
        }

        Assert.True(isCurrent);
    }

    [Fact]
    public void What_the_kernel_cannot_watch_is_said_and_leaves_no_trace()
    {
        using FileStream file = File.OpenRead(typeof(EventLoopTests).Assembly.Location);
        for (int i = 0; i < 100; i++)
        {
            Assert.Null(_loop.TryWatch(file.SafeFileHandle, IoEvents.Readable, _ => { }, out int errno));
            Assert.Equal(Errno.EPERM, errno);
        }

        Assert.Empty(_failures);
    }

    [Fact]
    public void A_ring_during_the_work_is_not_lost()
    {
        // What a queue's worker does: it takes all there is, and a ring says that there may be more.
        int available = 0;
        int taken = 0;
        using LoopDoorbell doorbell = _loop.AddDoorbell(() => Volatile.Write(ref taken, Volatile.Read(ref available)));
        for (int i = 1; i <= 20_000; i++)
        {
            Volatile.Write(ref available, i);
            doorbell.Ring();
        }

        Assert.True(SpinWait.SpinUntil(() => Volatile.Read(ref taken) == 20_000, Patience));
    }

    [Fact]
    public void The_doorbells_eventfd_rings_it_too()
    {
        using SemaphoreSlim isDone = new(0);
        using LoopDoorbell doorbell = _loop.AddDoorbell(() => isDone.Release());
        doorbell.Event.Signal();
        Assert.True(isDone.Wait(Patience));
    }

    [Fact]
    public void A_watch_is_level_triggered_and_ends_with_its_disposal()
    {
        using EventFd source = new();
        int calls = 0;
        LoopWatch watch = _loop.Watch(source.Descriptor, IoEvents.Readable, _ => calls++);
        source.Signal();
        Assert.True(SpinWait.SpinUntil(() => Volatile.Read(ref calls) > 2, Patience));
        _loop.Run(watch.Dispose);
        int after = calls;
        _loop.Run(() => { });
        _loop.Run(() => { });
        Assert.Equal(after, calls);
    }

    [Fact]
    public void A_watch_of_nothing_is_silent_until_it_is_changed()
    {
        using EventFd source = new();
        source.Signal();
        int calls = 0;
        LoopWatch watch = _loop.Watch(source.Descriptor, IoEvents.None, _ => calls++);
        _loop.Run(() => { });
        _loop.Run(() => { });
        Assert.Equal(0, calls);
        _loop.Run(() => watch.Change(IoEvents.Readable));
        Assert.True(SpinWait.SpinUntil(() => Volatile.Read(ref calls) > 0, Patience));
        _loop.Run(watch.Dispose);
    }

    [Fact]
    public void Timers_expire_in_the_order_of_their_deadlines_and_not_when_cancelled()
    {
        List<int> order = [];
        using SemaphoreSlim isDone = new(0);
        LoopTimer late = _loop.AddTimer(() => { order.Add(2); isDone.Release(); });
        LoopTimer early = _loop.AddTimer(() => { order.Add(1); isDone.Release(); });
        LoopTimer never = _loop.AddTimer(() => order.Add(3));
        _loop.Run(() =>
        {
            long now = HostTime.Nanoseconds;
            late.Arm(now + 60_000_000);
            early.Arm(now + 20_000_000);
            never.Arm(now + 10_000_000);
            never.Cancel();
        });
        Assert.True(isDone.Wait(Patience) && isDone.Wait(Patience));
        Assert.Equal([1, 2], order);
    }

    [Fact]
    public void What_work_throws_is_reported_and_the_loop_goes_on()
    {
        using LoopDoorbell doorbell = _loop.AddDoorbell(() => throw new InvalidOperationException("first"));
        doorbell.Ring();
        Assert.True(SpinWait.SpinUntil(() => _failures.Count == 1, Patience));
        bool ran = false;
        _loop.Run(() => ran = true);
        Assert.True(ran);
    }

    [Fact]
    public void Run_passes_on_what_its_work_throws() =>
        Assert.Throws<FormatException>(() => _loop.Run(() => throw new FormatException()));

    [Fact]
    public void A_ring_allocates_nothing()
    {
        using LoopDoorbell doorbell = _loop.AddDoorbell(() => { });
        for (int i = 0; i < 1000; i++)
        {
            doorbell.Ring();
        }

        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1000; i++)
        {
            doorbell.Ring();
        }

        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
    }
}
