namespace Tutti.Network.Tcp;

/// <summary>Names a connection: the guest's end and the peer's, addresses as numbers with the first byte highest (IPv4 in the low 32 bits).</summary>
/// <remarks>The hash is seeded per process: a guest can't choose flows that collide.</remarks>
internal readonly record struct TcpFlow(bool IsVersion6, UInt128 GuestAddress, ushort GuestPort, UInt128 PeerAddress, ushort PeerPort)
{
    public override int GetHashCode() => HashCode.Combine(IsVersion6, GuestAddress, PeerAddress, ((uint)GuestPort << 16) | PeerPort);
}
