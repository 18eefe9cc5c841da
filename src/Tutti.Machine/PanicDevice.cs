using Tutti.Devices;

namespace Tutti.Machine;

/// <summary>
/// The pvpanic device: a guest's kernel writes a 1 to its only port when it panics. Reading tells what the device
/// understands. Source: QEMU's specification "PVPANIC DEVICE".
/// </summary>
internal sealed class PanicDevice(Action onPanic) : IPortDevice
{
    internal const ushort Port = 0x505;

    private const byte Panicked = 1;

    public IoResult ReadPort(ushort offset, Span<byte> data)
    {
        data.Clear();
        data[0] = Panicked;
        return IoResult.Ok;
    }

    public IoResult WritePort(ushort offset, ReadOnlySpan<byte> data)
    {
        if ((data[0] & Panicked) != 0)
        {
            onPanic();
        }

        return IoResult.Ok;
    }
}
