namespace Tutti.Devices.Keyboard;

/// <summary>The A20 gate, which the keyboard controller and port 0x92 share. Open from the start, as firmware leaves it.</summary>
public sealed class A20Gate : IStatefulDevice<bool>
{
    public bool IsOpen { get; set; } = true;

    public bool Save() => IsOpen;

    public void Restore(bool state) => IsOpen = state;
}

/// <summary>Port 0x92: fast A20 (bit 1) and fast reset (bit 0 going from 0 to 1). Source: IBM PS/2 Hardware Interface Technical Reference.</summary>
public sealed class SystemControlPortA(A20Gate a20, IPowerControl power) : BytePortDevice, IStatefulDevice<byte>
{
    private const byte FastReset = 0x01;
    private const byte FastA20 = 0x02;

    private byte _other;

    protected override byte ReadRegister(int offset) => (byte)(_other | (a20.IsOpen ? FastA20 : 0));

    protected override void WriteRegister(int offset, byte value)
    {
        bool reset = (value & ~_other & FastReset) != 0;
        _other = (byte)(value & ~FastA20);
        a20.IsOpen = (value & FastA20) != 0;
        if (reset)
        {
            power.Reset();
        }
    }

    public byte Save() => _other;

    public void Restore(byte state) => _other = (byte)(state & ~FastA20);
}
