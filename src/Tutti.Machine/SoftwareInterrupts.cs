using Tutti.Cpu;
using Tutti.Devices.InterruptControllers;
using Tutti.Devices.Timers;

namespace Tutti.Machine;

/// <summary>
/// What a board needs when its engine brings no interrupt controllers: local APICs, I/O APIC, 8259s, and the interval timer
/// with port 0x61, which reads that timer's output.
/// </summary>
internal sealed class SoftwareInterrupts
{
    private readonly IGuestClock _clock;
    private readonly Lock _chipset;
    private readonly ApicBus _bus = new();
    private readonly PcInterruptControllers _controllers;

    internal SoftwareInterrupts(IGuestClock clock, Lock chipset)
    {
        _clock = clock;
        _chipset = chipset;
        _controllers = new PcInterruptControllers(_bus);
    }

    internal IInterruptControllers Controllers => _controllers;

    internal ILocalApic CreateLocalApic(int index, IProcessorSignals signals)
    {
        LocalApic apic = new((uint)index, _bus, _clock, signals, isBootstrap: index == 0);
        if (index == 0)
        {
            apic.EnableVirtualWireMode();
        }

        return new LockedLocalApic(apic, _chipset);
    }

    internal void Map(SystemBus bus, InterruptRouter router)
    {
        bus.Mmio.Map(PcAddresses.IoApic, IoApicRegisters.Length, _controllers.IoApic);
        bus.Ports.Map(Pic8259Registers.MasterPort, 2, _controllers.Pic.Master);
        bus.Ports.Map(Pic8259Registers.SlavePort, 2, _controllers.Pic.Slave);
        bus.Ports.Map(Pic8259Registers.ElcrPort, 2, _controllers.Pic.Elcr);
        SetLevelTriggered(PcAddresses.PciLegacyInterrupts);
        Pit8254 pit = new(_clock, router.GetLine(PitRegisters.TimerIrq));
        bus.Ports.Map(PitRegisters.Port, PitRegisters.PortCount, pit);
        bus.Ports.Map(PitRegisters.SystemControlPortB, 1, new SystemControlPortB(_clock, pit));
    }

    /// <summary>What firmware does with the 8259 inputs of PCI, whose lines are held until they are served.</summary>
    private void SetLevelTriggered(ReadOnlySpan<byte> irqs)
    {
        ushort elcr = 0;
        foreach (byte irq in irqs)
        {
            elcr |= (ushort)(1 << irq);
        }

        _ = _controllers.Pic.Elcr.WritePort(0, [(byte)elcr, (byte)(elcr >> 8)]);
    }
}
