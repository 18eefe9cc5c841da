using Tutti.Host;
using Tutti.Network.Ip;

namespace Tutti.Network;

/// <summary>
/// Which addresses are the host's own. The kernel is asked for the route that a flow's socket would get, once for each new flow; so secondary addresses, anycast,
/// routes to whole networks of type local and policy rules are all seen, and nothing is remembered that could be out of date. On the network's loop only.
/// </summary>
internal sealed class HostAddresses : IDisposable
{
    private readonly HostRoutes _routes;

    private HostAddresses(HostRoutes routes) => _routes = routes;

    /// <exception cref="NetworkException">The kernel's tables are out of this process's reach, or don't tell the host's own addresses.</exception>
    public static HostAddresses Open()
    {
        HostRoutes routes = HostRoutes.TryOpen(out int errno) ?? throw Unavailable(errno);
        int answer = routes.Find(HostEndpoint.Loopback4(9), FrameFormat.Udp, 0, out HostRoute route);
        if (Knows(answer, route))
        {
            return new HostAddresses(routes);
        }

        routes.Dispose();
        throw Unavailable(answer == 0 ? Errno.EOPNOTSUPP : -answer);
    }

    /// <summary>Whether an answer about 127.0.0.1, which has no way while the loopback device is down, is one of a kernel that can be believed: some sandboxes have netlink sockets that answer something else, or nothing.</summary>
    internal static bool Knows(int answer, in HostRoute route) => answer == 0 ? route.Type == HostRouteType.Local : answer == -Errno.ENETUNREACH;

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

            // No way at all: the flow's own socket is told the same. In doubt it is the host's.
            _ => !IsNoWay(answer),
        };
    }

    public void Dispose() => _routes.Dispose();

    private static bool IsNoWay(int answer) => answer is -Errno.ENETUNREACH or -Errno.EHOSTUNREACH or -Errno.EACCES or -Errno.EINVAL;

    private static bool IsAway(in HostRoute route) => route is { Type: HostRouteType.Unicast, Interface: not HostRoutes.LoopbackInterface };
}
