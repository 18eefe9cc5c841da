using Tutti.Host;

namespace Tutti.Network;

/// <summary>What becomes of a flow that the guest begins.</summary>
internal enum Reach
{
    /// <summary>It goes to the endpoint that the policy names.</summary>
    Allowed,

    /// <summary>The guest is told so at once: a reset in TCP, else an ICMP error.</summary>
    Refused,

    /// <summary>Nothing is answered: broadcast, multicast, and addresses that are none.</summary>
    Ignored,
}

/// <summary>
/// Where the guest may go. The internet and the host's networks, yes; the host itself only with <c>host=allow</c>: its services at the gateway's
/// address, its loopback, its own addresses (which the host's firewall lets in as its own traffic), and link-local neighbours such
/// as a cloud's metadata service, which hands out the host's credentials. On the network's loop only.
/// </summary>
internal sealed class ReachPolicy
{
    /// <summary>Domain's.</summary>
    public const ushort DnsPort = 53;

    private readonly NetworkAddresses _addresses;
    private readonly Func<bool, HostEndpoint?> _resolver;
    private readonly bool _isHostAllowed;

    /// <param name="addresses">The network's.</param>
    /// <param name="isHostAllowed">Whether the gateway's address stands for the host's loopback, and the host's own addresses are open.</param>
    /// <param name="resolver">The host's resolver for TCP queries at the network's.</param>
    public ReachPolicy(NetworkAddresses addresses, bool isHostAllowed, Func<bool, HostEndpoint?> resolver)
    {
        _addresses = addresses;
        _isHostAllowed = isHostAllowed;
        _resolver = resolver;
    }

    /// <summary>Decides on a new TCP or UDP flow of the guest's.</summary>
    /// <param name="isVersion6">IPv6, or IPv4.</param>
    /// <param name="destination">Where the guest sends it.</param>
    /// <param name="port">The same.</param>
    /// <param name="to">Where a socket of the host's is to connect.</param>
    public Reach Decide(bool isVersion6, UInt128 destination, ushort port, out HostEndpoint to)
    {
        to = new HostEndpoint(isVersion6, destination, port);
        if (destination == _addresses.ResolverFor(isVersion6))
        {
            if (port == DnsPort && _resolver(isVersion6) is HostEndpoint resolver)
            {
                to = resolver;
                return Reach.Allowed;
            }

            return Reach.Refused;
        }

        if (destination == _addresses.HostFor(isVersion6) || (isVersion6 && destination == _addresses.LinkLocalHost6))
        {
            to = isVersion6 ? HostEndpoint.Loopback6(port) : HostEndpoint.Loopback4(port);
            return _isHostAllowed && port != 0 ? Reach.Allowed : Reach.Refused;
        }

        Reach reach = isVersion6 ? Decide6(destination) : Decide4((uint)destination);
        return reach == Reach.Allowed && (port == 0 || (!_isHostAllowed && IsHostsOwn(to))) ? Reach.Refused : reach;
    }

    /// <summary>Decides on an echo request to another than the network's own addresses.</summary>
    public Reach DecideEcho(bool isVersion6, UInt128 destination)
    {
        HostEndpoint to = new(isVersion6, destination, 9);
        Reach reach = isVersion6 ? Decide6(destination) : Decide4((uint)destination);
        return reach == Reach.Allowed && !_isHostAllowed && IsHostsOwn(to) ? Reach.Refused : reach;
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

        return address >> 16 == 0xA9FE && !_isHostAllowed ? Reach.Refused : Reach.Allowed;
    }

    private Reach Decide6(UInt128 address)
    {
        ulong high = (ulong)(address >> 64);
        if (_addresses.IsInPrefix6(address))
        {
            return Reach.Refused;
        }

        // Unspecified, loopback, IPv4 in disguise (::/96, ::ffff:0:0/96) which would pass by the rules for IPv4; multicast; link-local.
        if (high == 0 || high >> 56 == 0xFF || high >> 54 == 0xFE80 >> 6)
        {
            return Reach.Ignored;
        }

        // The cloud's metadata in IPv6 is at unique local addresses such as fd00:ec2::254.
        return high == 0xFD00_0EC2_0000_0000 && !_isHostAllowed ? Reach.Refused : Reach.Allowed;
    }

    /// <summary>The kernel sends to an address of the host's own from that same address. Asked each time: addresses come and go.</summary>
    private static bool IsHostsOwn(in HostEndpoint to)
    {
        using HostSocket? probe = HostSocket.TryOpenUdp(to.IsVersion6, out _);

        // Connecting a datagram socket sends nothing. Where there is no route the flow will fail by itself; without descriptors none is made.
        return probe == null || (probe.Connect(to) == 0 && probe.LocalEndpoint.Address == to.Address);
    }
}
