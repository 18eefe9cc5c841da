namespace Tutti.Devices.Pci;

/// <summary>State of a bus: that of each slot's function, null where there is none.</summary>
public sealed record PciBusState(PciFunctionState?[] Slots);

/// <summary>
/// Bus 0 with its 32 slots, each of one function. Functions come and go at any time; all calls are made under the chipset lock. The
/// functions' INTA wires are shared out over eight interrupts, wired-OR.
/// </summary>
public sealed class PciBus : IStatefulDevice<PciBusState>
{
    /// <summary>Interrupts that the slots' INTx wires share.</summary>
    public const int InterruptCount = 8;

    private readonly PciFunction?[] _slots = new PciFunction?[PciRegisters.SlotCount];
    private readonly IInterruptLine[] _interrupts;
    private readonly int[] _driven = new int[InterruptCount];

    /// <param name="interrupts">The eight interrupts; see <see cref="InterruptOf"/>.</param>
    public PciBus(MmioBus mmio, PortBus ports, IMessageInterrupts messages, IReadOnlyList<IInterruptLine> interrupts)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(interrupts.Count, InterruptCount, nameof(interrupts));
        (Mmio, Ports, Messages) = (mmio, ports, messages);
        _interrupts = [.. interrupts];
    }

    /// <summary>The functions in the order of their slots.</summary>
    public IEnumerable<PciFunction> Functions => _slots.OfType<PciFunction>();

    internal MmioBus Mmio { get; }

    internal PortBus Ports { get; }

    internal IMessageInterrupts Messages { get; }

    /// <summary>The interrupt, 0 to 7, that a slot's INTA to INTD (<paramref name="pin"/> 0 to 3) is wired to.</summary>
    public static int InterruptOf(int slot, int pin) => (slot + pin) % InterruptCount;

    /// <summary>Puts a function into a slot. Its ranges have no addresses yet: see <see cref="PciFirmware"/>.</summary>
    /// <param name="slot">0 to 31; null for the first free one.</param>
    /// <returns>The slot.</returns>
    /// <exception cref="ArgumentException">The slot is taken, or the bus full, or the function is on a bus already.</exception>
    public int Add(PciFunction function, int? slot = null)
    {
        ArgumentNullException.ThrowIfNull(function);
        int place = slot ?? Array.IndexOf(_slots, null);
        if ((uint)place >= (uint)_slots.Length || _slots[place] != null || function.Slot >= 0)
        {
            throw new ArgumentException(slot == null ? "The PCI bus is full." : $"PCI slot {slot} can't take the function.", nameof(slot));
        }

        _slots[place] = function;
        function.Attach(this, place);
        return place;
    }

    /// <summary>Takes the function out of a slot, which its driver should have been told before; the caller disposes of it.</summary>
    /// <returns>The function; null where there was none.</returns>
    public PciFunction? Remove(int slot)
    {
        PciFunction? function = _slots[slot];
        if (function != null)
        {
            _slots[slot] = null;
            function.Detach();
            Settle();
        }

        return function;
    }

    /// <summary>Reads configuration space; all-ones where nothing is.</summary>
    /// <param name="bus">Bus number; 0 is the only one.</param>
    /// <param name="deviceFunction">Device number in bits 7:3, function number in bits 2:0.</param>
    public void ReadConfig(int bus, int deviceFunction, int offset, Span<byte> data)
    {
        if (Find(bus, deviceFunction) is PciFunction function)
        {
            function.ReadConfig(offset, data);
        }
        else
        {
            data.Fill(0xFF);
        }
    }

    /// <summary>Writes configuration space; ignored where nothing is.</summary>
    public void WriteConfig(int bus, int deviceFunction, int offset, ReadOnlySpan<byte> data) =>
        Find(bus, deviceFunction)?.WriteConfig(offset, data);

    public PciBusState Save() => new(Array.ConvertAll(_slots, function => function?.SaveConfiguration()));

    /// <exception cref="ArgumentException">The state is that of another machine's bus.</exception>
    public void Restore(PciBusState state)
    {
        for (int slot = 0; slot < _slots.Length; slot++)
        {
            if (state.Slots.Length != _slots.Length || (state.Slots[slot] == null) != (_slots[slot] == null))
            {
                throw new ArgumentException("The state is that of a bus with other functions.", nameof(state));
            }
        }

        // All ranges go before the first comes to where it was: else one could lie in another's way.
        foreach (PciFunction function in Functions)
        {
            function.ResetConfiguration();
        }

        foreach (PciFunction function in Functions)
        {
            function.RestoreConfiguration(state.Slots[function.Slot]!);
        }
    }

    /// <summary>
    /// Brings the buses to what the functions' registers say. What finds its place taken is not decoded, until whoever has it goes.
    /// </summary>
    internal void Settle()
    {
        foreach (PciFunction? function in _slots)
        {
            function?.UnmapMoved(this);
        }

        foreach (PciFunction? function in _slots)
        {
            function?.MapWanted(this);
        }
    }

    internal void DriveInterrupt(int slot, bool asserted)
    {
        int interrupt = InterruptOf(slot, 0);
        int before = _driven[interrupt];
        int after = asserted ? before + 1 : before - 1;
        _driven[interrupt] = after;
        if ((before == 0) != (after == 0))
        {
            _interrupts[interrupt].Set(asserted);
        }
    }

    private PciFunction? Find(int bus, int deviceFunction) =>
        bus == 0 && (deviceFunction & 7) == 0 && (uint)deviceFunction < 256 ? _slots[deviceFunction >> 3] : null;
}
