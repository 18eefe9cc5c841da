using Tutti.Cpu;

namespace Tutti.Devices.Tests;

/// <summary>A guest clock that tests move by hand.</summary>
internal sealed class TestClock : IGuestClock
{
    private readonly List<Timer> _timers = [];

    public long Nanoseconds { get; private set; }

    public DateTimeOffset PowerOnTime { get; init; } = new(2026, 2, 28, 23, 59, 50, TimeSpan.Zero);

    /// <summary>Timer callbacks run so far: what a guest's settings cost the host.</summary>
    public int Callbacks { get; private set; }

    public bool AnyArmed => _timers.Exists(timer => timer.Deadline is not null);

    public IClockTimer CreateTimer(Action onExpired)
    {
        Timer timer = new(onExpired);
        _timers.Add(timer);
        return timer;
    }

    /// <summary>Lets time pass, with each timer on time.</summary>
    public void Advance(long nanoseconds)
    {
        long end = Nanoseconds + nanoseconds;
        while (Next(end) is { } timer)
        {
            Nanoseconds = Math.Max(Nanoseconds, timer.Deadline!.Value);
            Run(timer);
        }

        Nanoseconds = end;
    }

    /// <summary>Lets time pass in one step, as when the host was paused: every timer due is late.</summary>
    public void Jump(long nanoseconds)
    {
        Nanoseconds += nanoseconds;
        while (Next(Nanoseconds) is { } timer)
        {
            Run(timer);
        }
    }

    /// <summary>Takes over the time of another machine's clock, as on restore.</summary>
    public void SetTo(long nanoseconds) => Nanoseconds = nanoseconds;

    private Timer? Next(long end)
    {
        Timer? next = null;
        foreach (Timer timer in _timers)
        {
            if (timer.Deadline <= end && (next is null || timer.Deadline < next.Deadline))
            {
                next = timer;
            }
        }

        return next;
    }

    private void Run(Timer timer)
    {
        timer.Cancel();
        Callbacks++;
        timer.OnExpired();
    }

    private sealed class Timer(Action onExpired) : IClockTimer
    {
        public Action OnExpired => onExpired;

        public long? Deadline { get; private set; }

        public void Arm(long deadlineNanoseconds) => Deadline = deadlineNanoseconds;

        public void Cancel() => Deadline = null;
    }
}
