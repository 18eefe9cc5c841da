using System.Buffers.Binary;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Tutti.Devices.Network;
using Tutti.Network.Tests.Tap;

namespace Tutti.Network.Tests.Linux;

/// <summary>What users of other user networks have reported, played again here. Each names its report.</summary>
public sealed class ReportedElsewhereTests
{
    private static readonly IPAddress Gateway = IPAddress.Parse("10.0.2.2");

    /// <summary>rootless-containers/slirp4netns issue 227: a datagram without bytes keeps a processor busy for ever.</summary>
    [TapFact]
    public void Datagrams_without_bytes_pass_and_end_no_loop()
    {
        using Socket free = Datagrams();
        int published = Port(free);
        free.Dispose();
        using LinuxGuest guest = new(new NetworkSpec { IsHostAllowed = true, Ip6 = Ip6Mode.Off, Published = PublishRule.Parse($"{published}:5353/udp") });
        using Socket ours = guest.Datagrams(IPAddress.Any, 5353);
        using Socket peer = Datagrams();
        byte[] room = new byte[10];
        EndPoint from = new IPEndPoint(IPAddress.Any, 0);
        ours.SendTo([], new IPEndPoint(Gateway, Port(peer)));
        Assert.Equal(0, peer.ReceiveFrom(room, ref from));
        peer.SendTo([], from);
        Assert.Equal(0, ours.ReceiveFrom(room, ref from));
        peer.SendTo([], new IPEndPoint(IPAddress.Loopback, published));
        Assert.Equal(0, ours.ReceiveFrom(room, ref from));
        ours.SendTo([], from);
        Assert.Equal(0, peer.Receive(room));
        long before = LoopTicks(guest);
        Thread.Sleep(1000);
        Assert.InRange(LoopTicks(guest) - before, 0, 20);
    }

    /// <summary>containers/gvisor-tap-vsock issue 127: after a health check's SYN, SYN and ACK, RST every other connection fails.</summary>
    [Fact]
    public void A_port_that_resets_instead_of_finishing_its_handshake_may_come_again_at_once()
    {
        using TestGuest guest = new(new NetworkSpec { IsHostAllowed = true, Ip6 = Ip6Mode.Off });
        using Socket listener = Listen();
        byte[] tcp = new byte[20];
        for (uint i = 0; i < 20; i++)
        {
            Fill(tcp, 1000 * i, 2);
            guest.Send(TestGuest.Ip4(TestGuest.Address, TestGuest.Host, 6, tcp), new PacketOffload(NeedsChecksum: true));
            byte[] answer = guest.Take(frame => frame[23] == 6);
            Assert.Equal((0x12, (1000 * i) + 1), (answer[47], BinaryPrimitives.ReadUInt32BigEndian(answer.AsSpan(42))));
            Fill(tcp, (1000 * i) + 1, 4);
            guest.Send(TestGuest.Ip4(TestGuest.Address, TestGuest.Host, 6, tcp), new PacketOffload(NeedsChecksum: true));
        }

        Assert.Equal(0, guest.Network.Tcp.Counters.Connections);

        void Fill(Span<byte> segment, uint sequence, byte flags)
        {
            BinaryPrimitives.WriteUInt16BigEndian(segment, 2020);
            BinaryPrimitives.WriteUInt16BigEndian(segment[2..], (ushort)Port(listener));
            BinaryPrimitives.WriteUInt32BigEndian(segment[4..], sequence);
            (segment[12], segment[13], segment[14]) = (0x50, flags, 0x10);
        }
    }

    /// <summary>containers/gvisor-tap-vsock pull request 393 (lima-vm/lima issue 2585): what a port sends after its flow has ended is lost; and issue 622: flows without bound.</summary>
    [TapFact]
    public void A_port_whose_flow_has_gone_gets_answers_again()
    {
        using LinuxGuest guest = new(new NetworkSpec { IsHostAllowed = true, Ip6 = Ip6Mode.Off, Flows = 16 });
        using Socket peer = Datagrams();
        using Socket first = guest.Datagrams(IPAddress.Any, 40001);
        byte[] room = new byte[10];
        EndPoint from = new IPEndPoint(IPAddress.Any, 0);
        for (int round = 0; round < 3; round++)
        {
            first.SendTo("question"u8, new IPEndPoint(Gateway, Port(peer)));
            Assert.Equal(8, peer.ReceiveFrom(room, ref from));
            peer.SendTo("answer"u8, from);
            Assert.Equal(6, first.Receive(room));
            for (int other = 0; other < 20; other++)
            {
                using Socket socket = guest.Datagrams(IPAddress.Any, 0);
                socket.SendTo("x"u8, new IPEndPoint(Gateway, Port(peer)));
                Assert.Equal(1, peer.Receive(room));
            }

            Assert.Equal(4, guest.Network.Udp.FlowCount);
        }
    }

    /// <summary>lima-vm/lima pull request 3724: the guest's answers by a published UDP port go to another client.</summary>
    [TapFact]
    public void Callers_of_a_published_UDP_port_get_their_own_answers()
    {
        using Socket free = Datagrams();
        int published = Port(free);
        free.Dispose();
        using LinuxGuest guest = new(new NetworkSpec { Ip6 = Ip6Mode.Off, Published = PublishRule.Parse($"{published}:53/udp") });
        using Socket ours = guest.Datagrams(IPAddress.Any, 53);
        Socket[] callers = [.. Enumerable.Range(0, 20).Select(_ => Datagrams())];
        List<(byte Number, EndPoint From)> asked = [];
        byte[] room = new byte[10];
        for (byte i = 0; i < callers.Length; i++)
        {
            callers[i].SendTo([i], new IPEndPoint(IPAddress.Loopback, published));
            EndPoint from = new IPEndPoint(IPAddress.Any, 0);
            Assert.Equal(1, ours.ReceiveFrom(room, ref from));
            asked.Add((room[0], from));
        }

        asked.Reverse();
        asked.ForEach(one => ours.SendTo([one.Number, 1], one.From));
        for (byte i = 0; i < callers.Length; i++)
        {
            Assert.Equal(2, callers[i].Receive(room));
            Assert.Equal(i, room[0]);
            callers[i].Dispose();
        }
    }

    /// <summary>lima-vm/lima issue 3101: names fail after the host has changed its servers, as a VPN does.</summary>
    [TapFact]
    public void Servers_that_the_host_gets_later_are_asked()
    {
        string file = Path.GetTempFileName();
        try
        {
            using TestResolver second = new("127.53.53.59");
            File.WriteAllText(file, "options timeout:1 attempts:1\nnameserver 127.53.53.58\n");
            using LinuxGuest guest = new(new NetworkSpec { Ip6 = Ip6Mode.Off }, file);
            Assert.Contains("SERVFAIL", guest.Space.Run("dig", "@10.0.2.3", "+tries=1", "one.example"), StringComparison.Ordinal);
            File.WriteAllText(file, "nameserver 127.53.53.59\n");
            Thread.Sleep(2100);
            Assert.Contains(TestResolver.Answered, guest.Space.Run("dig", "@10.0.2.3", "+tries=1", "one.example"), StringComparison.Ordinal);
        }
        finally
        {
            File.Delete(file);
        }
    }

    /// <summary>firecracker-microvm/firecracker issue 3905: frames are larger than the driver has said that it takes.</summary>
    [TapFact]
    public void A_driver_that_takes_no_large_frames_gets_none()
    {
        using LinuxGuest guest = new(isPlain: true);
        using Socket listener = Listen();
        using Socket ours = guest.Connect(Gateway, Port(listener));
        using Socket theirs = listener.Accept();
        byte[] data = new byte[2_000_000];
        Task write = Task.Run(() => theirs.Send(data));
        for (int left = data.Length; left > 0;)
        {
            left -= ours.Receive(data);
        }

        Assert.True(write.Wait(10_000));
        Assert.InRange(guest.Largest, 1000, 1514);
    }

    /// <summary>rootless-containers/slirp4netns issue 128: with an MTU near 64 KiB connections stall.</summary>
    [TapTheory]
    [InlineData(65520)]
    [InlineData(49192)]
    [InlineData(1280)]
    public void Streams_flow_both_ways_at_the_ends_of_what_an_MTU_may_be(int mtu)
    {
        using LinuxGuest guest = new(new NetworkSpec { IsHostAllowed = true, Ip6 = Ip6Mode.On, Mtu = mtu }, mtu: mtu);
        using Socket listener = Listen();
        using Socket ours = guest.Connect(Gateway, Port(listener));
        using Socket theirs = listener.Accept();
        byte[] data = new byte[30_000_000];
        new Random(mtu).NextBytes(data);
        Stopwatch watch = Stopwatch.StartNew();
        foreach ((Socket writer, Socket reader) in new[] { (ours, theirs), (theirs, ours) })
        {
            Task write = Task.Run(() =>
            {
                for (ReadOnlySpan<byte> rest = data; !rest.IsEmpty; rest = rest[writer.Send(rest)..])
                {
                }
            });
            byte[] received = new byte[data.Length];
            for (int count = 0; count < data.Length;)
            {
                count += reader.Receive(received.AsSpan(count));
            }

            Assert.True(write.Wait(10_000));
            Assert.True(data.AsSpan().SequenceEqual(received));
        }

        // A busy host takes some seconds.
        Assert.InRange(watch.Elapsed.TotalSeconds, 0, 30);
    }

    /// <summary>Of the same kind: a segment that can't be full waits for the acknowledgment of the one before.</summary>
    [Theory]
    [InlineData(65520)]
    [InlineData(9000)]
    public void More_than_one_segment_is_under_way_at_any_MTU(int mtu)
    {
        const int Step = 4_000_000;
        using TestGuest guest = new(new NetworkSpec { IsHostAllowed = true, Ip6 = Ip6Mode.Off, Mtu = mtu });
        using Socket listener = Listen();
        byte[] syn = new byte[28];
        BinaryPrimitives.WriteUInt16BigEndian(syn, 3030);
        BinaryPrimitives.WriteUInt16BigEndian(syn.AsSpan(2), (ushort)Port(listener));
        (syn[12], syn[13], syn[14], syn[15]) = (0x70, 2, 0xFF, 0xFF);
        (syn[20], syn[21], syn[24], syn[25], syn[26], syn[27]) = (2, 4, 1, 3, 3, 7);
        BinaryPrimitives.WriteUInt16BigEndian(syn.AsSpan(22), (ushort)(mtu - 40));
        guest.Send(TestGuest.Ip4(TestGuest.Address, TestGuest.Host, 6, syn), new PacketOffload(NeedsChecksum: true));
        byte[] answer = guest.Take(frame => frame[23] == 6);
        byte[] ack = syn[..20];
        BinaryPrimitives.WriteUInt32BigEndian(ack.AsSpan(4), 1);
        BinaryPrimitives.WriteUInt32BigEndian(ack.AsSpan(8), BinaryPrimitives.ReadUInt32BigEndian(answer.AsSpan(38)) + 1);
        (ack[12], ack[13]) = (0x50, 0x10);
        guest.Send(TestGuest.Ip4(TestGuest.Address, TestGuest.Host, 6, ack), new PacketOffload(NeedsChecksum: true));
        using Socket theirs = listener.Accept();
        Task write = Task.Run(() => theirs.Send(new byte[10 * Step]));
        static bool IsData(byte[] frame) => frame[23] == 6 && frame.Length > 54 && (frame[47] & 2) == 0;
        static uint Sequence(byte[] frame) => BinaryPrimitives.ReadUInt32BigEndian(frame.AsSpan(38));

        // The host's kernel makes its buffer larger as it measures how fast it is emptied, now sooner, now later. So the guest takes some, then
        // nothing for a while, until there are so many on their way.
        HashSet<uint> sequences = [];
        long taken = 0;
        for (int goal = Step; sequences.Count < 4; goal += Step)
        {
            while (taken < goal)
            {
                byte[] frame = guest.Take(IsData);
                taken += frame.Length - 54;
                BinaryPrimitives.WriteUInt32BigEndian(ack.AsSpan(8), Sequence(frame) + (uint)frame.Length - 54);
                guest.Send(TestGuest.Ip4(TestGuest.Address, TestGuest.Host, 6, ack), new PacketOffload(NeedsChecksum: true));
            }

            sequences.Clear();
            for (Stopwatch watch = Stopwatch.StartNew(); sequences.Count < 4 && watch.ElapsedMilliseconds < 2000;)
            {
                byte[]? frame = guest.TryTake();
                if (frame != null && IsData(frame))
                {
                    sequences.Add(Sequence(frame));
                }

                Thread.Sleep(frame == null ? 1 : 0);
            }
        }

        theirs.Dispose();
        _ = Record.Exception(() => write.Wait(10_000));
    }

    /// <summary>cloudflare/slirpnetstack issue 20: a port at an IPv6 address leads a guest without IPv6 nowhere, and nobody says so.</summary>
    [Fact]
    public void A_port_at_an_IPv6_address_wants_a_guest_with_IPv6()
    {
        NetworkSpec spec = new() { Ip6 = Ip6Mode.Off, Published = PublishRule.Parse("[::1]:5353:53/udp") };
        Assert.Equal(
            "Can't publish [::1]:5353/udp: it leads to the guest's IPv6 address, and the guest has none. Publish at an IPv4 address, or give it one: --net user,ipv6=on.",
            Assert.Throws<NetworkException>(() => new UserNetwork(spec, _ => { })).Message);
    }

    /// <summary>Hundredths of a second that the network's own thread has used: fields 14 and 15 of proc(5)'s stat, the second one in parentheses.</summary>
    private static long LoopTicks(LinuxGuest guest)
    {
        string stat = string.Empty;
        guest.Network.Loop.Run(() => stat = File.ReadAllText("/proc/thread-self/stat"));
        string[] fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
        return long.Parse(fields[11], CultureInfo.InvariantCulture) + long.Parse(fields[12], CultureInfo.InvariantCulture);
    }

    private static int Port(Socket socket) => ((IPEndPoint)socket.LocalEndPoint!).Port;

    private static Socket Datagrams()
    {
        Socket socket = new(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp) { ReceiveTimeout = 10_000 };
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return socket;
    }

    private static Socket Listen()
    {
        Socket socket = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        socket.Listen(100);
        return socket;
    }
}
