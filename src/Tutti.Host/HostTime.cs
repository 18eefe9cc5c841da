using System.Diagnostics;

namespace Tutti.Host;

/// <summary>The host's monotonic time, and how exactly this thread is woken by it.</summary>
public static class HostTime
{
    private static readonly long NanosecondsPerTick = 1_000_000_000 / Stopwatch.Frequency;

    /// <summary>Nanoseconds of CLOCK_MONOTONIC; only differences mean something.</summary>
    public static long Nanoseconds => Stopwatch.GetTimestamp() * NanosecondsPerTick;

    /// <summary>Lets timed waits of the calling thread end on time instead of up to 50 us later (the kernel's default slack).</summary>
    public static void UseExactWaits() => _ = LibC.prctl(LibC.PR_SET_TIMERSLACK, 1, 0, 0, 0);
}
