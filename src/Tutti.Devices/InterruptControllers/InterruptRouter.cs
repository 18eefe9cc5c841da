namespace Tutti.Devices.InterruptControllers;

/// <summary>State of the interrupt lines: for each device's line, in the order they were asked for, whether it is asserted.</summary>
public sealed record InterruptRouterState(bool[] Lines);

/// <summary>
/// The PC's interrupt wiring: IRQ n drives 8259 input n and I/O APIC pin n, except IRQ 0, which drives I/O APIC pin 2 (the
/// MADT says so). Devices that share an IRQ are wired-OR. The 8259s' INTR also drives I/O APIC pin 0.
/// </summary>
public sealed class InterruptRouter : IStatefulDevice<InterruptRouterState>
{
    /// <summary>The I/O APIC pin of IRQ 0, for the MADT's interrupt source override.</summary>
    public const int TimerPin = 2;

    private readonly DualPic8259 _pic;
    private readonly IoApic _ioApic;
    private readonly int[] _assertedSources = new int[IoApicRegisters.PinCount];
    private Line[] _lines = [];

    public InterruptRouter(ApicBus bus, DualPic8259 pic, IoApic ioApic)
    {
        _pic = pic;
        _ioApic = ioApic;
        bus.ExternalInterrupts = pic;
    }

    /// <summary>Builds the controllers of a PC and their wiring on a bus of local APICs.</summary>
    public static InterruptRouter Create(ApicBus bus, out DualPic8259 pic, out IoApic ioApic)
    {
        IoApic controller = new(bus);
        pic = new DualPic8259(new IntrWiring(bus, controller));
        ioApic = controller;
        return new InterruptRouter(bus, pic, controller);
    }

    /// <summary>A line of one device to an IRQ, 0 to 23. Each device asks for its own line, also to an IRQ that it shares.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The IRQ is 2, which is the 8259s' cascade, or none.</exception>
    public IInterruptLine GetLine(int irq)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(irq);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(irq, IoApicRegisters.PinCount);
        ArgumentOutOfRangeException.ThrowIfEqual(irq, Pic8259Registers.CascadeInput);
        Line line = new(this, irq);
        _lines = [.. _lines, line];
        return line;
    }

    private void Change(int irq, bool asserted)
    {
        int before = _assertedSources[irq];
        int after = asserted ? before + 1 : before - 1;
        _assertedSources[irq] = after;
        if ((before == 0) == (after == 0))
        {
            return;
        }

        if (irq < 16)
        {
            _pic.SetInput(irq, asserted);
        }

        _ioApic.SetPin(irq == 0 ? TimerPin : irq, asserted);
    }

    public InterruptRouterState Save() => new(Array.ConvertAll(_lines, line => line.Asserted));

    /// <summary>Takes the lines' state over without driving the controllers, whose own states hold their inputs.</summary>
    /// <exception cref="ArgumentException">The state has another number of lines.</exception>
    public void Restore(InterruptRouterState state)
    {
        if (state.Lines.Length != _lines.Length)
        {
            throw new ArgumentException($"The state has {state.Lines.Length} interrupt lines, the machine {_lines.Length}.", nameof(state));
        }

        Array.Clear(_assertedSources);
        for (int i = 0; i < _lines.Length; i++)
        {
            _lines[i].Asserted = state.Lines[i];
            _assertedSources[_lines[i].Irq] += state.Lines[i] ? 1 : 0;
        }
    }

    private sealed class Line(InterruptRouter router, int irq) : IInterruptLine
    {
        public int Irq => irq;

        public bool Asserted { get; set; }

        public void Set(bool asserted)
        {
            if (Asserted != asserted)
            {
                Asserted = asserted;
                router.Change(irq, asserted);
            }
        }
    }

    private sealed class IntrWiring(ApicBus bus, IoApic ioApic) : IInterruptLine
    {
        public void Set(bool asserted)
        {
            bus.Set(asserted);
            ioApic.SetPin(0, asserted);
        }
    }
}
