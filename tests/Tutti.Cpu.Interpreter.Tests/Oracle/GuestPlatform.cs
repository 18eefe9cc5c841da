using Tutti.Cpu;

namespace Tutti.Cpu.Interpreter.Tests.Oracle;

/// <summary>A machine around a processor that interrupts it only when a test says so: open bus, no timers, time stands still.</summary>
internal sealed class GuestPlatform : ICpuIo, IGuestClock, ILocalApic
{
    public long Nanoseconds => 1_000_000_000;

    public DateTimeOffset PowerOnTime => DateTimeOffset.UnixEpoch;

    public ulong ApicBase { get; private set; } = 0xFEE0_0900;

    public byte TaskPriority { get; set; }

    public long TscOffset { get; set; }

    public void ReadPort(ushort port, Span<byte> data) => data.Fill(0xFF);

    public void WritePort(ushort port, ReadOnlySpan<byte> data)
    {
    }

    public void ReadMmio(ulong address, Span<byte> data) => data.Fill(0xFF);

    public void WriteMmio(ulong address, ReadOnlySpan<byte> data)
    {
    }

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
        return true;
    }

    public bool TryWriteMsr(uint msr, ulong value) => true;

    /// <summary>The interrupt that is taken next, or -1.</summary>
    public int PendingVector { get; set; } = -1;

    public int AcknowledgeInterrupt()
    {
        int vector = PendingVector;
        PendingVector = -1;
        return vector;
    }

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
