using Tutti.Cpu;

namespace Tutti.Virtio.Tests.Pci;

/// <summary>A guest clock that tests move by hand.</summary>
internal sealed class TestGuestClock : IGuestClock
{
    private readonly List<Timer> _timers = [];

    public long Nanoseconds { get; private set; }

    public DateTimeOffset PowerOnTime => DateTimeOffset.UnixEpoch;

    internal bool IsArmed => _timers.Exists(timer => timer.Deadline != null);

    public IClockTimer CreateTimer(Action onExpired)
    {
        Timer timer = new(onExpired);
        _timers.Add(timer);
        return timer;
    }

    internal void Advance(long nanoseconds)
    {
        Nanoseconds += nanoseconds;
        foreach (Timer timer in _timers)
        {
            timer.Run(Nanoseconds);
        }
    }

    private sealed class Timer(Action onExpired) : IClockTimer
    {
        internal long? Deadline { get; private set; }

        public void Arm(long deadlineNanoseconds) => Deadline = deadlineNanoseconds;

        public void Cancel() => Deadline = null;

        internal void Run(long now)
        {
            if (Deadline <= now)
            {
                Deadline = null;
                onExpired();
            }
        }
    }
}
