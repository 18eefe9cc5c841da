using Tutti.Devices;

namespace Tutti.Virtio;

/// <summary>Does the work of a notification on the vCPU that sends it; for <see cref="IDoorbellMap"/> alone, which rings under no lock.</summary>
internal sealed class VcpuDoorbell(Action work) : IDoorbell
{
    public void Ring() => work();

    public void Dispose()
    {
    }
}
