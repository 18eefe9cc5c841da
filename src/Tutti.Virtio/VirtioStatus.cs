namespace Tutti.Virtio;

/// <summary>Bits of device_status. Source: Virtual I/O Device 1.2, 2.1.</summary>
internal static class VirtioStatus
{
    internal const byte Acknowledge = 1;
    internal const byte Driver = 2;
    internal const byte DriverOk = 4;
    internal const byte FeaturesOk = 8;
    internal const byte DeviceNeedsReset = 64;
    internal const byte Failed = 128;

    /// <summary>What a driver can set.</summary>
    internal const byte DriverBits = Acknowledge | Driver | DriverOk | FeaturesOk | Failed;
}
