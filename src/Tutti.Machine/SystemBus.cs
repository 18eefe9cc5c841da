using Tutti.Cpu;
using Tutti.Devices;

namespace Tutti.Machine;

/// <summary>What vCPUs reach outside RAM: the ports and addresses of a board's devices, under the chipset lock.</summary>
internal sealed class SystemBus(Lock chipset) : ICpuIo
{
    /// <summary>To be changed with the vCPUs stopped, or under the chipset lock.</summary>
    internal PortBus Ports { get; } = new();

    /// <summary>To be changed with the vCPUs stopped, or under the chipset lock.</summary>
    internal MmioBus Mmio { get; } = new();

    public void ReadPort(ushort port, Span<byte> data)
    {
        lock (chipset)
        {
            Ports.Read(port, data);
        }
    }

    public void WritePort(ushort port, ReadOnlySpan<byte> data)
    {
        lock (chipset)
        {
            Ports.Write(port, data);
        }
    }

    public void ReadMmio(ulong address, Span<byte> data)
    {
        lock (chipset)
        {
            Mmio.Read(address, data);
        }
    }

    public void WriteMmio(ulong address, ReadOnlySpan<byte> data)
    {
        lock (chipset)
        {
            Mmio.Write(address, data);
        }
    }
}
