using System.Buffers.Binary;
using System.Numerics;

namespace Tutti.Devices.Pci;

/// <summary>One base address register (two for 64 bits) of a function, and where its range lies on the buses now.</summary>
internal sealed class PciBar
{
    /// <summary>I/O ranges are at most so long. Source: PCI Local Bus Specification 3.0, 6.2.5.1.</summary>
    private const ulong MaxIoSize = 256;

    private const ulong MinMemorySize = 4096;
    private const ulong MaxMemory32Size = 1UL << 31;

    private readonly IMmioDevice? _mmio;
    private readonly IPortDevice? _ports;

    internal PciBar(int index, PciBarKind kind, ulong size, IMmioDevice? mmio, IPortDevice? ports)
    {
        bool isIo = kind == PciBarKind.Io;
        ulong least = isIo ? 4 : MinMemorySize;
        ulong most = isIo ? MaxIoSize : kind == PciBarKind.Memory32 ? MaxMemory32Size : 1UL << 62;
        if (!BitOperations.IsPow2(size) || size < least || size > most)
        {
            throw new ArgumentOutOfRangeException(nameof(size), size, $"A range of this kind has {least} to {most} bytes, a power of two.");
        }

        if (isIo != (ports != null))
        {
            throw new ArgumentException("Ports need a port device, addresses an MMIO device.", nameof(kind));
        }

        (Index, Kind, Size, _mmio, _ports) = (index, kind, size, mmio, ports);
    }

    internal int Index { get; }

    internal PciBarKind Kind { get; }

    /// <summary>Bytes, or ports.</summary>
    internal ulong Size { get; }

    internal bool Is64Bit => Kind is PciBarKind.Memory64 or PciBarKind.Memory64Prefetchable;

    /// <summary>Where the range is on its bus; null while it is on none.</summary>
    internal ulong? Mapped { get; private set; }

    internal int Register => PciRegisters.Bar0 + (4 * Index);

    private bool IsIo => Kind == PciBarKind.Io;

    /// <summary>Puts the kind into the register and makes the address bits writable: that is all that sizing by a guest needs.</summary>
    internal void Initialize(Span<byte> configuration, Span<byte> writable)
    {
        uint kind = Kind switch
        {
            PciBarKind.Io => PciRegisters.BarIo,
            PciBarKind.Memory32 => 0,
            PciBarKind.Memory64 => PciRegisters.BarMemory64,
            _ => PciRegisters.BarMemory64 | PciRegisters.BarPrefetchable,
        };
        BinaryPrimitives.WriteUInt32LittleEndian(configuration[Register..], kind);
        ulong mask = ~(Size - 1);
        BinaryPrimitives.WriteUInt32LittleEndian(writable[Register..], (uint)mask);
        if (Is64Bit)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(writable[(Register + 4)..], (uint)(mask >> 32));
        }
    }

    /// <summary>The address that the guest has written, without the kind.</summary>
    internal ulong ReadAddress(ReadOnlySpan<byte> configuration) => (Is64Bit
        ? BinaryPrimitives.ReadUInt64LittleEndian(configuration[Register..])
        : BinaryPrimitives.ReadUInt32LittleEndian(configuration[Register..])) & ~(Size - 1);

    internal void WriteAddress(Span<byte> configuration, ulong address)
    {
        uint kind = BinaryPrimitives.ReadUInt32LittleEndian(configuration[Register..]) & 0xF & (uint)(Size - 1);
        BinaryPrimitives.WriteUInt32LittleEndian(configuration[Register..], (uint)address | kind);
        if (Is64Bit)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(configuration[(Register + 4)..], (uint)(address >> 32));
        }
    }

    /// <summary>Where the registers want the range; null for nowhere: not enabled, at 0 (no address was given yet), or out of its space.</summary>
    internal ulong? GetWanted(ReadOnlySpan<byte> configuration, ushort command)
    {
        ulong address = ReadAddress(configuration);
        bool isEnabled = (command & (IsIo ? PciRegisters.IoSpace : PciRegisters.MemorySpace)) != 0;
        bool isInSpace = address != 0 && (!IsIo || address + Size <= 0x1_0000);
        return isEnabled && isInSpace ? address : null;
    }

    internal bool TryMap(MmioBus mmio, PortBus ports, ulong address)
    {
        bool isMapped = IsIo ? ports.TryMap((ushort)address, (int)Size, _ports!, maxWidth: 4) : mmio.TryMap(address, Size, _mmio!);
        Mapped = isMapped ? address : null;
        return isMapped;
    }

    internal void Unmap(MmioBus mmio, PortBus ports)
    {
        if (Mapped is ulong address)
        {
            _ = IsIo ? ports.Unmap((ushort)address) : mmio.Unmap(address);
            Mapped = null;
        }
    }
}
