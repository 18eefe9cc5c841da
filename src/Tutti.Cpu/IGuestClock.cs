namespace Tutti.Cpu;

/// <summary>The guest's time. Machines inject one that follows the host; tests inject one they move by hand.</summary>
public interface IGuestClock
{
    /// <summary>Nanoseconds since the machine was powered on; never goes back, stands still while the machine is paused.</summary>
    long Nanoseconds { get; }

    /// <summary>
    /// How <see cref="Nanoseconds"/> comes from the host's time-stamp counter at present; null where it does not, and while time stands
    /// still. Changes only while no vCPU runs, but for a null that says that the counter has turned out to be unfit.
    /// </summary>
    CounterClock? Counter => null;

    /// <summary>Wall-clock time at guest time zero, for the CMOS RTC and paravirtual wall clocks.</summary>
    DateTimeOffset PowerOnTime { get; }

    /// <summary>Makes a one-shot timer, not armed. The callback runs under the machine's chipset lock, never inside <see cref="IClockTimer.Arm"/>.</summary>
    IClockTimer CreateTimer(Action onExpired);
}

/// <summary>A one-shot timer on a guest clock.</summary>
public interface IClockTimer
{
    /// <summary>Lets the timer expire at this guest time in nanoseconds, or at once when that is past; replaces an earlier deadline.</summary>
    void Arm(long deadlineNanoseconds);

    /// <summary>Takes the deadline back.</summary>
    void Cancel();
}
