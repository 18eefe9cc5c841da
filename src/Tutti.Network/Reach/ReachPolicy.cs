using Tutti.Host;
using Tutti.Network.Ip;

namespace Tutti.Network;

/// <summary>What becomes of a flow that the guest begins.</summary>
internal enum Reach
{
    /// <summary>It goes to the endpoint that the policy names.</summary>
    Allowed,

    /// <summary>The network's resolver is meant, which answers by itself.</summary>
    Resolver,

    /// <summary>The guest is told so at once: a reset in TCP, else an ICMP error.</summary>
    Refused,

    /// <summary>Nothing is answered: broadcast, multicast, and addresses that are none.</summary>
    Ignored,
}

/// <summary>
/// Where the guest may go. The internet and the host's networks, yes; the host itself only with <c>host=allow</c>: its services at the gateway's
/// address and its own addresses (which the host's firewall lets in as its own traffic); clouds' metadata services, which hand out the host's credentials, only
/// with <c>metadata=allow</c>. On the network's loop only.
/// </summary>
internal sealed class ReachPolicy
{
    /// <summary>Domain's.</summary>
    public const ushort DnsPort = 53;

    private readonly NetworkAddresses _addresses;
    private readonly HostAddresses? _host;
    private readonly bool _isMetadataAllowed;

    /// <param name="addresses">The network's.</param>
    /// <param name="host">The host's own, which are refused; null where the host is allowed: the gateway's address stands for its loopback then, and its own addresses are open.</param>
    /// <param name="isMetadataAllowed">Whether link-local addresses and metadata services are open.</param>
    public ReachPolicy(NetworkAddresses addresses, HostAddresses? host, bool isMetadataAllowed)
    {
        _addresses = addresses;
        _host = host;
        _isMetadataAllowed = isMetadataAllowed;
    }

    /// <summary>Decides on a new TCP or UDP flow of the guest's.</summary>
    /// <param name="isVersion6">IPv6, or IPv4.</param>
    /// <param name="destination">Where the guest sends it.</param>
    /// <param name="protocol">IANA's number.</param>
    /// <param name="port">The destination's.</param>
    /// <param name="to">Where a socket of the host's is to connect.</param>
    public Reach Decide(bool isVersion6, UInt128 destination, byte protocol, ushort port, out HostEndpoint to)
    {
        to = new HostEndpoint(isVersion6, destination, port);
        if (destination == _addresses.ResolverFor(isVersion6))
        {
            return port == DnsPort ? Reach.Resolver : Reach.Refused;
        }

        if (destination == _addresses.HostFor(isVersion6) || (isVersion6 && destination == _addresses.LinkLocalHost6))
        {
            to = isVersion6 ? HostEndpoint.Loopback6(port) : HostEndpoint.Loopback4(port);
            return _host == null && port != 0 ? Reach.Allowed : Reach.Refused;
        }

        Reach reach = DecideOther(to, protocol);
        return reach == Reach.Allowed && port == 0 ? Reach.Refused : reach;
    }

    /// <summary>Decides on an echo request to another than the network's own addresses.</summary>
    public Reach DecideEcho(bool isVersion6, UInt128 destination) =>
        DecideOther(new HostEndpoint(isVersion6, destination, 0), isVersion6 ? FrameFormat.Icmp6 : FrameFormat.Icmp);

    private Reach DecideOther(in HostEndpoint to, byte protocol)
    {
        Reach reach = to.IsVersion6 ? Decide6(to.Address) : Decide4((uint)to.Address);
        if (reach != Reach.Allowed)
        {
            return reach;
        }

        return (_host != null && _host.HasOwn(to, protocol)) || (to.IsVersion6 && CarriesRefused(to, protocol)) ? Reach.Refused : Reach.Allowed;
    }

    private Reach Decide4(uint address)
    {
        uint top = address >> 24;
        if (_addresses.IsInSubnet(address))
        {
            return address == _addresses.Broadcast4 || address == _addresses.Subnet ? Reach.Ignored : Reach.Refused;
        }

        // This network, loopback, multicast, reserved with the limited broadcast: nothing that a router forwards (RFC 6890).
        if (top is 0 or 127 or >= 224)
        {
            return Reach.Ignored;
        }

        return !_isMetadataAllowed && MetadataServices.Contains(address) ? Reach.Refused : Reach.Allowed;
    }

    private Reach Decide6(UInt128 address)
    {
        ulong high = (ulong)(address >> 64);
        if (_addresses.IsInPrefix6(address))
        {
            return Reach.Refused;
        }

        // Unspecified, loopback, IPv4 in disguise (::/96, ::ffff:0:0/96, ::ffff:0:0:0/96) which would pass by the rules for IPv4; multicast; link-local.
        if (high == 0 || high >> 56 == 0xFF || high >> 54 == 0xFE80 >> 6)
        {
            return Reach.Ignored;
        }

        return !_isMetadataAllowed && MetadataServices.Contains(address) ? Reach.Refused : Reach.Allowed;
    }

    /// <summary>A translator or a tunnel, which may be the host's own, would reach what the IPv4 address inside means.</summary>
    private bool CarriesRefused(in HostEndpoint to, byte protocol)
    {
        Span<uint> embedded = stackalloc uint[EmbeddedAddresses.Most];
        int count = EmbeddedAddresses.Find(to.Address, embedded);
        foreach (uint address in embedded[..count])
        {
            if ((!_isMetadataAllowed && MetadataServices.Contains(address)) ||
                (_host != null && (address >> 24 == 127 || _host.HasOwn(new HostEndpoint(false, address, to.Port), protocol == FrameFormat.Icmp6 ? FrameFormat.Icmp : protocol))))
            {
                return true;
            }
        }

        return false;
    }
}
