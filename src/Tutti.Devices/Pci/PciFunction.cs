using System.Buffers.Binary;
using static Tutti.Devices.Pci.PciRegisters;

namespace Tutti.Devices.Pci;

/// <summary>
/// A function of a PCI bus: 4096 bytes of configuration space with a type 0 header, base address registers, capabilities, and interrupts
/// by INTA or MSI-X. Who derives from it adds ranges and capabilities while it is made. All calls are made under the chipset lock, but
/// <see cref="IsBusMaster"/>, <see cref="IsMsixEnabled"/>, <see cref="MsixTable.Signal"/> and <see cref="Dispose"/>.
/// Source: PCI Local Bus Specification 3.0, chapter 6.
/// </summary>
public abstract class PciFunction : IDisposable
{
    private const byte InterruptPinA = 1;

    private readonly byte[] _configuration = new byte[ConfigLength];
    private readonly byte[] _writable = new byte[ConfigLength];
    private readonly PciBar?[] _bars = new PciBar?[BarCount];
    private readonly bool _hasInterruptPin;
    private PciBus? _bus;
    private MsixTable? _msix;
    private int _msixOffset;
    private int _lastCapability;
    private int _capabilitiesEnd = FirstCapability;
    private volatile ushort _command;
    private bool _isInterruptAsserted;
    private bool _isLineDriven;

    /// <param name="hasInterruptPin">Whether it has INTA.</param>
    protected PciFunction(PciIdentity identity, bool hasInterruptPin = true)
    {
        _hasInterruptPin = hasInterruptPin;
        Identity = identity;
        Set16(VendorId, identity.VendorId);
        Set16(DeviceId, identity.DeviceId);
        _configuration[RevisionId] = identity.Revision;
        _configuration[RevisionId + 1] = identity.ProgrammingInterface;
        _configuration[RevisionId + 2] = identity.SubClass;
        _configuration[RevisionId + 3] = identity.BaseClass;
        Set16(SubsystemVendorId, identity.SubsystemVendorId);
        Set16(SubsystemId, identity.SubsystemId);
        _configuration[InterruptPin] = hasInterruptPin ? InterruptPinA : (byte)0;
        _writable[CacheLineSize] = 0xFF;
        _writable[InterruptLine] = 0xFF;
        const ushort Command16 = IoSpace | MemorySpace | BusMaster | ParityErrorResponse | SerrEnable | InterruptDisable;
        BinaryPrimitives.WriteUInt16LittleEndian(_writable.AsSpan(Command), Command16);
    }

    public PciIdentity Identity { get; }

    /// <summary>Its device number while it is on a bus; else -1.</summary>
    public int Slot { get; private set; } = -1;

    /// <summary>Whether it may touch memory and send messages. Safe from any thread.</summary>
    public bool IsBusMaster => (_command & BusMaster) != 0;

    /// <summary>Whether its interrupts are messages. Safe from any thread.</summary>
    public bool IsMsixEnabled => _msix is { IsEnabled: true };

    /// <summary>The whole configuration space as the guest sees it; what derives may set what it shows there.</summary>
    protected Span<byte> Configuration => _configuration;

    /// <summary>Gives a base address register a range of addresses.</summary>
    /// <param name="index">0 to 5; a range of 64 bits takes the next register too.</param>
    /// <param name="size">Bytes, a power of two, 4096 or more.</param>
    /// <param name="target">Gets the accesses, offsets counting from the range's start, 1 to 8 bytes wide.</param>
    protected void AddBar(int index, PciBarKind kind, ulong size, IMmioDevice target) => AddBar(new PciBar(index, kind, size, target, null));

    /// <summary>Gives a base address register a range of ports, 4 to 256 and a power of two.</summary>
    protected void AddBar(int index, PciBarKind kind, ulong size, IPortDevice target) => AddBar(new PciBar(index, kind, size, null, target));

    /// <summary>Adds a capability at the end of the list.</summary>
    /// <param name="body">What follows its identifier and link.</param>
    /// <param name="writable">The bits of the body that a guest can write; empty for none.</param>
    /// <returns>Its offset.</returns>
    /// <exception cref="InvalidOperationException">The first 256 bytes are full.</exception>
    protected int AddCapability(byte id, ReadOnlySpan<byte> body, ReadOnlySpan<byte> writable = default)
    {
        int offset = _capabilitiesEnd;
        int end = offset + 2 + body.Length;
        if (end > LegacyConfigLength || writable.Length > body.Length)
        {
            throw new InvalidOperationException("The capability does not fit.");
        }

        _configuration[offset] = id;
        body.CopyTo(_configuration.AsSpan(offset + 2));
        writable.CopyTo(_writable.AsSpan(offset + 2));
        _configuration[_lastCapability == 0 ? CapabilitiesPointer : _lastCapability + 1] = (byte)offset;
        _configuration[Status] |= CapabilitiesList;
        _lastCapability = offset;
        _capabilitiesEnd = (end + 3) & ~3;
        return offset;
    }

    /// <summary>
    /// Adds the MSI-X capability. The function sends accesses of these parts of its range on to the table:
    /// <see cref="MsixTable.ReadTable"/>, <see cref="MsixTable.WriteTable"/>, <see cref="MsixTable.ReadPba"/>.
    /// </summary>
    /// <param name="vectorCount">1 to 2048.</param>
    /// <param name="bar">The range that has table and pending bits.</param>
    /// <param name="tableOffset">Offset of the table, a multiple of 8; 16 bytes for each vector.</param>
    /// <param name="pbaOffset">Offset of the pending bits, a multiple of 8; 8 bytes for each 64 vectors begun.</param>
    protected MsixTable AddMsix(int vectorCount, int bar, uint tableOffset, uint pbaOffset)
    {
        if (_msix != null || ((tableOffset | pbaOffset) & 7) != 0)
        {
            throw new InvalidOperationException("A function has one MSI-X table, whose parts lie at multiples of 8.");
        }

        _msix = new MsixTable(vectorCount);
        Span<byte> body = stackalloc byte[10];
        BinaryPrimitives.WriteUInt16LittleEndian(body, (ushort)(vectorCount - 1));
        BinaryPrimitives.WriteUInt32LittleEndian(body[2..], tableOffset | (uint)bar);
        BinaryPrimitives.WriteUInt32LittleEndian(body[6..], pbaOffset | (uint)bar);
        _msixOffset = AddCapability(MsixCapability, body, [0, (MsixEnable | MsixFunctionMask) >> 8]);
        return _msix;
    }

    /// <summary>Answers a read of configuration space in place of its plain bytes; false where those are the answer.</summary>
    /// <param name="offset">0 to 4095; the access does not leave the space.</param>
    protected virtual bool TryReadConfig(int offset, Span<byte> data) => false;

    /// <summary>Takes a write of configuration space in place of its plain bytes; false where those take it.</summary>
    protected virtual bool TryWriteConfig(int offset, ReadOnlySpan<byte> data) => false;

    /// <summary>Called when a range has come to lie at an address, and before it leaves it (null).</summary>
    protected virtual void OnBarMapped(int bar, ulong? address)
    {
    }

    /// <summary>Drives INTA. The wire follows while neither the command register nor MSI-X forbids it.</summary>
    protected void SetInterruptLine(bool asserted)
    {
        _isInterruptAsserted = asserted && _hasInterruptPin;
        DriveLine();
    }

    /// <summary>
    /// Puts the function back to its state at power-on; the configuration space does it for what is its own: nothing decoded, no
    /// interrupts, no bus mastering.
    /// </summary>
    public virtual void Reset() => ResetConfiguration();

    /// <summary>
    /// Ends the function's work for good, when its machine ends or is reset: returns when nothing of it touches guest memory any more.
    /// Called without the chipset lock, when no vCPU runs; may be called twice.
    /// </summary>
    public virtual void Dispose() => GC.SuppressFinalize(this);

    /// <summary>A guest's read of configuration space.</summary>
    /// <param name="offset">0 to 4095; what leaves the space reads as all-ones.</param>
    public void ReadConfig(int offset, Span<byte> data)
    {
        if (offset < 0 || offset > ConfigLength - data.Length)
        {
            data.Fill(0xFF);
        }
        else if (!TryReadConfig(offset, data))
        {
            _configuration.AsSpan(offset, data.Length).CopyTo(data);
        }
    }

    /// <summary>A guest's write of configuration space; what leaves the space is ignored.</summary>
    public void WriteConfig(int offset, ReadOnlySpan<byte> data)
    {
        if (offset < 0 || offset > ConfigLength - data.Length || TryWriteConfig(offset, data))
        {
            return;
        }

        bool hasChanged = false;
        for (int i = 0; i < data.Length; i++)
        {
            ref byte place = ref _configuration[offset + i];
            byte mask = _writable[offset + i];
            byte value = (byte)((place & ~mask) | (data[i] & mask));
            hasChanged |= place != value;
            place = value;
        }

        if (!hasChanged)
        {
            return;
        }

        int end = offset + data.Length;
        bool touchesCommand = offset < Status && end > Command;
        if (touchesCommand || (_msix != null && offset < _msixOffset + 4 && end > _msixOffset + MessageControl))
        {
            ApplyControl();
        }

        if (touchesCommand || (offset < BarEnd && end > Bar0))
        {
            _bus?.Settle();
        }
    }

    public PciFunctionState SaveConfiguration() => new((byte[])_configuration.Clone(), _isInterruptAsserted, _msix?.Save());

    /// <summary>Takes a state over: what the guest can write, INTx and MSI-X; ranges move to where they then lie.</summary>
    /// <exception cref="ArgumentException">The state is another kind of function's.</exception>
    public void RestoreConfiguration(PciFunctionState state)
    {
        if (state.Configuration.Length != ConfigLength || (state.Msix != null) != (_msix != null)
            || !state.Configuration.AsSpan(0, Command).SequenceEqual(_configuration.AsSpan(0, Command)))
        {
            throw new ArgumentException("The state is another kind of function's.", nameof(state));
        }

        for (int i = 0; i < ConfigLength; i++)
        {
            byte mask = _writable[i];
            _configuration[i] = (byte)((_configuration[i] & ~mask) | (state.Configuration[i] & mask));
        }

        _isInterruptAsserted = state.InterruptAsserted && _hasInterruptPin;
        _msix?.Restore(state.Msix!);
        ApplyAll();
    }

    internal IEnumerable<PciBar> Bars => _bars.OfType<PciBar>();

    internal void Attach(PciBus bus, int slot)
    {
        (_bus, Slot) = (bus, slot);
        _msix?.Connect(bus.Messages);
        ApplyAll();
    }

    /// <summary>Takes the function off its bus: ranges, line and messages.</summary>
    internal void Detach()
    {
        PciBus bus = _bus!;
        foreach (PciBar bar in Bars)
        {
            Unmap(bus, bar);
        }

        if (_isLineDriven)
        {
            _isLineDriven = false;
            bus.DriveInterrupt(Slot, false);
        }

        _msix?.Disconnect();
        (_bus, Slot) = (null, -1);
    }

    internal void ResetConfiguration()
    {
        for (int i = 0; i < ConfigLength; i++)
        {
            _configuration[i] &= (byte)~_writable[i];
        }

        _isInterruptAsserted = false;
        _msix?.Reset();
        ApplyAll();
    }

    /// <summary>What firmware does: gives a range its address.</summary>
    internal void PlaceBar(PciBar bar, ulong address) => bar.WriteAddress(_configuration, address);

    /// <summary>Takes ranges off the buses that are not where the registers want them.</summary>
    internal void UnmapMoved(PciBus bus)
    {
        foreach (PciBar bar in Bars)
        {
            if (bar.Mapped != null && bar.Mapped != bar.GetWanted(_configuration, _command))
            {
                Unmap(bus, bar);
            }
        }
    }

    /// <summary>Puts ranges on the buses where they want to be and there is room.</summary>
    internal void MapWanted(PciBus bus)
    {
        foreach (PciBar bar in Bars)
        {
            if (bar.Mapped == null && bar.GetWanted(_configuration, _command) is ulong address && bar.TryMap(bus.Mmio, bus.Ports, address))
            {
                OnBarMapped(bar.Index, address);
            }
        }
    }

    private void Unmap(PciBus bus, PciBar bar)
    {
        if (bar.Mapped != null)
        {
            OnBarMapped(bar.Index, null);
            bar.Unmap(bus.Mmio, bus.Ports);
        }
    }

    private void AddBar(PciBar bar)
    {
        int last = bar.Is64Bit ? bar.Index + 1 : bar.Index;
        ArgumentOutOfRangeException.ThrowIfNegative(bar.Index);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(last, BarCount, nameof(bar));
        bool isTaken = _bars[bar.Index] != null || _bars[last] != null || (bar.Index > 0 && _bars[bar.Index - 1] is { Is64Bit: true });
        if (isTaken)
        {
            throw new InvalidOperationException($"Base address register {bar.Index} is taken.");
        }

        _bars[bar.Index] = bar;
        bar.Initialize(_configuration, _writable);
    }

    private void ApplyAll()
    {
        ApplyControl();
        _bus?.Settle();
    }

    private void ApplyControl()
    {
        ushort command = Get16(Command);
        _command = command;
        if (_msix != null)
        {
            ushort control = Get16(_msixOffset + MessageControl);
            _msix.SetControl((control & MsixEnable) != 0, (control & MsixFunctionMask) != 0, (command & BusMaster) != 0);
        }

        DriveLine();
    }

    private void DriveLine()
    {
        _configuration[Status] = (byte)((_configuration[Status] & ~InterruptStatus) | (_isInterruptAsserted ? InterruptStatus : 0));
        bool isDriven = _isInterruptAsserted && (_command & InterruptDisable) == 0 && !IsMsixEnabled;
        if (_bus != null && isDriven != _isLineDriven)
        {
            _isLineDriven = isDriven;
            _bus.DriveInterrupt(Slot, isDriven);
        }
    }

    private ushort Get16(int offset) => BinaryPrimitives.ReadUInt16LittleEndian(_configuration.AsSpan(offset));

    private void Set16(int offset, ushort value) => BinaryPrimitives.WriteUInt16LittleEndian(_configuration.AsSpan(offset), value);
}
