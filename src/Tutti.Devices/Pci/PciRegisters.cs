namespace Tutti.Devices.Pci;

/// <summary>The type 0 configuration header and the MSI-X capability. Source: PCI Local Bus Specification 3.0, chapter 6.</summary>
public static class PciRegisters
{
    /// <summary>CONFIG_ADDRESS of configuration mechanism 1: 4-byte accesses only.</summary>
    public const ushort ConfigAddressPort = 0xCF8;

    /// <summary>CONFIG_DATA, 4 ports.</summary>
    public const ushort ConfigDataPort = 0xCFC;

    /// <summary>Bytes of configuration space that ECAM shows of each function; mechanism 1 reaches the first 256.</summary>
    public const int ConfigLength = 4096;

    /// <summary>Device numbers of a bus.</summary>
    public const int SlotCount = 32;

    /// <summary>Base address registers of a function.</summary>
    public const int BarCount = 6;

    internal const int VendorId = 0x00;
    internal const int DeviceId = 0x02;
    internal const int Command = 0x04;
    internal const int Status = 0x06;
    internal const int RevisionId = 0x08;
    internal const int CacheLineSize = 0x0C;
    internal const int Bar0 = 0x10;
    internal const int BarEnd = 0x28;
    internal const int SubsystemVendorId = 0x2C;
    internal const int SubsystemId = 0x2E;
    internal const int CapabilitiesPointer = 0x34;
    internal const int InterruptLine = 0x3C;
    internal const int InterruptPin = 0x3D;
    internal const int FirstCapability = 0x40;
    internal const int LegacyConfigLength = 0x100;

    // Command register
    internal const ushort IoSpace = 1 << 0;
    internal const ushort MemorySpace = 1 << 1;
    internal const ushort BusMaster = 1 << 2;
    internal const ushort ParityErrorResponse = 1 << 6;
    internal const ushort SerrEnable = 1 << 8;
    internal const ushort InterruptDisable = 1 << 10;

    // Status register
    internal const byte InterruptStatus = 1 << 3;
    internal const byte CapabilitiesList = 1 << 4;

    // Low bits of base address registers
    internal const uint BarIo = 1;
    internal const uint BarMemory64 = 2 << 1;
    internal const uint BarPrefetchable = 1 << 3;

    // MSI-X capability, 6.8.2
    internal const byte MsixCapability = 0x11;
    internal const int MessageControl = 2;
    internal const ushort MsixEnable = 1 << 15;
    internal const ushort MsixFunctionMask = 1 << 14;
}
