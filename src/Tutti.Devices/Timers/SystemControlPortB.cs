using Tutti.Cpu;
using static Tutti.Devices.Timers.PitRegisters;

namespace Tutti.Devices.Timers;

/// <summary>
/// Port 0x61: gate and output of counter 2, the speaker (which is silent), and the refresh toggle that old code times
/// itself by. Source: IBM PC/AT Technical Reference.
/// </summary>
public sealed class SystemControlPortB(IGuestClock clock, Pit8254 pit) : BytePortDevice, IStatefulDevice<byte>
{
    // A refresh request comes every 15.085 microseconds.
    private const long RefreshNanoseconds = 15_085;

    private byte _value;

    protected override byte ReadRegister(int offset) => (byte)(_value
        | ((clock.Nanoseconds / RefreshNanoseconds & 1) != 0 ? PortBRefreshToggle : 0)
        | (pit.Output2 ? PortBTimer2Output : 0));

    protected override void WriteRegister(int offset, byte value)
    {
        _value = (byte)(value & PortBWritable);
        pit.Gate2 = (value & PortBTimer2Gate) != 0;
    }

    public byte Save() => _value;

    /// <summary>Takes the register over; the gate is in the 8254's own state.</summary>
    public void Restore(byte state) => _value = (byte)(state & PortBWritable);
}
