using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using Tutti.Devices.Network;
using Tutti.Network.Ip;
using Tutti.Network.Tests.Tap;

namespace Tutti.Network.Tests.Linux;

/// <summary>
/// What <c>host=deny</c> keeps from a guest. The host is a namespace with a network card and all that makes an address a host's own; listeners at
/// all of its addresses say whether anything came.
/// </summary>
public sealed class ReachTests
{
    private const ushort Port = 7777;
    private const ushort RuledPort = 4444;
    private static readonly UInt128 Guest6 = Address("fec0::15");

    /// <summary>All of one kind each: first and second address, a whole network of type local, the subnet-router anycast address, and what a policy rule makes local.</summary>
    /// <remarks>Last: whether the kernel lets plain TCP listeners answer there; datagrams reach theirs at all of them.</remarks>
    public static TheoryData<string, ushort, bool> Own => new()
    {
        { "192.0.2.10", Port, true },
        { "192.0.2.11", Port, true },
        { "198.51.100.77", Port, true },
        { "203.0.113.5", RuledPort, false },
        { "198.18.0.5", Port, false },
        { "2001:db8:1::10", Port, true },
        { "2001:db8:1::11", Port, true },
        { "2001:db8:1::", Port, false },
        { "2001:db8:a::77", Port, true },
    };

    [TapTheory]
    [MemberData(nameof(Own))]
    public void An_address_of_the_hosts_own_is_refused_by_TCP_and_UDP_and_open_to_who_may_reach_the_host(string text, ushort port, bool hasTcp)
    {
        using NetworkNamespace host = MakeHost();
        UInt128 address = Address(text);
        bool isVersion6 = text.Contains(':', StringComparison.Ordinal);
        using Socket datagrams = host.Do(() => Listener(isVersion6, SocketType.Dgram, port));
        using Socket streams = host.Do(() => Listener(isVersion6, SocketType.Stream, port));
        using (TestGuest guest = host.Do(() => new TestGuest(new NetworkSpec { Ip6 = Ip6Mode.On })))
        {
            guest.Send(Datagram(isVersion6, address, port));
            AssertProhibited(guest, isVersion6);
            guest.Send(Syn(isVersion6, address, port), new PacketOffload(NeedsChecksum: true));
            Assert.Equal(0x14, guest.Take(frame => frame[isVersion6 ? 20 : 23] == 6)[isVersion6 ? 67 : 47]);
            guest.Send(Echo(isVersion6, address));
            if (port == Port)
            {
                AssertProhibited(guest, isVersion6);
            }

            Assert.Equal(0, guest.Network.Udp.FlowCount);
            Assert.Equal(0, datagrams.Available);
            Assert.False(streams.Poll(0, SelectMode.SelectRead));
        }

        // The same packets arrive where the host is allowed: it was the policy that kept them off.
        using TestGuest allowed = host.Do(() => new TestGuest(new NetworkSpec { IsHostAllowed = true, Ip6 = Ip6Mode.On }));
        allowed.Send(Datagram(isVersion6, address, port));
        byte[] room = new byte[10];
        Assert.Equal(5, datagrams.Receive(room));
        allowed.Send(Syn(isVersion6, address, port), new PacketOffload(NeedsChecksum: true));
        Assert.Equal(hasTcp, streams.Poll(hasTcp ? 10_000_000 : 100_000, SelectMode.SelectRead));
    }

    /// <summary>IPv4 addresses of the host's own, wrapped: NAT64 well-known and local, 6to4, Teredo client, ISATAP. And others' the same way, which are open.</summary>
    [TapTheory]
    [InlineData("64:ff9b::c000:20b", true)]
    [InlineData("64:ff9b::c000:2fe", false)]
    [InlineData("64:ff9b::7f00:1", true)]
    [InlineData("64:ff9b::a9fe:a9fe", true)]
    [InlineData("64:ff9b:1::c000:20b", true)]
    [InlineData("64:ff9b:1:c000:2:b00::", true)]
    [InlineData("64:ff9b:1:c0:0:20b::", true)]
    [InlineData("64:ff9b:1:0:c0:2:b00:0", true)]
    [InlineData("64:ff9b:1:0:8:808:800:0", false)]
    [InlineData("2002:c000:20a::1", true)]
    [InlineData("2002:a9fe:a9fe::1", true)]
    [InlineData("2002:c000:2fe::1", false)]
    [InlineData("2001:0:c000:2fe:0:0:3fff:fdf5", true)]
    [InlineData("2001:0:c000:2fe:0:0:3fff:fd01", false)]
    [InlineData("2001:db8:2::5efe:c000:20b", true)]
    [InlineData("2001:db8:2::200:5efe:c000:20b", true)]
    [InlineData("2001:db8:2::200:5efe:c000:2fe", false)]
    public void An_IPv4_address_inside_an_IPv6_address_is_held_to_the_same_rule(string text, bool isRefused)
    {
        using NetworkNamespace host = MakeHost();
        using TestGuest guest = host.Do(() => new TestGuest(new NetworkSpec { Ip6 = Ip6Mode.On }));
        Assert.Equal(isRefused ? Reach.Refused : Reach.Allowed, Decide(guest, text));
    }

    [TapTheory]
    [InlineData("0.0.0.0")]
    [InlineData("0.0.0.1")]
    [InlineData("127.0.0.1")]
    [InlineData("127.8.8.8")]
    [InlineData("224.0.0.1")]
    [InlineData("255.255.255.255")]
    [InlineData("::")]
    [InlineData("::1")]
    [InlineData("::127.0.0.1")]
    [InlineData("::ffff:127.0.0.1")]
    [InlineData("::ffff:192.0.2.10")]
    [InlineData("::ffff:0:127.0.0.1")]
    [InlineData("fe80::1")]
    [InlineData("fe80::a9fe:a9fe")]
    [InlineData("ff02::1")]
    public void Loopback_multicast_and_link_local_addresses_are_nobodys_even_where_the_host_is_allowed(string text)
    {
        using NetworkNamespace host = MakeHost();
        using TestGuest guest = host.Do(() => new TestGuest(new NetworkSpec { IsHostAllowed = true, IsMetadataAllowed = true, Ip6 = Ip6Mode.On }));
        Assert.Equal(Reach.Ignored, Decide(guest, text));
    }

    [TapTheory]
    [InlineData("192.0.2.1")]
    [InlineData("8.8.8.8")]
    [InlineData("203.0.113.5")]
    [InlineData("2001:db8:1::99")]
    [InlineData("2600::1")]
    public void Others_are_open(string text)
    {
        using NetworkNamespace host = MakeHost();
        using TestGuest guest = host.Do(() => new TestGuest(new NetworkSpec { Ip6 = Ip6Mode.On }));
        Assert.Equal(Reach.Allowed, Decide(guest, text));
        Assert.Equal(Reach.Refused, Decide(guest, "192.0.2.255"));
    }

    [TapTheory]
    [InlineData("169.254.169.254")]
    [InlineData("169.254.170.2")]
    [InlineData("169.254.42.42")]
    [InlineData("169.254.0.23")]
    [InlineData("100.100.100.200")]
    [InlineData("168.63.129.16")]
    [InlineData("192.0.0.192")]
    [InlineData("fd00:ec2::254")]
    [InlineData("fd00:ec2::23")]
    [InlineData("fd20:ce::254")]
    [InlineData("fd00:c1::a9fe:a9fe")]
    [InlineData("fd00:42::42")]
    [InlineData("fd00:a9fe:a9fe::1")]
    [InlineData("fd00:100::100:200")]
    public void Metadata_services_are_refused_but_for_one_option(string text)
    {
        using NetworkNamespace host = MakeHost();
        foreach ((string options, Reach reach) in new[] { ("user", Reach.Refused), ("user,host=allow", Reach.Refused), ("user,metadata=allow", Reach.Allowed) })
        {
            using TestGuest guest = host.Do(() => new TestGuest(NetworkSpec.Parse(options) with { Ip6 = Ip6Mode.On }));
            Assert.Equal(reach, Decide(guest, text));
        }
    }

    [TapFact]
    public void Flows_under_way_end_when_their_address_becomes_the_hosts()
    {
        using NetworkNamespace host = MakeHost();
        using Socket streams = host.Do(() => Listener(false, SocketType.Stream, Port));
        using Socket datagrams = host.Do(() => Listener(false, SocketType.Dgram, Port));
        using TestGuest guest = host.Do(() => new TestGuest(new NetworkSpec()));
        UInt128 address = Address("8.8.8.8");
        guest.Send(Datagram(false, address, Port));
        guest.Send(Syn(false, address, Port), new PacketOffload(NeedsChecksum: true));
        guest.Send(Echo(false, address));
        Assert.Equal((1, 1), (guest.Network.Udp.FlowCount, guest.Network.Tcp.Counters.Connections));
        host.Run("ip", "addr", "add", "8.8.8.8/32", "dev", "lo");
        Assert.Equal(0x14, guest.Take(frame => frame[23] == 6)[47]);
        Assert.Equal((0, 0), (guest.Network.Udp.FlowCount, guest.Network.Echo.FlowCount));
        guest.Send(Datagram(false, address, Port));
        AssertProhibited(guest, false);
        Assert.Equal(0, datagrams.Available);
        Assert.False(streams.Poll(1_500_000, SelectMode.SelectRead));

        // And back again: nothing is remembered.
        host.Run("ip", "addr", "del", "8.8.8.8/32", "dev", "lo");
        guest.Send(Datagram(false, address, Port));
        Assert.Equal(1, guest.Network.Udp.FlowCount);
    }

    private static Reach Decide(TestGuest guest, string address)
    {
        Reach reach = Reach.Allowed;
        guest.Network.Loop.Run(() => reach = guest.Network.Policy.Decide(address.Contains(':', StringComparison.Ordinal), Address(address), FrameFormat.Udp, Port, out _));
        return reach;
    }

    private static NetworkNamespace MakeHost()
    {
        NetworkNamespace host = new($"tutti-reach-{Environment.ProcessId}-{Guid.NewGuid():N}"[..40]);
        host.Run("sh", "-ec", """
            ip link set lo up
            echo '0 2147483647' > /proc/sys/net/ipv4/ping_group_range
            ip link add v0 type veth peer name v1
            ip link set v0 up
            ip link set v1 up
            ip addr add 192.0.2.10/24 brd + dev v0
            ip addr add 192.0.2.11/24 brd + dev v0
            ip route add default via 192.0.2.1
            ip neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev v0
            echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
            ip addr add 2001:db8:1::10/64 dev v0 nodad
            ip addr add 2001:db8:1::11/64 dev v0 nodad
            ip route add default via 2001:db8:1::1 dev v0
            ip route add local 198.51.100.0/24 dev lo
            ip route add local 2001:db8:a::/48 dev lo
            ip rule add pref 100 ipproto tcp dport 4444 lookup 100
            ip rule add pref 101 ipproto udp dport 4444 lookup 100
            ip route add local 203.0.113.0/24 dev lo src 192.0.2.10 table 100
            ip rule add pref 102 from 192.0.2.10 to 198.18.0.0/24 lookup 101
            ip route add local 198.18.0.0/24 dev lo table 101
            """);
        return host;
    }

    private static Socket Listener(bool isVersion6, SocketType type, ushort port)
    {
        Socket socket = new(isVersion6 ? AddressFamily.InterNetworkV6 : AddressFamily.InterNetwork, type, ProtocolType.Unspecified) { ReceiveTimeout = 10_000 };
        socket.Bind(new IPEndPoint(isVersion6 ? IPAddress.IPv6Any : IPAddress.Any, port));
        if (type == SocketType.Stream)
        {
            socket.Listen();
        }

        return socket;
    }

    private static void AssertProhibited(TestGuest guest, bool isVersion6)
    {
        byte[] error = guest.Take(frame => frame[isVersion6 ? 20 : 23] is 1 or 58);
        Assert.Equal(isVersion6 ? (1, 1) : (3, 13), (error[isVersion6 ? 54 : 34], error[isVersion6 ? 55 : 35]));
    }

    private static byte[] Datagram(bool isVersion6, UInt128 to, ushort port)
    {
        byte[] udp = TestGuest.UdpDatagram(5000, port, "knock"u8);
        return isVersion6 ? TestGuest.Ip6(Guest6, to, 17, udp, 6) : TestGuest.Ip4(TestGuest.Address, (uint)to, 17, udp);
    }

    private static byte[] Syn(bool isVersion6, UInt128 to, ushort port)
    {
        byte[] tcp = new byte[20];
        BinaryPrimitives.WriteUInt16BigEndian(tcp, 5001);
        BinaryPrimitives.WriteUInt16BigEndian(tcp.AsSpan(2), port);
        (tcp[12], tcp[13], tcp[14]) = (0x50, 2, 0xFF);
        return isVersion6 ? TestGuest.Ip6(Guest6, to, 6, tcp, 16) : TestGuest.Ip4(TestGuest.Address, (uint)to, 6, tcp);
    }

    private static byte[] Echo(bool isVersion6, UInt128 to)
    {
        byte[] echo = [isVersion6 ? (byte)128 : (byte)8, 0, 0, 0, 1, 2, 3, 4, 5, 6];
        if (!isVersion6)
        {
            BinaryPrimitives.WriteUInt16BigEndian(echo.AsSpan(2), TestGuest.Sum(echo));
        }

        return isVersion6 ? TestGuest.Ip6(Guest6, to, 58, echo, 2) : TestGuest.Ip4(TestGuest.Address, (uint)to, 1, echo);
    }

    private static UInt128 Address(string text)
    {
        byte[] bytes = IPAddress.Parse(text).GetAddressBytes();
        return bytes.Length == 4 ? BinaryPrimitives.ReadUInt32BigEndian(bytes) : BinaryPrimitives.ReadUInt128BigEndian(bytes);
    }
}
