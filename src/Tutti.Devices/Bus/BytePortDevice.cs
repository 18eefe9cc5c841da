namespace Tutti.Devices;

/// <summary>A device of byte-wide registers: a wider access touches the registers one after the other, as an 8-bit bus makes it.</summary>
public abstract class BytePortDevice : IPortDevice
{
    public IoResult ReadPort(ushort offset, Span<byte> data)
    {
        for (int i = 0; i < data.Length; i++)
        {
            data[i] = ReadRegister(offset + i);
        }

        return IoResult.Ok;
    }

    public IoResult WritePort(ushort offset, ReadOnlySpan<byte> data)
    {
        for (int i = 0; i < data.Length; i++)
        {
            WriteRegister(offset + i, data[i]);
        }

        return IoResult.Ok;
    }

    /// <summary>Reads one register; an offset without one reads as 0xFF.</summary>
    protected abstract byte ReadRegister(int offset);

    /// <summary>Writes one register; an offset without one ignores it.</summary>
    protected abstract void WriteRegister(int offset, byte value);
}

/// <summary>One port range of a device that has several.</summary>
internal sealed class BytePorts(Func<int, byte> read, Action<int, byte> write) : BytePortDevice
{
    protected override byte ReadRegister(int offset) => read(offset);

    protected override void WriteRegister(int offset, byte value) => write(offset, value);
}
