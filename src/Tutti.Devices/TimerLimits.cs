namespace Tutti.Devices;

/// <summary>Limits that keep a guest's timer settings from occupying the host.</summary>
public static class TimerLimits
{
    /// <summary>
    /// The least time between two expiries of a periodic timer, in nanoseconds. A guest may program shorter periods: the
    /// counters it reads stay right, it only gets fewer interrupts, as on hardware that coalesces edges it cannot take.
    /// </summary>
    public const long MinimumPeriodNanoseconds = 20_000;
}
