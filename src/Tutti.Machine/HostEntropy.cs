using Tutti.Host;
using Tutti.Virtio.Entropy;

namespace Tutti.Machine;

/// <summary>The host kernel's random numbers for a guest.</summary>
public sealed class HostEntropy : IEntropySource
{
    public void Fill(Span<byte> buffer) => HostRandom.Fill(buffer);
}
