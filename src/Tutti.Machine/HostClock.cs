using Tutti.Cpu;
using Tutti.Host;

namespace Tutti.Machine;

/// <summary>
/// Guest time that follows the host's monotonic clock while it is not paused: its time-stamp counter where that is fit. One thread sleeps until the earliest
/// deadline; arming a timer wakes that thread only when the new deadline is earlier than what it sleeps for.
/// </summary>
public sealed class HostClock : IGuestClock, IDisposable
{
    /// <summary>Callbacks run without a break for vCPUs that wait for the chipset lock.</summary>
    private const int MaxBatch = 16;

    private const long NotPaused = -1;

    /// <summary>More than the counter's rate can be wrong by: 2^-13 is 122 ppm.</summary>
    private const int DriftShift = 13;

    private readonly Lock _chipsetLock;
    private readonly Action<Exception>? _onFailure;
    private readonly Lock _heapLock = new();
    private readonly HostEvent _wake = new();
    private readonly TimerHeap _heap = new();
    private readonly Thread _thread;
    private long _hostTimeAtZero;
    private long _pausedAt;
    private CounterClock? _counter;
    private long _sleepsUntil = long.MinValue;
    private bool _isDisposed;
    private bool _isUnfit;

    /// <summary>Makes a clock that stands at 0 until <see cref="Resume"/>.</summary>
    /// <param name="chipsetLock">Held while a timer's callback runs.</param>
    /// <param name="powerOnTime">Wall-clock time at guest time 0.</param>
    /// <param name="onFailure">Told what a callback threw, under the chipset lock; without it, that ends the process.</param>
    public HostClock(Lock chipsetLock, DateTimeOffset powerOnTime, Action<Exception>? onFailure = null)
    {
        _chipsetLock = chipsetLock;
        _onFailure = onFailure;
        PowerOnTime = powerOnTime;
        _ = HostCounter.IsReliable;
        _thread = new Thread(Run) { Name = "guest timers", IsBackground = true };
        _thread.Start();
    }

    public DateTimeOffset PowerOnTime { get; }

    public long Nanoseconds
    {
        get
        {
            // In this order: Resume moves the zero point first and ends the pause after it.
            long pausedAt = Volatile.Read(ref _pausedAt);
            if (pausedAt != NotPaused)
            {
                return pausedAt;
            }

            if (Volatile.Read(ref _counter) is { } counter)
            {
                ulong value = HostCounter.Value;
                if (value >= counter.Start)
                {
                    return counter.At(value);
                }

                // It has begun anew, as after a suspension to RAM on some hosts: not to be used again.
                GiveUpCounter();
            }

            return HostTime.Nanoseconds - Volatile.Read(ref _hostTimeAtZero);
        }
    }

    public CounterClock? Counter => Volatile.Read(ref _pausedAt) == NotPaused ? Volatile.Read(ref _counter) : null;

    public IClockTimer CreateTimer(Action onExpired) => new Timer(this, onExpired);

    /// <summary>Stops time; no callback runs after this returns. Not for use under the chipset lock by a callback.</summary>
    public void Pause()
    {
        lock (_chipsetLock)
        {
            lock (_heapLock)
            {
                if (_pausedAt == NotPaused)
                {
                    Volatile.Write(ref _pausedAt, Nanoseconds);
                    Volatile.Write(ref _counter, null);
                }
            }
        }
    }

    /// <summary>Lets time go on from where it stopped.</summary>
    public void Resume()
    {
        lock (_heapLock)
        {
            if (_pausedAt != NotPaused)
            {
                Volatile.Write(ref _hostTimeAtZero, HostTime.Nanoseconds - _pausedAt);
                Volatile.Write(ref _counter, FollowCounter(_pausedAt));
                Volatile.Write(ref _pausedAt, NotPaused);
            }
        }

        _wake.Signal();
    }

    /// <summary>Takes all deadlines back, for a machine whose devices are replaced. Call it while paused.</summary>
    public void CancelAll()
    {
        lock (_heapLock)
        {
            _heap.Clear();
        }
    }

    /// <summary>Ends the timer thread; no callback runs after this returns.</summary>
    public void Dispose()
    {
        lock (_heapLock)
        {
            _isDisposed = true;
        }

        _wake.Signal();
        if (Thread.CurrentThread != _thread)
        {
            _thread.Join();
        }

        _wake.Dispose();
    }

    private CounterClock? FollowCounter(long now)
    {
        if (_isUnfit || !HostCounter.IsReliable || HostCounter.Rate is not (> 0 and ulong rate))
        {
            return null;
        }

        (ulong counter, long time) = HostCounter.ReadBoth();
        _hostTimeAtZero = time - now;
        return new CounterClock(counter, rate, now);
    }

    private void GiveUpCounter()
    {
        lock (_heapLock)
        {
            if (_counter is { } counter)
            {
                // The counter may have run a little faster than the clock that goes on: time must not go back.
                long passed = HostTime.Nanoseconds - _hostTimeAtZero - counter.Nanoseconds;
                Volatile.Write(ref _hostTimeAtZero, _hostTimeAtZero - (passed >> DriftShift));
                _isUnfit = true;
                Volatile.Write(ref _counter, null);
            }
        }
    }

    private void Run()
    {
        HostTime.UseExactWaits();
        while (true)
        {
            long wait;
            lock (_heapLock)
            {
                if (_isDisposed)
                {
                    return;
                }

                wait = NextWait();
                _sleepsUntil = wait switch
                {
                    0 => long.MinValue,
                    < 0 => long.MaxValue,
                    _ => _heap.Earliest!.Deadline,
                };
            }

            if (wait != 0)
            {
                _ = _wake.Wait(wait);
            }
            else
            {
                RunDue();
            }
        }
    }

    /// <summary>Nanoseconds to the earliest deadline, 0 when that is past, -1 when nothing can expire.</summary>
    private long NextWait()
    {
        TimerEntry? first = _heap.Earliest;
        return first == null || _pausedAt != NotPaused ? -1 : Math.Max(0, first.Deadline - Nanoseconds);
    }

    private void RunDue()
    {
        lock (_chipsetLock)
        {
            for (int i = 0; i < MaxBatch; i++)
            {
                TimerEntry due;
                lock (_heapLock)
                {
                    if (_isDisposed || NextWait() != 0)
                    {
                        return;
                    }

                    due = _heap.Earliest!;
                    _heap.Remove(due);
                }

                try
                {
                    due.OnExpired();
                }
                catch (Exception e) when (_onFailure != null)
                {
                    // What a device throws must end its machine, not the process.
                    _onFailure(e);
                }
            }
        }
    }

    private void Arm(Timer timer, long deadline)
    {
        bool isEarliest;
        lock (_heapLock)
        {
            _heap.Set(timer, Math.Max(0, deadline));
            // A thread that is awake, or has been woken for an earlier deadline, looks again by itself.
            isEarliest = timer.Deadline < _sleepsUntil && _pausedAt == NotPaused;
            if (isEarliest)
            {
                _sleepsUntil = timer.Deadline;
            }
        }

        if (isEarliest)
        {
            _wake.Signal();
        }
    }

    private void Cancel(Timer timer)
    {
        lock (_heapLock)
        {
            _heap.Remove(timer);
        }
    }

    private sealed class Timer(HostClock clock, Action onExpired) : TimerEntry(onExpired), IClockTimer
    {
        public void Arm(long deadlineNanoseconds) => clock.Arm(this, deadlineNanoseconds);

        public void Cancel() => clock.Cancel(this);
    }
}
