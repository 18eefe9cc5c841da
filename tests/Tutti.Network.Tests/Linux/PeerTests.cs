using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Tutti.Network.Tests.Tap;

namespace Tutti.Network.Tests.Linux;

/// <summary>Linux as guest, host, router and peer: what the way beyond the host does is told the guest.</summary>
public sealed class PeerTests : IDisposable
{
    private readonly string _resolvers = Path.GetTempFileName();

    public static TheoryData<string> Peers => [Landscape.Peer4, Landscape.Peer6];

    public void Dispose() => File.Delete(_resolvers);

    [TapFact]
    public void A_host_with_IPv6_alone_gives_its_guest_TCP_UDP_echo_and_names()
    {
        using Landscape land = new(hasIp4: false);
        File.WriteAllText(_resolvers, $"nameserver {Landscape.Peer6}\n");
        using TestResolver resolver = land.Peer.Do(() => new TestResolver(Landscape.Peer6));
        using LinuxGuest guest = Guest(land, Ip6Mode.Auto);
        guest.WaitForIp6();
        using (Socket listener = land.Peer.Do(() => Listen(AddressFamily.InterNetworkV6)))
        using (Socket ours = guest.Connect(IPAddress.Parse(Landscape.Peer6), Port(listener)))
        using (Socket theirs = listener.Accept())
        {
            ours.Send("question"u8);
            Assert.Equal(8, theirs.Receive(new byte[20]));
        }

        using Socket peer = land.Peer.Do(() => Datagrams(AddressFamily.InterNetworkV6));
        using Socket mine = guest.Datagrams(IPAddress.IPv6Any, 0);
        mine.SendTo("question"u8, new IPEndPoint(IPAddress.Parse(Landscape.Peer6), Port(peer)));
        Assert.Equal(8, peer.Receive(new byte[20]));
        Assert.Contains(TestResolver.Answered, guest.Space.Run("dig", "@fec0::3", "+tries=1", "one.example"), StringComparison.Ordinal);
        Assert.Contains(TestResolver.Answered, guest.Space.Run("dig", "@10.0.2.3", "+tries=1", "+tcp", "one.example"), StringComparison.Ordinal);

        // IPv4 has no way, and that is said at once.
        Stopwatch watch = Stopwatch.StartNew();
        Assert.Equal(SocketError.NetworkUnreachable, ErrorOf(() => guest.Connect(IPAddress.Parse(Landscape.Peer4), 80)));
        Assert.InRange(watch.Elapsed.TotalSeconds, 0, 5);
    }

    [TapTheory]
    [MemberData(nameof(Peers))]
    public void A_peers_port_that_nobody_has_is_said_to_be_unreachable(string address)
    {
        using Landscape land = new();
        using LinuxGuest guest = Guest(land);
        guest.WaitForIp6();
        IPAddress peer = IPAddress.Parse(address);
        using Socket ours = guest.Datagrams(peer.AddressFamily == AddressFamily.InterNetwork ? IPAddress.Any : IPAddress.IPv6Any, 0);
        ours.Connect(peer, 9);
        ours.Send("x"u8);
        Assert.Equal(SocketError.ConnectionRefused, Assert.Throws<SocketException>(() => ours.Receive(new byte[1])).SocketErrorCode);
        Assert.Equal(SocketError.ConnectionRefused, ErrorOf(() => guest.Connect(peer, 9)));
    }

    [TapFact]
    public void A_router_that_has_no_way_is_heard()
    {
        using Landscape land = new();
        using LinuxGuest guest = Guest(land);
        Stopwatch watch = Stopwatch.StartNew();
        Assert.Contains(ErrorOf(() => guest.Connect(IPAddress.Parse("203.0.113.9"), 80)), new[] { SocketError.NetworkUnreachable, SocketError.HostUnreachable });
        Assert.InRange(watch.Elapsed.TotalSeconds, 0, 10);
    }

    [TapTheory]
    [MemberData(nameof(Peers))]
    public void A_datagram_that_must_not_be_cut_and_is_too_large_for_the_way_is_answered_with_the_ways_MTU(string address)
    {
        using Landscape land = new();
        using LinuxGuest guest = Guest(land);
        guest.WaitForIp6();
        IPAddress to = IPAddress.Parse(address);
        using Socket peer = land.Peer.Do(() => Datagrams(to.AddressFamily));
        using Socket ours = guest.Datagrams(to.AddressFamily == AddressFamily.InterNetwork ? IPAddress.Any : IPAddress.IPv6Any, 0);
        IPEndPoint end = new(to, Port(peer));
        byte[] small = new byte[1200];
        byte[] large = new byte[1400];
        byte[] room = new byte[2000];
        ours.SendTo(small, end);
        Assert.Equal(1200, peer.Receive(room));

        // Linux marks what it sends so by itself, and cuts what it has been told of.
        ours.SendTo(large, end);
        Assert.True(SpinWait.SpinUntil(() => guest.Space.Run("ip", "route", "get", address).Contains($"mtu {Landscape.FarMtu}", StringComparison.Ordinal), 10_000), guest.Space.Run("ip", "route", "get", address));
        ours.SendTo(large, end);
        Assert.Equal(1400, peer.Receive(room));
    }

    [TapFact]
    public void A_datagram_that_may_be_cut_arrives()
    {
        using Landscape land = new();
        using LinuxGuest guest = Guest(land);
        guest.Space.Run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_no_pmtu_disc");
        using Socket peer = land.Peer.Do(() => Datagrams(AddressFamily.InterNetwork));
        using Socket ours = guest.Datagrams(IPAddress.Any, 0);
        IPEndPoint end = new(IPAddress.Parse(Landscape.Peer4), Port(peer));
        byte[] room = new byte[5000];
        foreach (int size in new[] { 1400, 1400, 4000 })
        {
            ours.SendTo(new byte[size], end);
            Assert.Equal(size, peer.Receive(room));
        }

        Assert.DoesNotContain("mtu", guest.Space.Run("ip", "route", "get", Landscape.Peer4), StringComparison.Ordinal);
    }

    [TapFact]
    public void A_guest_that_asks_whether_its_peer_lives_is_told_when_it_does_not()
    {
        using Landscape land = new();
        using LinuxGuest guest = Guest(land);
        guest.Network.Loop.Run(() => guest.Network.Tcp.KeepAliveSeconds = 1);
        using Socket listener = land.Peer.Do(() => Listen(AddressFamily.InterNetwork));
        using Socket asking = guest.Connect(IPAddress.Parse(Landscape.Peer4), Port(listener));
        using Socket theirs = listener.Accept();
        using Socket silent = guest.Connect(IPAddress.Parse(Landscape.Peer4), Port(listener));
        using Socket others = listener.Accept();
        asking.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveTime, 1);
        asking.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveInterval, 1);
        asking.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveRetryCount, 100);
        asking.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.KeepAlive, true);

        // While the peer is there the connection stays.
        Thread.Sleep(6000);
        Assert.True(theirs.Send("x"u8) == 1 && asking.Receive(new byte[1]) == 1);
        land.Peer.Run("ip", "link", "set", "p0", "down");
        asking.ReceiveTimeout = 30_000;
        Stopwatch watch = Stopwatch.StartNew();
        Assert.NotEqual(SocketError.TimedOut, Assert.Throws<SocketException>(() => asking.Receive(new byte[1])).SocketErrorCode);
        Assert.InRange(watch.Elapsed.TotalSeconds, 0, 25);
        Assert.False(silent.Poll(0, SelectMode.SelectRead));
    }

    [TapTheory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_window_that_is_shut_for_seconds_opens_again_and_nothing_is_lost(bool guestReads)
    {
        using Landscape land = new();
        using LinuxGuest guest = Guest(land);
        using Socket listener = land.Peer.Do(() => Listen(AddressFamily.InterNetwork, 16384));
        using Socket ours = guest.Connect(IPAddress.Parse(Landscape.Peer4), Port(listener), 16384);
        using Socket theirs = listener.Accept();
        theirs.ReceiveTimeout = theirs.SendTimeout = 60_000;
        (Socket reader, Socket writer) = guestReads ? (ours, theirs) : (theirs, ours);
        byte[] data = new byte[20_000_000];
        new Random(5).NextBytes(data);
        Task write = Task.Run(() =>
        {
            for (ReadOnlySpan<byte> rest = data; !rest.IsEmpty; rest = rest[writer.Send(rest)..])
            {
            }

            writer.Shutdown(SocketShutdown.Send);
        });
        Thread.Sleep(4000);
        Assert.False(write.IsCompleted);
        byte[] received = new byte[data.Length];
        int count = 0;
        while (reader.Receive(received.AsSpan(count)) is int more and > 0)
        {
            count += more;
        }

        Assert.True(write.Wait(10_000));
        Assert.True(data.AsSpan().SequenceEqual(received));
    }

    [TapFact]
    public void A_crowd_of_connections_whose_readers_are_slow_waits_in_bounds_and_all_bytes_arrive()
    {
        const int Count = 150;
        const int Size = 1_000_000;
        using Landscape land = new();
        using LinuxGuest guest = Guest(land, buffers: 8 << 20, flows: 200);
        using Socket listener = land.Peer.Do(() => Listen(AddressFamily.InterNetwork, 16384));
        List<Socket> ours = [];
        List<Socket> theirs = [];
        byte[] data = new byte[Size];
        new Random(6).NextBytes(data);
        for (int i = 0; i < Count; i++)
        {
            ours.Add(guest.Connect(IPAddress.Parse(Landscape.Peer4), Port(listener)));
            theirs.Add(listener.Accept());
            theirs[i].ReceiveTimeout = 60_000;
        }

        Task[] writes = [.. ours.Select(socket => Task.Factory.StartNew(
            () =>
            {
                for (ReadOnlySpan<byte> rest = data; !rest.IsEmpty; rest = rest[socket.Send(rest)..])
                {
                }

                socket.Shutdown(SocketShutdown.Send);
            },
            TaskCreationOptions.LongRunning))];
        Thread.Sleep(3000);
        Assert.InRange(guest.Network.Tcp.MostBuffered, 1 << 20, 8 << 20);
        Assert.Equal(0, guest.Network.Tcp.Counters.Overflows);

        // What the host's kernel may hold for the guest: fixed buffers for all but the first, which it doubles.
        string sockets = land.Host.Run("ss", "-tmnH", "state", "established", "dst", Landscape.Peer4);
        string size = string.Create(CultureInfo.InvariantCulture, $"rb{2 * ((8 << 20) / 200)},");
        Assert.Equal(Count - 32, sockets.Split("skmem:(").Count(part => part.Contains(size, StringComparison.Ordinal)));
        byte[] received = new byte[Size];
        Stopwatch watch = Stopwatch.StartNew();
        foreach (Socket socket in theirs)
        {
            int count = 0;
            while (socket.Receive(received.AsSpan(count)) is int more and > 0)
            {
                count += more;
            }

            Assert.True(data.AsSpan().SequenceEqual(received));
        }

        Assert.True(Task.WaitAll(writes, 30_000));

        // Nothing was dropped that would have to be sent again after a minute.
        Assert.InRange(watch.Elapsed.TotalSeconds, 0, 60);
        ours.ForEach(socket => socket.Dispose());
        theirs.ForEach(socket => socket.Dispose());
    }

    private static SocketError ErrorOf(Action connect) =>
        Assert.IsType<SocketException>(Assert.Throws<InvalidOperationException>(connect).InnerException).SocketErrorCode;

    private static int Port(Socket socket) => ((IPEndPoint)socket.LocalEndPoint!).Port;

    private static Socket Listen(AddressFamily family, int receiveBuffer = 0)
    {
        Socket socket = new(family, SocketType.Stream, ProtocolType.Tcp);
        if (receiveBuffer > 0)
        {
            socket.ReceiveBufferSize = receiveBuffer;
        }

        socket.Bind(new IPEndPoint(family == AddressFamily.InterNetwork ? IPAddress.Any : IPAddress.IPv6Any, 0));
        socket.Listen(200);
        return socket;
    }

    private static Socket Datagrams(AddressFamily family)
    {
        Socket socket = new(family, SocketType.Dgram, ProtocolType.Udp) { ReceiveTimeout = 10_000 };
        socket.Bind(new IPEndPoint(family == AddressFamily.InterNetwork ? IPAddress.Any : IPAddress.IPv6Any, 0));
        return socket;
    }

    private LinuxGuest Guest(Landscape land, Ip6Mode mode = Ip6Mode.On, long buffers = 64 << 20, int? flows = null) =>
        land.Host.Do(() => new LinuxGuest(new NetworkSpec { Ip6 = mode, BufferBytes = buffers, Flows = flows }, _resolvers));
}
