namespace Tutti.Virtio;

/// <summary>How a device reaches its driver. Called on any thread, never under the device's lock.</summary>
internal interface IVirtioTransport
{
    /// <summary>Interrupts the driver for used elements of a queue.</summary>
    void SignalQueue(int queue);

    /// <summary>Interrupts the driver for a change of configuration or status.</summary>
    void SignalConfig();
}
