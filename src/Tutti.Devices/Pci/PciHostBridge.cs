using System.Buffers.Binary;

namespace Tutti.Devices.Pci;

/// <summary>State of the host bridge beside its configuration space: CONFIG_ADDRESS.</summary>
public sealed record PciHostBridgeState(uint ConfigAddress);

/// <summary>
/// The host bridge in slot 0, and the two ways to configuration space: mechanism 1 by ports (<see cref="Address"/>, <see cref="Data"/>)
/// and <see cref="Ecam"/>. It shows itself as an Intel 82441FX, which every PC system and firmware knows, with all memory below 1 MiB RAM
/// (the PAM registers, read-only since there is no ROM to switch to). Sources: PCI Local Bus Specification 3.0, 3.2.2.3.2; PCI Express Base
/// Specification 3.0, 7.2.2; Intel 82441FX data sheet (290549).
/// </summary>
public sealed class PciHostBridge : PciFunction, IStatefulDevice<PciHostBridgeState>
{
    /// <summary>Bytes of ECAM for one bus, which is all there is.</summary>
    public const ulong EcamLength = 1 << 20;

    private const int Pam0 = 0x59;
    private const int PamCount = 7;
    private const byte PamReadWrite = 0x33;
    private const uint Enable = 0x8000_0000;
    private const uint AddressBits = 0x80FF_FFFC;

    private readonly PciBus _bus;
    private uint _address;

    /// <summary>Makes the bridge and puts it into slot 0 of its bus.</summary>
    public PciHostBridge(PciBus bus)
        : base(new PciIdentity(0x8086, 0x1237, 0x06, 0x00, 0x00, Revision: 2, SubsystemVendorId: 0x1AF4, SubsystemId: 0x1100), hasInterruptPin: false)
    {
        ArgumentNullException.ThrowIfNull(bus);
        _bus = bus;
        Configuration.Slice(Pam0, PamCount).Fill(PamReadWrite);
        Address = new ConfigAddress(this);
        Data = new ConfigData(this);
        Ecam = new EnhancedConfig(bus);
        _ = bus.Add(this, 0);
    }

    /// <summary>CONFIG_ADDRESS, for <see cref="PortBus.MapDword"/> at <see cref="PciRegisters.ConfigAddressPort"/>.</summary>
    public IPortDevice Address { get; }

    /// <summary>CONFIG_DATA: four ports at <see cref="PciRegisters.ConfigDataPort"/>, accesses of 1, 2 and 4 bytes.</summary>
    public IPortDevice Data { get; }

    /// <summary>The enhanced configuration access mechanism of bus 0: <see cref="EcamLength"/> bytes, accesses of 1, 2 and 4 bytes.</summary>
    public IMmioDevice Ecam { get; }

    /// <summary>Puts the ways to configuration space where they belong.</summary>
    /// <param name="ecam">Physical address of <see cref="Ecam"/>, a multiple of 1 MiB.</param>
    public void Map(PortBus ports, MmioBus mmio, ulong ecam)
    {
        ports.MapDword(PciRegisters.ConfigAddressPort, Address);
        ports.Map(PciRegisters.ConfigDataPort, 4, Data, maxWidth: 4);
        mmio.Map(ecam, EcamLength, Ecam, maxWidth: 4);
    }

    public PciHostBridgeState Save() => new(_address);

    public void Restore(PciHostBridgeState state) => _address = state.ConfigAddress & AddressBits;

    private sealed class ConfigAddress(PciHostBridge bridge) : IPortDevice
    {
        public IoResult ReadPort(ushort offset, Span<byte> data)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(data, bridge._address);
            return IoResult.Ok;
        }

        public IoResult WritePort(ushort offset, ReadOnlySpan<byte> data)
        {
            bridge._address = BinaryPrimitives.ReadUInt32LittleEndian(data) & AddressBits;
            return IoResult.Ok;
        }
    }

    private sealed class ConfigData(PciHostBridge bridge) : IPortDevice
    {
        public IoResult ReadPort(ushort offset, Span<byte> data)
        {
            uint address = bridge._address;
            if ((address & Enable) == 0)
            {
                return IoResult.Unclaimed;
            }

            bridge._bus.ReadConfig((byte)(address >> 16), (byte)(address >> 8), Register(address, offset), data);
            return IoResult.Ok;
        }

        public IoResult WritePort(ushort offset, ReadOnlySpan<byte> data)
        {
            uint address = bridge._address;
            if ((address & Enable) != 0)
            {
                bridge._bus.WriteConfig((byte)(address >> 16), (byte)(address >> 8), Register(address, offset), data);
            }

            return IoResult.Ok;
        }

        private static int Register(uint address, ushort offset) => (int)(address & 0xFC) + offset;
    }

    private sealed class EnhancedConfig(PciBus bus) : IMmioDevice
    {
        public IoResult ReadMmio(ulong offset, Span<byte> data)
        {
            bus.ReadConfig((int)(offset >> 20), (byte)(offset >> 12), (int)(offset & 0xFFF), data);
            return IoResult.Ok;
        }

        public IoResult WriteMmio(ulong offset, ReadOnlySpan<byte> data)
        {
            bus.WriteConfig((int)(offset >> 20), (byte)(offset >> 12), (int)(offset & 0xFFF), data);
            return IoResult.Ok;
        }
    }
}
