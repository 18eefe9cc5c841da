using System.Net;
using System.Net.Sockets;
using Tutti.Devices.Network;

namespace Tutti.Network.Tests;

/// <summary>How many flows a guest gets, and what becomes of those beyond.</summary>
public sealed class FlowLimitTests
{
    [Theory]
    [InlineData(null, 20_000, 2048, 512)]
    [InlineData(null, 1024, 409, 102)]
    [InlineData(null, 100, 16, 4)]
    [InlineData(10_000, 20_000, 10_000, 2500)]
    [InlineData(16, 1024, 16, 4)]
    public void So_many_flows_take_no_more_descriptors_than_there_are(int? asked, long descriptors, int connections, int flows) =>
        Assert.Equal(new FlowLimit(connections, flows), FlowLimit.For(asked, descriptors));

    [Fact]
    public void More_than_the_process_may_have_is_said_in_a_line() => Assert.Equal(
        "--net flows=10000 takes up to 13012 descriptors, and this process may have 4096. Raise that limit (ulimit -Hn), or ask for fewer.",
        Assert.Throws<NetworkException>(() => FlowLimit.For(10_000, 4096)).Message);

    [Fact]
    public void Connections_beyond_are_refused_and_the_user_is_told_once()
    {
        using TestGuest guest = new(new NetworkSpec { IsHostAllowed = true, Flows = 16 });
        using TcpListener listener = new(IPAddress.Loopback, 0);
        listener.Start(100);
        ushort port = (ushort)((IPEndPoint)listener.LocalEndpoint).Port;
        for (ushort i = 0; i < 16; i++)
        {
            guest.Send(Syn(i, port), new PacketOffload(NeedsChecksum: true));
            Assert.Equal(0x12, guest.Take(frame => frame[23] == 6)[47]);
        }

        for (ushort i = 16; i < 20; i++)
        {
            guest.Send(Syn(i, port), new PacketOffload(NeedsChecksum: true));
            Assert.Equal(0x14, guest.Take(frame => frame[23] == 6)[47]);
        }

        Assert.Equal("network: 16 TCP connections are open, as many as the guest may have; more are refused. --net user,flows=N allows more.", Assert.Single(guest.Notices));
        Dictionary<string, long> counters = guest.Network.ReadCounters().ToDictionary(counter => counter.Name, counter => counter.Value);
        Assert.Equal((16, 16, 4), (counters["TCP connections, most at a time"], counters["TCP connections, limit"], counters["TCP connections, refused for want of room"]));
    }

    [Fact]
    public void The_UDP_flow_that_was_quiet_longest_goes_for_a_new_one()
    {
        using TestGuest guest = new(new NetworkSpec { IsHostAllowed = true, Flows = 16 });
        for (ushort i = 0; i < 6; i++)
        {
            guest.Send(TestGuest.Udp(TestGuest.Host, (ushort)(7000 + i), 9, "x"u8));
        }

        Dictionary<string, long> counters = guest.Network.ReadCounters().ToDictionary(counter => counter.Name, counter => counter.Value);
        Assert.Equal((6, 4, 2), (counters["UDP flows"], counters["UDP flows, most at a time"], counters["UDP flows, ended for newer ones"]));
    }

    [Fact]
    public void A_machine_that_was_reset_has_no_flows()
    {
        using TestGuest guest = new(new NetworkSpec { IsHostAllowed = true });
        using TcpListener listener = new(IPAddress.Loopback, 0);
        listener.Start();
        guest.Send(Syn(1, (ushort)((IPEndPoint)listener.LocalEndpoint).Port), new PacketOffload(NeedsChecksum: true));
        guest.Send(TestGuest.Udp(TestGuest.Host, 7000, 9, "x"u8));
        using Socket accepted = listener.AcceptSocket();
        Assert.Equal((1, 1), (guest.Network.Tcp.Counters.Connections, guest.Network.Udp.FlowCount));
        guest.Network.Attach(guest);
        Assert.Equal((0, 0), (guest.Network.Tcp.Counters.Connections, guest.Network.Udp.FlowCount));
        Assert.Equal(SocketError.ConnectionReset, Assert.Throws<SocketException>(() => accepted.Receive(new byte[1])).SocketErrorCode);
    }

    private static byte[] Syn(ushort number, ushort port)
    {
        byte[] tcp = new byte[20];
        (tcp[0], tcp[1], tcp[2], tcp[3]) = (40, (byte)number, (byte)(port >> 8), (byte)port);
        (tcp[12], tcp[13], tcp[14]) = (0x50, 2, 0xFF);
        return TestGuest.Ip4(TestGuest.Address, TestGuest.Host, 6, tcp);
    }
}
