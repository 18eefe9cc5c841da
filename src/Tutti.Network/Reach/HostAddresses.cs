using Tutti.Host;

namespace Tutti.Network;

/// <summary>
/// Which addresses are the host's own. The kernel is asked for the route that a flow's socket would get, once for each new flow; so secondary addresses, anycast,
/// routes to whole networks of type local and policy rules are all seen, and nothing is remembered that could be out of date. On the network's loop only.
/// </summary>
internal sealed class HostAddresses : IDisposable
{
    private readonly HostRoutes _routes;

    private HostAddresses(HostRoutes routes) => _routes = routes;

    /// <exception cref="NetworkException">The kernel's tables are out of this process's reach.</exception>
    public static HostAddresses Open() => new(HostRoutes.TryOpen(out int errno) ?? throw Unavailable(errno));

    /// <summary>The line for a host that does not let this process know its addresses.</summary>
    public static NetworkException Unavailable(int errno) => new(
        $"Can't tell the host's own addresses from others (netlink socket: {Errno.Describe(errno)}). Let this process have AF_NETLINK sockets, or let the guest reach the host with --net user,host=allow.");

    /// <summary>Whether a flow would end at this host: at one of its addresses, or as a broadcast or by a loop through its own loopback device.</summary>
    /// <param name="to">Where the flow goes.</param>
    /// <param name="protocol">IANA's number.</param>
    public bool HasOwn(in HostEndpoint to, byte protocol)
    {
        int answer = _routes.Find(to, protocol, 0, out HostRoute route);
        if (answer == 0 && IsAway(route) && route.Source != 0)
        {
            // A socket looks again once it has its source address, for which policy rules may have other tables.
            answer = _routes.Find(to, protocol, route.Source, out route);
        }

        return answer switch
        {
            0 => !IsAway(route),

            // No way at all: the flow's own socket is told the same.
            -Errno.ENETUNREACH or -Errno.EHOSTUNREACH or -Errno.EACCES or -Errno.EINVAL => false,

            // In doubt it is the host's.
            _ => true,
        };
    }

    public void Dispose() => _routes.Dispose();

    private static bool IsAway(in HostRoute route) => route is { Type: HostRouteType.Unicast, Interface: not HostRoutes.LoopbackInterface };
}
