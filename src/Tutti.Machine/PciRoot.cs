using Tutti.Devices;
using Tutti.Devices.InterruptControllers;
using Tutti.Devices.Pci;

namespace Tutti.Machine;

/// <summary>A board's PCI bus: host bridge, the machine's functions behind it, and what firmware would have set in them.</summary>
internal sealed class PciRoot : IDisposable
{
    private readonly Lock _chipset;
    private readonly BoardMessages _messages;
    private readonly List<PciFunction> _functions = [];
    private readonly PciBus _bus;

    internal PciRoot(SystemBus bus, InterruptRouter router, BoardMessages messages, Lock chipset)
    {
        (_messages, _chipset) = (messages, chipset);
        IInterruptLine[] lines = [.. Enumerable.Range(0, PciBus.InterruptCount).Select(interrupt => new PciLine(router, interrupt))];
        _bus = new PciBus(bus.Mmio, bus.Ports, messages, lines);
        new PciHostBridge(_bus).Map(bus.Ports, bus.Mmio, PcAddresses.Ecam);
    }

    /// <summary>Makes the machine's functions, from slot 1 on, and sets them up.</summary>
    /// <exception cref="ArgumentException">They have no room.</exception>
    internal void AddFunctions(IEnumerable<Func<BoardServices, PciFunction>> factories, BoardServices services)
    {
        foreach (Func<BoardServices, PciFunction> factory in factories)
        {
            _functions.Add(factory(services));
        }

        lock (_chipset)
        {
            foreach (PciFunction function in _functions)
            {
                _ = _bus.Add(function);
            }

            PciFirmware firmware = new(
                PcAddresses.PciPorts, PcAddresses.PciLowMemory, PcAddresses.PciHighMemory(services.Memory), PcAddresses.PciLegacyInterrupts);
            if (!firmware.SetUp(_bus))
            {
                throw new ArgumentException("The machine's PCI functions need more addresses than there are.", nameof(factories));
            }
        }
    }

    /// <summary>
    /// Takes the functions off the bus, so that no interrupt or doorbell of theirs reaches the engine, and ends them: afterwards no work of
    /// theirs touches guest memory. Only while no vCPU runs, and without the chipset lock, which their workers may need to come to an end.
    /// </summary>
    public void Dispose()
    {
        lock (_chipset)
        {
            foreach (PciFunction function in _functions.Where(function => function.Slot >= 0))
            {
                _ = _bus.Remove(function.Slot);
            }

            _messages.Disconnect();
        }

        foreach (PciFunction function in _functions)
        {
            function.Dispose();
        }
    }

    /// <summary>
    /// One of the eight interrupts: an I/O APIC input above the ISA interrupts, and for systems without it an 8259 input. A system uses one
    /// of the two, and keeps the other masked.
    /// </summary>
    private sealed class PciLine(InterruptRouter router, int interrupt) : IInterruptLine
    {
        private readonly IInterruptLine _global = router.GetLine(PcAddresses.PciGlobalInterrupt(interrupt));
        private readonly IInterruptLine _legacy = router.GetLine(PcAddresses.PciLegacyInterrupts[interrupt]);

        public void Set(bool asserted)
        {
            _global.Set(asserted);
            _legacy.Set(asserted);
        }
    }
}
