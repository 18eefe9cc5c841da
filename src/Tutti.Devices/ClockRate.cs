namespace Tutti.Devices;

/// <summary>Converts guest time to and from the cycles of a device clock, exactly and without overflow.</summary>
/// <param name="hertz">Cycles a second, 1 to 1,000,000,000.</param>
public readonly struct ClockRate(long hertz)
{
    private const long NanosecondsPerSecond = 1_000_000_000;

    public long Hertz { get; } = hertz;

    /// <summary>Whole cycles that have passed after this many nanoseconds (0 or more).</summary>
    public long ToTicks(long nanoseconds)
    {
        (long seconds, long rest) = Math.DivRem(nanoseconds, NanosecondsPerSecond);
        return (seconds * Hertz) + (rest * Hertz / NanosecondsPerSecond);
    }

    /// <summary>The first nanosecond at which this many cycles (0 or more) have passed; saturates at <see cref="long.MaxValue"/>.</summary>
    public long ToNanoseconds(long ticks)
    {
        (long seconds, long rest) = Math.DivRem(ticks, Hertz);
        if (seconds >= long.MaxValue / NanosecondsPerSecond)
        {
            return long.MaxValue;
        }

        return (seconds * NanosecondsPerSecond) + (((rest * NanosecondsPerSecond) + Hertz - 1) / Hertz);
    }
}
