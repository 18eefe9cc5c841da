namespace Tutti.Cpu.Software;

/// <summary>The TSC: 1 GHz, the guest clock's nanoseconds and an offset.</summary>
public sealed unsafe class TimeStampCounter
{
    private readonly CpuState* _state;
    private readonly IGuestClock _clock;
    private readonly ILocalApic _lapic;

    internal TimeStampCounter(CpuState* state, IGuestClock clock, ILocalApic lapic)
    {
        _state = state;
        _clock = clock;
        _lapic = lapic;
    }

    /// <summary>The TSC: 1 GHz.</summary>
    public ulong Read() => (ulong)(_clock.Nanoseconds + _state->TscOffset);

    /// <summary>Sets how far the TSC is ahead of the guest clock, for RDTSC and for the TSC-deadline timer.</summary>
    internal void SetOffset(long offset)
    {
        _state->TscOffset = offset;
        _lapic.TscOffset = offset;
    }
}
