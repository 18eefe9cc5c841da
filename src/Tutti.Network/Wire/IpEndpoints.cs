namespace Tutti.Network.Ip;

/// <summary>The two addresses of an IP packet, as plain values.</summary>
/// <param name="IsVersion6">IPv6, or IPv4.</param>
/// <param name="Source">As a number, its first byte the highest; IPv4 in the low 32 bits.</param>
/// <param name="Destination">Likewise.</param>
internal readonly record struct IpEndpoints(bool IsVersion6, UInt128 Source, UInt128 Destination)
{
    /// <summary>Those of an answer.</summary>
    public IpEndpoints Reversed => new(IsVersion6, Destination, Source);
}
