namespace Tutti.Virtio.Pci;

/// <summary>Offsets and values of virtio over PCI. Source: Virtual I/O Device 1.2, 4.1.</summary>
internal static class VirtioPciLayout
{
    internal const ushort VendorId = 0x1AF4;
    internal const ushort FirstDeviceId = 0x1040;
    internal const byte Revision = 1;

    /// <summary>Any from 0x40 on: below, drivers of before version 1 would take it for a kind of device.</summary>
    internal const ushort SubsystemId = 0x1100;

    internal const ushort NoVector = 0xFFFF;

    // Base address registers
    internal const int RegisterBar = 0;
    internal const int MsixBar = 2;

    // The registers' range: a page for each structure
    internal const ulong RegisterBarSize = 0x4000;
    internal const int StructureSize = 0x1000;
    internal const int CommonOffset = 0x0000;
    internal const int IsrOffset = 0x1000;
    internal const int DeviceOffset = 0x2000;
    internal const int NotifyOffset = 0x3000;
    internal const int NotifyMultiplier = 4;
    internal const int MaxQueues = StructureSize / NotifyMultiplier;

    // virtio_pci_cap, without identifier and link
    internal const byte VendorCapability = 0x09;
    internal const int CapLength = 0;
    internal const int CapType = 1;
    internal const int CapBar = 2;
    internal const int CapOffset = 6;
    internal const int CapStructureLength = 10;
    internal const int CapSize = 14;
    internal const int CapExtra = 14;
    internal const int CapSizeWithExtra = 18;
    internal const byte TypeCommon = 1;
    internal const byte TypeNotify = 2;
    internal const byte TypeIsr = 3;
    internal const byte TypeDevice = 4;
    internal const byte TypePciCfg = 5;

    // ISR status
    internal const byte IsrQueue = 1;
    internal const byte IsrConfig = 2;

    // virtio_pci_common_cfg
    internal const int DeviceFeatureSelect = 0x00;
    internal const int DeviceFeature = 0x04;
    internal const int DriverFeatureSelect = 0x08;
    internal const int DriverFeature = 0x0C;
    internal const int ConfigMsixVector = 0x10;
    internal const int NumQueues = 0x12;
    internal const int DeviceStatus = 0x14;
    internal const int ConfigGeneration = 0x15;
    internal const int QueueSelect = 0x16;
    internal const int QueueSize = 0x18;
    internal const int QueueMsixVector = 0x1A;
    internal const int QueueEnable = 0x1C;
    internal const int QueueNotifyOff = 0x1E;
    internal const int QueueDesc = 0x20;
    internal const int QueueDriver = 0x28;
    internal const int QueueDevice = 0x30;
    internal const int QueueNotifyData = 0x38;
    internal const int QueueReset = 0x3A;
    internal const int CommonSize = 0x3C;
}
