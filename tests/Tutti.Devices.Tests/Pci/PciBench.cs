using System.Buffers.Binary;
using System.Globalization;
using Tutti.Devices.Pci;

namespace Tutti.Devices.Tests.Pci;

/// <summary>A PCI bus with its host bridge, and a guest's hands on the ports.</summary>
internal sealed class PciBench
{
    public const ulong EcamBase = 0xE000_0000;

    public PciBench()
    {
        Bus = new PciBus(Mmio, Ports, Messages, Lines);
        Bridge = new PciHostBridge(Bus);
        Bridge.Map(Ports, Mmio, EcamBase);
    }

    public MmioBus Mmio { get; } = new();

    public PortBus Ports { get; } = new();

    public RecordingMessages Messages { get; } = new();

    public RecordingLine[] Lines { get; } = [.. Enumerable.Range(0, 8).Select(_ => new RecordingLine())];

    public PciBus Bus { get; }

    public PciHostBridge Bridge { get; }

    public bool SetUp() => new PciFirmware(
        new PciWindow(0xC000, 0x1_0000), new PciWindow(0xC000_0000, 0xE000_0000), new PciWindow(1UL << 36, 1UL << 37), [10, 11, 10, 11, 10, 11, 10, 11]).SetUp(Bus);

    public uint ReadConfig(int slot, int offset, int width)
    {
        Select(slot, offset);
        Span<byte> data = stackalloc byte[4];
        data.Clear();
        Ports.Read((ushort)(0xCFC + (offset & 3)), data[..width]);
        return BinaryPrimitives.ReadUInt32LittleEndian(data);
    }

    public void WriteConfig(int slot, int offset, uint value, int width = 4)
    {
        Select(slot, offset);
        Span<byte> data = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(data, value);
        Ports.Write((ushort)(0xCFC + (offset & 3)), data[..width]);
    }

    private void Select(int slot, int offset)
    {
        Span<byte> address = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(address, 0x8000_0000 | ((uint)slot << 11) | ((uint)offset & 0xFC));
        Ports.Write(0xCF8, address);
    }
}

/// <summary>A function with a 64-bit range of 16 KiB, which holds an MSI-X table and counts writes, and one of 32 ports.</summary>
internal sealed class TestFunction : PciFunction, IMmioDevice, IPortDevice
{
    public const int VectorCount = 70;
    public const uint TableOffset = 0x1000;
    public const uint PbaOffset = 0x2000;

    public TestFunction()
        : base(new PciIdentity(0x1AF4, 0x1234, 0x02, 0x00, 0x00, Revision: 1))
    {
        AddBar(0, PciBarKind.Memory64, 0x4000, (IMmioDevice)this);
        AddBar(2, PciBarKind.Io, 32, (IPortDevice)this);
        Msix = AddMsix(VectorCount, 0, TableOffset, PbaOffset);
        AddCapability(0x09, [0xAA, 0x00], [0x00, 0x0F]);
    }

    public MsixTable Msix { get; }

    public List<string> Mappings { get; } = [];

    public int Writes { get; private set; }

    public void SetLine(bool asserted) => SetInterruptLine(asserted);

    public IoResult ReadMmio(ulong offset, Span<byte> data)
    {
        if (offset >= PbaOffset)
        {
            Msix.ReadPba(offset - PbaOffset, data);
        }
        else if (offset >= TableOffset)
        {
            Msix.ReadTable(offset - TableOffset, data);
        }

        return IoResult.Ok;
    }

    public IoResult WriteMmio(ulong offset, ReadOnlySpan<byte> data)
    {
        Writes++;
        if (offset is >= TableOffset and < PbaOffset)
        {
            Msix.WriteTable(offset - TableOffset, data);
        }

        return IoResult.Ok;
    }

    public IoResult ReadPort(ushort offset, Span<byte> data) => IoResult.Ok;

    public IoResult WritePort(ushort offset, ReadOnlySpan<byte> data) => IoResult.Ok;

    protected override void OnBarMapped(int bar, ulong? address) =>
        Mappings.Add($"{bar}: {address?.ToString("x", CultureInfo.InvariantCulture) ?? "-"}");
}

/// <summary>Messages that remember what was sent, in order, and who is left.</summary>
internal sealed class RecordingMessages : IMessageInterrupts
{
    private readonly Lock _lock = new();
    private readonly List<(ulong Address, uint Data)> _sent = [];

    public int Alive { get; private set; }

    public int Count
    {
        get
        {
            lock (_lock)
            {
                return _sent.Count;
            }
        }
    }

    public List<(ulong Address, uint Data)> Sent
    {
        get
        {
            lock (_lock)
            {
                return [.. _sent];
            }
        }
    }

    public IMessageInterrupt Create()
    {
        Alive++;
        return new Message(this);
    }

    private sealed class Message(RecordingMessages owner) : IMessageInterrupt
    {
        private (ulong Address, uint Data) _message;

        public void SetMessage(ulong address, uint data) => _message = (address, data);

        public void Signal()
        {
            lock (owner._lock)
            {
                owner._sent.Add(_message);
            }
        }

        public void Dispose() => owner.Alive--;
    }
}
