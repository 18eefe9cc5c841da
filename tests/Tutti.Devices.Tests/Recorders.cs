using Tutti.Cpu;
using Tutti.Devices.Serial;

namespace Tutti.Devices.Tests;

/// <summary>An interrupt line that counts its rising edges.</summary>
internal sealed class RecordingLine : IInterruptLine
{
    public bool Asserted { get; private set; }

    public int Edges { get; private set; }

    public void Set(bool asserted)
    {
        if (asserted && !Asserted)
        {
            Edges++;
        }

        Asserted = asserted;
    }
}

internal sealed class RecordingPower : IPowerControl
{
    public int PowerOffs { get; private set; }

    public int Resets { get; private set; }

    public void PowerOff() => PowerOffs++;

    public void Reset() => Resets++;
}

internal sealed class RecordingSignals : IProcessorSignals
{
    public int Interrupts { get; private set; }

    public int Nmis { get; private set; }

    public int Inits { get; private set; }

    public List<byte> Startups { get; } = [];

    public void SignalInterrupt() => Interrupts++;

    public void SignalNmi() => Nmis++;

    public void SignalInit() => Inits++;

    public void SignalStartup(byte vector) => Startups.Add(vector);
}

internal sealed class RecordingBackend : ISerialBackend
{
    public List<byte> Sent { get; } = [];

    public Action? OnReceiveReady { get; set; }

    public int ReceiveReadyCalls { get; private set; }

    public void Transmit(ReadOnlySpan<byte> data) => Sent.AddRange(data);

    public void ReceiveReady()
    {
        ReceiveReadyCalls++;
        OnReceiveReady?.Invoke();
    }
}

internal static class PortAccess
{
    public static byte In(this IPortDevice device, int offset)
    {
        Span<byte> data = [0xFF];
        device.ReadPort((ushort)offset, data);
        return data[0];
    }

    public static void Out(this IPortDevice device, int offset, int value) => device.WritePort((ushort)offset, [(byte)value]);
}
