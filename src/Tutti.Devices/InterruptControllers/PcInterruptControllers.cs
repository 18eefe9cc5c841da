using Tutti.Cpu;
using static Tutti.Devices.InterruptControllers.Pic8259Registers;

namespace Tutti.Devices.InterruptControllers;

/// <summary>
/// A PC's interrupt controllers as devices, for engines that bring none: the pair of 8259s and the I/O APIC in front of a bus
/// of local APICs. IRQ n drives 8259 input n and I/O APIC pin n, except IRQ 0, which drives I/O APIC pin 2 (the MADT says
/// so). The 8259s' INTR also drives I/O APIC pin 0. As with every device, one lock of the machine is around all calls.
/// </summary>
public sealed class PcInterruptControllers : IInterruptControllers
{
    /// <summary>The I/O APIC pin of IRQ 0, for the MADT's interrupt source override.</summary>
    public const int TimerPin = 2;

    private const int PicInputs = 16;

    private readonly ApicBus _bus;

    /// <param name="bus">Takes the controllers' messages to the local APICs, and gets the 8259s to ask for vectors.</param>
    public PcInterruptControllers(ApicBus bus)
    {
        ArgumentNullException.ThrowIfNull(bus);
        _bus = bus;
        IoApic = new IoApic(bus);
        Pic = new DualPic8259(new IntrWiring(bus, IoApic));
        bus.ExternalInterrupts = Pic;
    }

    public DualPic8259 Pic { get; }

    public IoApic IoApic { get; }

    public void SetLine(int irq, bool asserted)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(irq);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(irq, IoApicRegisters.PinCount);
        ArgumentOutOfRangeException.ThrowIfEqual(irq, CascadeInput);
        if (irq < PicInputs)
        {
            Pic.SetInput(irq, asserted);
        }

        IoApic.SetPin(irq == 0 ? TimerPin : irq, asserted);
    }

    public void SignalMsi(ulong address, uint data) => _bus.SendMsi(address, data);

    private sealed class IntrWiring(ApicBus bus, IoApic ioApic) : IInterruptLine
    {
        public void Set(bool asserted)
        {
            bus.Set(asserted);
            ioApic.SetPin(0, asserted);
        }
    }
}
