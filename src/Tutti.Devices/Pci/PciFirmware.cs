using System.Buffers.Binary;
using static Tutti.Devices.Pci.PciRegisters;

namespace Tutti.Devices.Pci;

/// <summary>A run of addresses, or of ports, for functions' ranges.</summary>
/// <param name="Start">The first.</param>
/// <param name="End">The first behind it.</param>
public readonly record struct PciWindow(ulong Start, ulong End);

/// <summary>
/// What a PC's firmware does with its PCI bus before it starts a system: gives every range an address, switches decoding on, and notes
/// each function's interrupt. Systems keep these settings or make their own.
/// </summary>
/// <param name="ports">For I/O ranges.</param>
/// <param name="low">For memory ranges: below 4 GiB.</param>
/// <param name="high">For what is 64 bits wide and finds no room below.</param>
/// <param name="interruptLines">The 8259 inputs of the eight interrupts; see <see cref="PciBus.InterruptOf"/>.</param>
public sealed class PciFirmware(PciWindow ports, PciWindow low, PciWindow high, IReadOnlyList<byte> interruptLines)
{
    private ulong _nextPort = ports.Start;
    private ulong _nextLow = low.Start;
    private ulong _nextHigh = high.Start;

    /// <summary>Sets all functions of a bus up. Call it once, under the chipset lock, before the guest runs.</summary>
    /// <returns>False where some range found no room and is not decoded.</returns>
    public bool SetUp(PciBus bus)
    {
        // The largest first: each lies at a multiple of its size, and none leaves a hole that a smaller one can't fill.
        var ranges = bus.Functions.SelectMany(function => function.Bars.Select(bar => (Function: function, Bar: bar)))
            .OrderByDescending(range => range.Bar.Size).ToList();
        bool haveAll = true;
        HashSet<PciFunction> decoded = [.. bus.Functions];
        foreach ((PciFunction function, PciBar bar) in ranges)
        {
            ulong? address = Place(bar);
            if (address == null)
            {
                haveAll = false;
                _ = decoded.Remove(function);
                continue;
            }

            function.PlaceBar(bar, address.Value);
        }

        foreach (PciFunction function in bus.Functions)
        {
            Start(function, decoded.Contains(function));
        }

        return haveAll;
    }

    private ulong? Place(PciBar bar) => bar.Kind switch
    {
        PciBarKind.Io => Take(ref _nextPort, ports.End, bar.Size),
        PciBarKind.Memory32 => Take(ref _nextLow, low.End, bar.Size),
        _ => Take(ref _nextLow, low.End, bar.Size) ?? Take(ref _nextHigh, high.End, bar.Size),
    };

    private static ulong? Take(ref ulong next, ulong end, ulong size)
    {
        ulong address = (next + (size - 1)) & ~(size - 1);
        if (address < next || address > end || end - address < size)
        {
            return null;
        }

        next = address + size;
        return address;
    }

    private void Start(PciFunction function, bool isDecoded)
    {
        Span<byte> value = stackalloc byte[2];
        if (function.Identity.BaseClass != 0x06)
        {
            function.WriteConfig(InterruptLine, [interruptLines[PciBus.InterruptOf(function.Slot, 0)]]);
        }

        uint spaces = 0;
        foreach (PciBar bar in function.Bars)
        {
            spaces |= bar.Kind == PciBarKind.Io ? IoSpace : (uint)MemorySpace;
        }

        BinaryPrimitives.WriteUInt16LittleEndian(value, isDecoded ? (ushort)spaces : (ushort)0);
        function.WriteConfig(Command, value);
    }
}
