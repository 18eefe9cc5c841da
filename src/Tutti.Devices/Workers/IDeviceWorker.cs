namespace Tutti.Devices;

/// <summary>
/// A thread of the host's that does a device's queue work, so that no vCPU waits for it. All its doorbells' work runs on that one thread,
/// one piece after the other, without the chipset lock.
/// </summary>
public interface IDeviceWorker
{
    /// <summary>Makes a doorbell; each ring, or several that come before the thread gets to it, is one call of <paramref name="work"/>.</summary>
    IDoorbell AddDoorbell(Action work);
}

/// <summary>Wakes a device's worker. Ringing is safe from any thread, never waits, and needs no lock.</summary>
public interface IDoorbell : IDisposable
{
    void Ring();
}

/// <summary>
/// Ties guest writes at physical addresses to doorbells: the write rings, and the vCPU goes on without the chipset lock (in the kvm engine
/// without leaving the kernel: ioeventfd). What is tied nowhere reaches its device as ever. Call under the chipset lock.
/// </summary>
public interface IDoorbellMap
{
    /// <summary>Writes of 2 or 4 bytes that begin at an address ring from now on.</summary>
    void Attach(ulong address, IDoorbell doorbell);

    /// <summary>Undoes <see cref="Attach"/>.</summary>
    void Detach(ulong address, IDoorbell doorbell);
}
