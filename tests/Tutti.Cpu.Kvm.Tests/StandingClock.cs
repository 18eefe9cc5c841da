namespace Tutti.Cpu.Kvm.Tests;

/// <summary>The clock of guests whose engine keeps time itself.</summary>
internal sealed class StandingClock : IGuestClock
{
    public long Nanoseconds => 0;

    public DateTimeOffset PowerOnTime => DateTimeOffset.UnixEpoch;

    public IClockTimer CreateTimer(Action onExpired) => throw new NotSupportedException("The engine keeps time itself.");
}
