namespace Tutti.Virtio.Entropy;

/// <summary>Where random bytes for a guest come from.</summary>
public interface IEntropySource
{
    /// <summary>Fills a buffer, which the guest may read meanwhile, with random bytes. Called on the device's worker; must not wait.</summary>
    void Fill(Span<byte> buffer);
}
