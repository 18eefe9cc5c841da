using Tutti.Host;

namespace Tutti.Network.Tests;

/// <summary>Whether a host tells its own addresses.</summary>
public sealed class HostAddressesTests
{
    [Theory]
    [InlineData(0, HostRouteType.Local, true)]
    [InlineData(0, HostRouteType.Unicast, false)]
    [InlineData(0, HostRouteType.Unspecified, false)]
    [InlineData(-Errno.ENETUNREACH, HostRouteType.Unspecified, true)]
    [InlineData(-Errno.EOPNOTSUPP, HostRouteType.Unspecified, false)]
    [InlineData(-Errno.EAGAIN, HostRouteType.Unspecified, false)]
    [InlineData(-Errno.EINVAL, HostRouteType.Unspecified, false)]
    public void A_kernel_that_does_not_know_its_own_loopback_is_not_believed(int answer, HostRouteType type, bool isBelieved) =>
        Assert.Equal(isBelieved, HostAddresses.Knows(answer, new HostRoute(type, 1, 0)));

    [Fact]
    public void What_a_sandbox_takes_away_is_said_in_a_line() => Assert.Equal(
        "Can't tell the host's own addresses from others (netlink socket: Permission denied). Let this process have AF_NETLINK sockets, or let the guest reach the host with --net user,host=allow.",
        HostAddresses.Unavailable(Errno.EACCES).Message);
}
