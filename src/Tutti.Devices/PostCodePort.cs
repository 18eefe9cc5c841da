namespace Tutti.Devices;

/// <summary>Port 0x80: keeps the last power-on self-test code; guests also write it to pass the time.</summary>
public sealed class PostCodePort : BytePortDevice, IStatefulDevice<byte>
{
    public const ushort Port = 0x80;

    public byte LastCode { get; private set; }

    protected override byte ReadRegister(int offset) => LastCode;

    protected override void WriteRegister(int offset, byte value) => LastCode = value;

    public byte Save() => LastCode;

    public void Restore(byte state) => LastCode = state;
}
