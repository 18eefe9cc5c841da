using Tutti.Cpu;
using Tutti.Devices;

namespace Tutti.Machine;

/// <summary>
/// What vCPUs reach outside RAM: the ports and addresses of a board's devices, under the chipset lock. What no device has is
/// answered without: guests look for hardware that is not there, and need not hold up those that use theirs. Doorbells ring without, too.
/// </summary>
internal sealed class SystemBus(Lock chipset) : ICpuIo
{
    /// <summary>To be changed with the vCPUs stopped, or under the chipset lock.</summary>
    internal PortBus Ports { get; } = new();

    /// <summary>To be changed with the vCPUs stopped, or under the chipset lock.</summary>
    internal MmioBus Mmio { get; } = new();

    /// <summary>Writes that ring instead of going to a device's registers; changed as the buses are.</summary>
    internal BoardDoorbells Doorbells { get; } = new();

    public void ReadPort(ushort port, Span<byte> data)
    {
        if (!Ports.Reaches(port, data.Length))
        {
            data.Fill(0xFF);
            return;
        }

        lock (chipset)
        {
            Ports.Read(port, data);
        }
    }

    public void WritePort(ushort port, ReadOnlySpan<byte> data)
    {
        if (!Ports.Reaches(port, data.Length))
        {
            return;
        }

        lock (chipset)
        {
            Ports.Write(port, data);
        }
    }

    public void ReadMmio(ulong address, Span<byte> data)
    {
        if (!Mmio.Reaches(address, data.Length))
        {
            data.Fill(0xFF);
            return;
        }

        lock (chipset)
        {
            Mmio.Read(address, data);
        }
    }

    public void WriteMmio(ulong address, ReadOnlySpan<byte> data)
    {
        if (Doorbells.TryRing(address, data.Length))
        {
            return;
        }

        if (!Mmio.Reaches(address, data.Length))
        {
            return;
        }

        lock (chipset)
        {
            Mmio.Write(address, data);
        }
    }
}
