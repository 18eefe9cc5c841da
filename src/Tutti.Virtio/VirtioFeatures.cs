namespace Tutti.Virtio;

/// <summary>Feature bits that are the same for all devices. Source: Virtual I/O Device 1.2, chapter 6.</summary>
internal static class VirtioFeatures
{
    internal const ulong IndirectDesc = 1UL << 28;
    internal const ulong EventIdx = 1UL << 29;
    internal const ulong Version1 = 1UL << 32;
    internal const ulong RingReset = 1UL << 40;

    /// <summary>What the queues and the transport offer for every device.</summary>
    internal const ulong Common = IndirectDesc | EventIdx | Version1 | RingReset;

    /// <summary>Bits that are reserved to queues and transports: no device's own. Source: 2.2.</summary>
    internal const ulong Reserved = ((1UL << 50) - 1) & ~((1UL << 24) - 1);
}
