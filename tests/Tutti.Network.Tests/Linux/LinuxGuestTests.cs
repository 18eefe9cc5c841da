using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Tutti.Network.Tests.Tap;

namespace Tutti.Network.Tests.Linux;

/// <summary>Linux's own TCP and UDP as the guest, the host's as the peer: what both of them know of networks is held against ours in between.</summary>
public sealed class LinuxGuestTests
{
    private static readonly IPAddress Gateway = IPAddress.Parse("10.0.2.2");
    private static readonly IPAddress Gateway6 = IPAddress.Parse("fec0::2");

    [TapTheory]
    [InlineData(false, 0, false)]
    [InlineData(true, 0, false)]
    [InlineData(true, 0, true)]
    [InlineData(true, 0.05, false)]
    [InlineData(false, 0.01, true)]
    [InlineData(true, 0.03, true)]
    [InlineData(false, 0.05, true)]
    public void Streams_of_both_directions_arrive_whole_over_a_wire_that_loses(bool isVersion6, double loss, bool isPlain)
    {
        using LinuxGuest guest = new(isPlain: isPlain);
        using Pair pair = new(guest, isVersion6);
        guest.Loss = loss;
        byte[] data = Data(loss > 0 ? 4_000_000 : 30_000_000);
        Stopwatch watch = Stopwatch.StartNew();
        Task<byte[]> atHost = Task.Run(() => ReceiveAll(pair.Host));
        Task<byte[]> atGuest = Task.Run(() => ReceiveAll(pair.Guest));
        Task fromGuest = Task.Run(() => SendAll(pair.Guest, data));
        Task fromHost = Task.Run(() => SendAll(pair.Host, data));
        Assert.True(Task.WaitAll([atHost, atGuest, fromGuest, fromHost], TimeSpan.FromSeconds(40)));
        Assert.True(data.AsSpan().SequenceEqual(atHost.Result));
        Assert.True(data.AsSpan().SequenceEqual(atGuest.Result));
        Assert.Equal(loss > 0, guest.Lost > 0);
        Console.WriteLine($"IPv{(isVersion6 ? 6 : 4)}, frames {(isPlain ? "cut" : "whole")}, {loss:P0} lost ({guest.Lost} of {guest.Frames} frames): {2 * data.Length / 1e6 / watch.Elapsed.TotalSeconds:F1} MB/s both ways together");
    }

    [TapFact]
    public void Bytes_of_both_directions_allocate_nothing()
    {
        using LinuxGuest guest = new();
        using Pair pair = new(guest, false);
        byte[] data = Data(4_000_000);

        // Rounds make what is kept, the first ones above all: compiled code, and chunks where the host's socket was slower than ever before.
        long spent = long.MaxValue;
        for (int round = 0; round < 6; round++)
        {
            long before = guest.AllocatedBytes;
            Task<int> atHost = Task.Run(() => Receive(pair.Host, data.Length));
            Task<int> atGuest = Task.Run(() => Receive(pair.Guest, data.Length));
            Task fromGuest = Task.Run(() => SendAll(pair.Guest, data, false));
            SendAll(pair.Host, data, false);
            Assert.True(Task.WaitAll([atHost, atGuest, fromGuest], TimeSpan.FromSeconds(40)));
            spent = Math.Min(spent, guest.AllocatedBytes - before);
        }

        // Hundreds of frames; one allocation for each would be ten thousands of bytes.
        Assert.InRange(spent, 0, 1000);
    }

    [TapTheory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_direction_that_has_ended_leaves_the_other_open(bool guestEndsFirst)
    {
        using LinuxGuest guest = new();
        using Pair pair = new(guest, false);
        (Socket first, Socket second) = guestEndsFirst ? (pair.Guest, pair.Host) : (pair.Host, pair.Guest);
        first.Send("question"u8);
        first.Shutdown(SocketShutdown.Send);
        Assert.Equal("question"u8.ToArray(), ReceiveAll(second));

        // Half closed for a while, the other direction works: more than any buffer holds.
        Thread.Sleep(1500);
        byte[] answer = Data(8_000_000);
        Task<byte[]> received = Task.Run(() => ReceiveAll(first));
        SendAll(second, answer);
        Assert.True(received.Wait(TimeSpan.FromSeconds(60)));
        Assert.True(answer.AsSpan().SequenceEqual(received.Result));
    }

    [TapTheory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_slow_reader_holds_the_sender_back_and_gets_all(bool guestReads)
    {
        using LinuxGuest guest = new();
        using Pair pair = new(guest, false, 32768);
        (Socket reader, Socket writer) = guestReads ? (pair.Guest, pair.Host) : (pair.Host, pair.Guest);
        byte[] data = Data(24_000_000);
        long sent = 0;
        Task write = Task.Run(() =>
        {
            for (int at = 0; at < data.Length; at += 100_000)
            {
                SendAll(writer, data.AsSpan(at, Math.Min(100_000, data.Length - at)), false);
                Volatile.Write(ref sent, at);
            }

            writer.Shutdown(SocketShutdown.Send);
        });
        byte[] received = new byte[data.Length];
        int count = 0;
        for (int round = 0; round < 3; round++)
        {
            // Shut windows, seconds long: each is probed and opens again.
            Thread.Sleep(700);
            Assert.InRange(Volatile.Read(ref sent), 1, data.Length - 4_000_000);
            for (int i = 0; i < 20; i++)
            {
                count += reader.Receive(received.AsSpan(count, 100_000));
            }
        }

        while (count < data.Length && reader.Receive(received.AsSpan(count)) is int more and > 0)
        {
            count += more;
        }

        Assert.True(write.Wait(TimeSpan.FromSeconds(20)));
        Assert.Equal(data.Length, count);
        Assert.True(data.AsSpan().SequenceEqual(received));
    }

    [TapFact]
    public void Datagrams_reach_the_hosts_loopback_by_both_versions_and_come_back()
    {
        using LinuxGuest guest = new();
        guest.WaitForIp6();
        foreach ((IPAddress local, IPAddress gateway, IPAddress any) in new[] { (IPAddress.Loopback, Gateway, IPAddress.Any), (IPAddress.IPv6Loopback, Gateway6, IPAddress.IPv6Any) })
        {
            using Socket peer = new(local.AddressFamily, SocketType.Dgram, ProtocolType.Udp) { ReceiveTimeout = 20_000 };
            peer.Bind(new IPEndPoint(local, 0));
            using Socket ours = guest.Datagrams(any, 0);
            byte[] question = Data(5000);
            ours.SendTo(question, new IPEndPoint(gateway, ((IPEndPoint)peer.LocalEndPoint!).Port));
            byte[] room = new byte[10_000];
            EndPoint from = new IPEndPoint(any, 0);
            Assert.Equal(5000, peer.ReceiveFrom(room, ref from));
            Assert.Equal(question, room[..5000]);
            peer.SendTo(Data(7000), from);
            Assert.Equal(7000, ours.ReceiveFrom(room, ref from));
            Assert.Equal(Data(7000), room[..7000]);
            Assert.Equal(gateway, ((IPEndPoint)from).Address);
        }
    }

    [TapFact]
    public void Published_ports_lead_to_the_guest()
    {
        using Socket freeTcp = Listen(IPAddress.Loopback, out int tcp);
        using Socket freeUdp = new(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
        freeUdp.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        int udp = ((IPEndPoint)freeUdp.LocalEndPoint!).Port;
        freeTcp.Dispose();
        freeUdp.Dispose();
        using LinuxGuest guest = new(new NetworkSpec { Ip6 = Ip6Mode.Off, Published = [.. PublishRule.Parse($"{tcp}:80"), .. PublishRule.Parse($"{udp}:53/udp")] });
        using Socket listener = guest.Space.Do(() => Listen(IPAddress.Any, out _, 80));
        using Socket ours = guest.Datagrams(IPAddress.Any, 53);

        byte[] room = new byte[2000];
        for (int caller = 0; caller < 5; caller++)
        {
            using Socket theirs = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { ReceiveTimeout = 20_000 };
            theirs.Connect(IPAddress.Loopback, tcp);
            using Socket accepted = listener.Accept();
            Assert.Equal(Gateway, ((IPEndPoint)accepted.RemoteEndPoint!).Address);
            byte[] data = Data(3_000_000);
            Task<byte[]> received = Task.Run(() => ReceiveAll(theirs));
            SendAll(accepted, data);
            Assert.True(received.Wait(TimeSpan.FromSeconds(20)));
            Assert.True(data.AsSpan().SequenceEqual(received.Result));

            using Socket asking = new(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp) { ReceiveTimeout = 20_000 };
            asking.Connect(IPAddress.Loopback, udp);
            asking.Send([(byte)caller, 1, 2, 3]);
            EndPoint from = new IPEndPoint(IPAddress.Any, 0);
            Assert.Equal(4, ours.ReceiveFrom(room, ref from));
            ours.SendTo([room[0], 9], from);
            Assert.Equal(2, asking.Receive(room));
            Assert.Equal([(byte)caller, (byte)9], room[..2]);
        }
    }

    [TapFact]
    public void A_refused_port_and_a_host_that_is_refused_are_told_at_once()
    {
        using LinuxGuest guest = new(new NetworkSpec { Ip6 = Ip6Mode.Off });
        Stopwatch watch = Stopwatch.StartNew();
        Exception refusal = Assert.Throws<InvalidOperationException>(() => guest.Connect(Gateway, 9)).InnerException!;
        Assert.Equal(SocketError.ConnectionRefused, Assert.IsType<SocketException>(refusal).SocketErrorCode);
        Assert.InRange(watch.Elapsed.TotalSeconds, 0, 5);
    }

    [TapFact]
    public void Echo_is_answered_by_gateway_and_resolver()
    {
        using LinuxGuest guest = new();
        guest.WaitForIp6();
        foreach (string address in new[] { "10.0.2.2", "10.0.2.3", "fec0::2", "fec0::3" })
        {
            Assert.Equal(2000, guest.Space.Do(() =>
            {
                using System.Net.NetworkInformation.Ping ping = new();
                return ping.Send(address, 5000, Data(2000)).Buffer.Length;
            }));
        }
    }

    private static byte[] Data(int length)
    {
        byte[] data = new byte[length];
        new Random(length).NextBytes(data);
        return data;
    }

    private static Socket Listen(IPAddress address, out int port, int at = 0, int receiveBuffer = 0)
    {
        Socket socket = new(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        if (receiveBuffer > 0)
        {
            socket.ReceiveBufferSize = receiveBuffer;
        }

        socket.Bind(new IPEndPoint(address, at));
        socket.Listen(4096);
        port = ((IPEndPoint)socket.LocalEndPoint!).Port;
        return socket;
    }

    private static byte[] ReceiveAll(Socket socket)
    {
        using MemoryStream all = new();
        byte[] room = new byte[65536];
        while (socket.Receive(room) is int count and > 0)
        {
            all.Write(room, 0, count);
        }

        return all.ToArray();
    }

    private static int Receive(Socket socket, int wanted)
    {
        byte[] room = new byte[65536];
        int received = 0;
        while (received < wanted && socket.Receive(room.AsSpan(0, Math.Min(room.Length, wanted - received))) is int count and > 0)
        {
            received += count;
        }

        return received;
    }

    private static void SendAll(Socket socket, ReadOnlySpan<byte> data, bool ends = true)
    {
        while (!data.IsEmpty)
        {
            data = data[socket.Send(data)..];
        }

        if (ends)
        {
            socket.Shutdown(SocketShutdown.Send);
        }
    }

    /// <summary>What Linux does with a connection that its program has closed and the peer has not: it forgets it, after a minute where nothing else is said.</summary>
    [TapFact]
    public void A_connection_that_the_guest_has_closed_and_its_peer_never_does_ends()
    {
        using LinuxGuest guest = new();
        guest.Space.Run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/tcp_fin_timeout");
        guest.Network.Loop.Run(() => guest.Network.Tcp.SweepNanoseconds = 700_000_000);
        using Pair pair = new(guest, false);
        pair.Guest.Send("last words"u8);
        Assert.Equal(1, guest.Network.Tcp.Counters.Connections);
        pair.Guest.Dispose();
        Assert.True(SpinWait.SpinUntil(() => guest.Network.Tcp.Counters.Connections == 0, TimeSpan.FromSeconds(20)));
        byte[] room = new byte[20];
        Assert.Equal(10, pair.Host.Receive(room));
        Assert.Equal(0, pair.Host.Receive(room));
    }

    /// <summary>Both ends of a connection from the guest to the host.</summary>
    private sealed class Pair : IDisposable
    {
        public Pair(LinuxGuest guest, bool isVersion6, int receiveBuffer = 0)
        {
            if (isVersion6)
            {
                guest.WaitForIp6();
            }

            using Socket listener = Listen(isVersion6 ? IPAddress.IPv6Loopback : IPAddress.Loopback, out int port, 0, receiveBuffer);
            Guest = guest.Connect(isVersion6 ? Gateway6 : Gateway, port, receiveBuffer);
            Host = listener.Accept();
            Host.ReceiveTimeout = Host.SendTimeout = 60_000;
        }

        public Socket Guest { get; }

        public Socket Host { get; }

        public void Dispose()
        {
            Guest.Dispose();
            Host.Dispose();
        }
    }
}
