namespace Tutti.Virtio;

/// <summary>What a virtio device is. Source: Virtual I/O Device 1.2, chapter 5.</summary>
public enum VirtioDeviceId
{
    Network = 1,
    Block = 2,
    Console = 3,
    Entropy = 4,
}
