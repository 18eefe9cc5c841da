namespace Tutti.Cpu;

/// <summary>How a guest clock follows the host's time-stamp counter: so that emitted code can compute the time, too.</summary>
/// <param name="Start">The counter at <paramref name="Nanoseconds"/>.</param>
/// <param name="Rate">Nanoseconds in a tick, times 2^64.</param>
/// <param name="Nanoseconds">Guest time at <paramref name="Start"/>.</param>
public sealed record CounterClock(ulong Start, ulong Rate, long Nanoseconds)
{
    /// <summary>Guest time, in nanoseconds, when the counter stands at a value of at least <see cref="Start"/>.</summary>
    public long At(ulong counter) => Nanoseconds + (long)Math.BigMul(counter - Start, Rate, out _);
}
