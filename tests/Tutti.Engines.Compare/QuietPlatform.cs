using Tutti.Cpu;

namespace Tutti.Engines.Compare;

/// <summary>Time that stands still and a local APIC that never interrupts, for engines that bring none.</summary>
internal sealed class QuietPlatform : IGuestClock, ILocalApic
{
    public long Nanoseconds => 1_000_000_000;

    public DateTimeOffset PowerOnTime => DateTimeOffset.UnixEpoch;

    public ulong ApicBase { get; private set; } = 0xFEE0_0900;

    public byte TaskPriority { get; set; }

    public long TscOffset { get; set; }

    public IClockTimer CreateTimer(Action onExpired) => new Timer();

    public bool TryWriteApicBase(ulong value)
    {
        ApicBase = value;
        return true;
    }

    public void ReadMmio(uint offset, Span<byte> data) => data.Clear();

    public void WriteMmio(uint offset, ReadOnlySpan<byte> data)
    {
    }

    public bool TryReadMsr(uint msr, out ulong value)
    {
        value = 0;
        return false;
    }

    public bool TryWriteMsr(uint msr, ulong value) => false;

    public int AcknowledgeInterrupt() => -1;

    public void Initialize()
    {
    }

    private sealed class Timer : IClockTimer
    {
        public void Arm(long deadlineNanoseconds)
        {
        }

        public void Cancel()
        {
        }
    }
}
