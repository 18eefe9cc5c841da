using Tutti.Network.Tests.Tap;

namespace Tutti.Network.Tests.Linux;

/// <summary>A host, a router and a peer, each a network namespace, in a row: the router's way to the peer takes smaller packets than that to the host.</summary>
internal sealed class Landscape : IDisposable
{
    public const string Peer4 = "198.51.100.2";
    public const string Peer6 = "2001:db8:2::2";

    /// <summary>Of the way between router and peer, in bytes.</summary>
    public const int FarMtu = 1300;

    private static int s_last;
    private readonly NetworkNamespace _router;

    /// <param name="hasIp4">Whether the host has an IPv4 address.</param>
    public Landscape(bool hasIp4 = true)
    {
        string name = $"tutti-{Environment.ProcessId}-{Interlocked.Increment(ref s_last)}";
        Host = new NetworkNamespace($"{name}h");
        _router = new NetworkNamespace($"{name}r");
        Peer = new NetworkNamespace($"{name}p");
        Host.Run("sh", "-ec", $"""
            ip link set lo up
            ip link add h0 type veth peer name r0 netns {_router.Name}
            ip link set h0 up
            ip addr add 2001:db8:1::2/64 dev h0 nodad
            """);
        _router.Run("sh", "-ec", $"""
            echo 1 > /proc/sys/net/ipv4/ip_forward
            echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
            ip link add r1 type veth peer name p0 netns {Peer.Name}
            ip link set r1 mtu {FarMtu}
            ip link set r0 up
            ip link set r1 up
            ip addr add 192.0.2.1/24 dev r0
            ip addr add 198.51.100.1/24 dev r1
            ip addr add 2001:db8:1::1/64 dev r0 nodad
            ip addr add 2001:db8:2::1/64 dev r1 nodad
            """);
        Peer.Run("sh", "-ec", $"""
            ip link set lo up
            ip link set p0 mtu {FarMtu} up
            ip addr add {Peer4}/24 dev p0
            ip addr add {Peer6}/64 dev p0 nodad
            ip route add default via 198.51.100.1
            ip route add default via 2001:db8:2::1
            """);
        Host.Run("ip", "route", "add", "default", "via", "2001:db8:1::1");
        if (hasIp4)
        {
            Host.Run("sh", "-ec", "ip addr add 192.0.2.2/24 dev h0 && ip route add default via 192.0.2.1");
        }
    }

    public NetworkNamespace Host { get; }

    public NetworkNamespace Peer { get; }

    public void Dispose()
    {
        Host.Dispose();
        _router.Dispose();
        Peer.Dispose();
    }
}
