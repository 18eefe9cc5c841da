using System.Runtime.InteropServices;
using Tutti.Devices;
using Tutti.Host;

namespace Tutti.Workers;

/// <summary>
/// A thread that waits for doorbells, descriptors and timers, and runs what each of them is for, one after the other. While it is awake a
/// ring costs no system call. What the work throws goes to the failure callback; the loop goes on.
/// </summary>
public sealed class EventLoop : IDeviceWorker, IDisposable
{
    private const long Forever = -1;
    private readonly Action<Exception> _onFailure;
    private readonly Epoll _epoll = new();
    private readonly EventFd _wake = new();
    private readonly Lock _lock = new();
    private readonly LoopWatch _wakeWatch;
    private readonly Queue<Action> _posted = [];
    private readonly List<LoopTimer> _timers = [];
    private readonly Thread _thread;
    private LoopDoorbell[] _doorbells = [];
    private LoopWatch?[] _watches = new LoopWatch?[16];

    /// <summary>No slot before it is free: a network has thousands.</summary>
    private int _firstFree;
    private uint _generation;
    private int _hasPosted;
    private int _isAsleep;
    private volatile bool _isEnding;

    /// <summary>Starts the thread.</summary>
    /// <param name="name">The thread's name.</param>
    /// <param name="onFailure">Told, on the thread, what work has thrown.</param>
    public EventLoop(string name, Action<Exception> onFailure)
    {
        ArgumentNullException.ThrowIfNull(onFailure);
        _onFailure = onFailure;
        _wakeWatch = Watch(_wake.Descriptor, IoEvents.Readable, _ => _wake.Take());
        _thread = new Thread(RunLoop) { Name = name, IsBackground = true };
        _thread.Start();
    }

    /// <summary>Whether the caller runs on the loop's thread.</summary>
    public bool IsCurrent => Thread.CurrentThread == _thread;

    IDoorbell IDeviceWorker.AddDoorbell(Action work) => AddDoorbell(work);

    /// <inheritdoc cref="IDeviceWorker.AddDoorbell"/>
    public LoopDoorbell AddDoorbell(Action work)
    {
        ArgumentNullException.ThrowIfNull(work);
        LoopDoorbell doorbell = new(this, work);
        lock (_lock)
        {
            _doorbells = [.. _doorbells, doorbell];
        }

        return doorbell;
    }

    /// <summary>Watches a descriptor, level-triggered. Safe from any thread.</summary>
    /// <param name="handle">To be closed after the watch.</param>
    /// <param name="events">What for; <see cref="IoEvents.Error"/> and <see cref="IoEvents.HangUp"/> always.</param>
    /// <param name="handler">Called on the loop's thread with what it is ready for.</param>
    /// <exception cref="HostException">The kernel can't watch it.</exception>
    public LoopWatch Watch(SafeHandle handle, IoEvents events, Action<IoEvents> handler)
    {
        ArgumentNullException.ThrowIfNull(handle);
        ArgumentNullException.ThrowIfNull(handler);
        LoopWatch watch;
        lock (_lock)
        {
            int slot = Array.IndexOf(_watches, null, _firstFree);
            if (slot < 0)
            {
                slot = _watches.Length;
                Array.Resize(ref _watches, slot * 2);
            }

            // A slot that is used again has another tag: what the kernel had ready for the old watch finds nobody.
            watch = new LoopWatch(this, handle, handler, slot, ((ulong)++_generation << 32) | (uint)slot);
            _watches[slot] = watch;
            _firstFree = slot + 1;
        }

        try
        {
            _epoll.Add(handle, events, watch.Tag);
        }
        catch
        {
            Forget(watch);
            throw;
        }

        return watch;
    }

    /// <summary>The same for what the guest causes, which must end nothing but itself where the kernel can't watch one more (ENOSPC, ENOMEM): null then.</summary>
    public LoopWatch? TryWatch(SafeHandle handle, IoEvents events, Action<IoEvents> handler, out int errno)
    {
        try
        {
            errno = 0;
            return Watch(handle, events, handler);
        }
        catch (HostException e)
        {
            errno = e.Errno;
            return null;
        }
    }

    /// <summary>Makes a timer, not armed.</summary>
    public LoopTimer AddTimer(Action onExpired)
    {
        ArgumentNullException.ThrowIfNull(onExpired);
        return new LoopTimer(this, onExpired);
    }

    /// <summary>Runs work on the loop's thread, soon. Safe from any thread; after <see cref="Dispose"/> it is not run.</summary>
    public void Post(Action work)
    {
        ArgumentNullException.ThrowIfNull(work);
        lock (_lock)
        {
            _posted.Enqueue(work);
        }

        Interlocked.Exchange(ref _hasPosted, 1);
        Wake();
    }

    /// <summary>Runs work on the loop's thread, and waits for it; at once where that is the caller's.</summary>
    /// <remarks>Never under a lock that the loop's work takes.</remarks>
    /// <exception cref="ObjectDisposedException">The loop has ended.</exception>
    public void Run(Action work)
    {
        ArgumentNullException.ThrowIfNull(work);
        if (IsCurrent)
        {
            work();
            return;
        }

        ObjectDisposedException.ThrowIf(_isEnding, this);
        Exception? failure = null;
        using ManualResetEventSlim isDone = new();
        Post(() =>
        {
            try
            {
                work();
            }
            catch (Exception e)
            {
                failure = e;
            }
            finally
            {
                isDone.Set();
            }
        });
        while (!isDone.Wait(TimeSpan.FromMilliseconds(100)))
        {
            ObjectDisposedException.ThrowIf(!_thread.IsAlive, this);
        }

        if (failure != null)
        {
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(failure);
        }
    }

    /// <summary>Ends the thread after the work under way. Not from that thread.</summary>
    public void Dispose()
    {
        if (_isEnding)
        {
            return;
        }

        _isEnding = true;
        Wake();
        _thread.Join();
        _wakeWatch.Dispose();
        _wake.Dispose();
        _epoll.Dispose();
    }

    internal void Wake()
    {
        // The caller has set its mark with a full barrier; the loop looks at all marks after it has set this one.
        if (Volatile.Read(ref _isAsleep) != 0 && Interlocked.Exchange(ref _isAsleep, 0) != 0)
        {
            try
            {
                _wake.Signal();
            }
            catch (ObjectDisposedException)
            {
                // Devices may ring for a moment longer than their loop lives.
            }
        }
    }

    internal void Change(LoopWatch watch, IoEvents events) => _epoll.Change(watch.Handle, events, watch.Tag);

    internal void Remove(LoopWatch watch)
    {
        _epoll.Remove(watch.Handle);
        Forget(watch);
    }

    internal void Remove(LoopDoorbell doorbell)
    {
        lock (_lock)
        {
            _doorbells = [.. _doorbells.Where(other => other != doorbell)];
        }
    }

    /// <summary>Deadlines are few: the earliest is looked for.</summary>
    internal void Enlist(LoopTimer timer) => _timers.Add(timer);

    internal void Unlist(LoopTimer timer) => _timers.Remove(timer);

    private void Forget(LoopWatch watch)
    {
        lock (_lock)
        {
            _watches[watch.Slot] = null;
            _firstFree = Math.Min(_firstFree, watch.Slot);
        }
    }

    private void RunLoop()
    {
        HostTime.UseExactWaits();
        IoReady[] ready = new IoReady[64];
        while (!_isEnding)
        {
            RunDoorbells();
            RunPosted();
            RunTimers();
            int count = _epoll.Wait(ready, BeginSleep());
            Volatile.Write(ref _isAsleep, 0);
            for (int i = 0; i < count; i++)
            {
                Dispatch(ready[i]);
            }
        }
    }

    /// <summary>From here on a ring wakes the loop. Gives how long it may sleep, in nanoseconds; not at all when a ring came before.</summary>
    private long BeginSleep()
    {
        Interlocked.Exchange(ref _isAsleep, 1);
        if (_isEnding || Volatile.Read(ref _hasPosted) != 0)
        {
            return 0;
        }

        foreach (LoopDoorbell doorbell in Volatile.Read(ref _doorbells))
        {
            if (doorbell.IsRung)
            {
                return 0;
            }
        }

        long earliest = long.MaxValue;
        foreach (LoopTimer timer in _timers)
        {
            earliest = Math.Min(earliest, timer.Deadline);
        }

        return earliest == long.MaxValue ? Forever : Math.Max(0, earliest - HostTime.Nanoseconds);
    }

    private void RunDoorbells()
    {
        foreach (LoopDoorbell doorbell in Volatile.Read(ref _doorbells))
        {
            if (doorbell.TryTake())
            {
                Guard(doorbell.Work);
            }
        }
    }

    private void RunPosted()
    {
        if (Interlocked.Exchange(ref _hasPosted, 0) == 0)
        {
            return;
        }

        while (true)
        {
            Action? work;
            lock (_lock)
            {
                if (!_posted.TryDequeue(out work))
                {
                    return;
                }
            }

            Guard(work);
        }
    }

    private void RunTimers()
    {
        if (_timers.Count == 0)
        {
            return;
        }

        long now = HostTime.Nanoseconds;
        // Backwards: a callback may arm and cancel timers, itself too. One that is passed over is found in the next round.
        for (int i = _timers.Count - 1; i >= 0; i--)
        {
            if (i < _timers.Count && _timers[i].Deadline <= now)
            {
                LoopTimer timer = _timers[i];
                timer.Cancel();
                Guard(timer.OnExpired);
            }
        }
    }

    private void Dispatch(IoReady ready)
    {
        uint slot = (uint)ready.Tag;
        LoopWatch?[] watches = Volatile.Read(ref _watches);
        if (slot < watches.Length && watches[slot] is LoopWatch watch && watch.Tag == ready.Tag)
        {
            try
            {
                watch.Handler(ready.Events);
            }
            catch (Exception e)
            {
                _onFailure(e);
            }
        }
    }

    /// <summary>What is thrown on a thread of its own would end the process.</summary>
    private void Guard(Action work)
    {
        try
        {
            work();
        }
        catch (Exception e)
        {
            _onFailure(e);
        }
    }
}
