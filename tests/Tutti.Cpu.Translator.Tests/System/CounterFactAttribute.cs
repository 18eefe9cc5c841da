using Tutti.Host;

namespace Tutti.Cpu.Translator.Tests.System;

/// <summary>A test that compares the guest's counter with the host's.</summary>
public sealed class CounterFactAttribute : FactAttribute
{
    public CounterFactAttribute()
    {
        if (!HostCounter.IsReliable || HostCounter.Rate == 0)
        {
            Skip = "the host's time-stamp counter does not tell its time (current_clocksource is not tsc, or it is slower than 1 GHz)";
        }
    }
}
