using Tutti.Cpu;

namespace Tutti.Devices.InterruptControllers;

/// <summary>State of the interrupt lines: for each device's line, in the order they were asked for, whether it is asserted.</summary>
public sealed record InterruptRouterState(bool[] Lines);

/// <summary>
/// The wires between a PC's devices and its interrupt controllers, whoever provides those. Devices that share an IRQ are
/// wired-OR: the controllers hear of the first line that is asserted and of the last that goes.
/// </summary>
public sealed class InterruptRouter : IStatefulDevice<InterruptRouterState>
{
    private readonly int[] _assertedSources = new int[IoApicRegisters.PinCount];
    private IInterruptControllers? _controllers;
    private Line[] _lines = [];

    public InterruptRouter(IInterruptControllers controllers)
    {
        ArgumentNullException.ThrowIfNull(controllers);
        _controllers = controllers;
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

    /// <summary>Cuts the wires for good: devices may go on, but the controllers, which may go away, hear nothing more.</summary>
    public void Disconnect() => _controllers = null;

    private void Change(int irq, bool asserted)
    {
        int before = _assertedSources[irq];
        int after = asserted ? before + 1 : before - 1;
        _assertedSources[irq] = after;
        if ((before == 0) != (after == 0))
        {
            _controllers?.SetLine(irq, asserted);
        }
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
}
