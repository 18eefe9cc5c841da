namespace Tutti.Devices.Acpi;

/// <summary>The reset control register at port 0xCF9: bit 2 going from 0 to 1 resets the machine. Source: Intel ICH data sheets, "RST_CNT".</summary>
public sealed class ResetControl(IPowerControl power) : BytePortDevice, IStatefulDevice<byte>
{
    private const byte SysRst = 1 << 1;
    private const byte RstCpu = 1 << 2;
    private const byte FullRst = 1 << 3;

    private byte _value;

    protected override byte ReadRegister(int offset) => _value;

    protected override void WriteRegister(int offset, byte value)
    {
        bool reset = (value & ~_value & RstCpu) != 0;
        _value = (byte)(value & (SysRst | RstCpu | FullRst));
        if (reset)
        {
            power.Reset();
        }
    }

    public byte Save() => _value;

    public void Restore(byte state) => _value = (byte)(state & (SysRst | RstCpu | FullRst));
}
