namespace Tutti.Devices.Pci;

/// <summary>Makes the message-signalled interrupts of a machine: each is one entry of some function's MSI-X table.</summary>
public interface IMessageInterrupts
{
    IMessageInterrupt Create();
}

/// <summary>
/// One message-signalled interrupt. <see cref="Signal"/> is for workers' threads and takes no lock of a device; it may take the chipset lock,
/// so never call it while holding a lock that is taken under the chipset lock.
/// </summary>
public interface IMessageInterrupt : IDisposable
{
    /// <summary>Sets the message as the guest programmed it. Called under the chipset lock.</summary>
    /// <param name="address">Message address, as a rule 0xFEExxxxx.</param>
    /// <param name="data">Message data.</param>
    void SetMessage(ulong address, uint data);

    /// <summary>Sends the message. Safe from any thread, with or without the chipset lock.</summary>
    void Signal();
}
