using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using Tutti.Host;
using Tutti.Network.Ip;

namespace Tutti.Network.Tests;

/// <summary>What a guest gets of a user network, byte by byte; peers are real sockets on the host's loopback, opened by the policy.</summary>
public sealed class UserNetworkTests
{
    private static readonly NetworkSpec Open = new() { IsHostAllowed = true, Ip6 = Ip6Mode.On };

    [Fact]
    public void Arp_answers_for_the_gateway_and_the_resolver_only()
    {
        using TestGuest guest = new(Open);
        guest.Send(Arp(0x0A00_0209));
        guest.Send(Arp(TestGuest.Host));
        byte[] answer = guest.Take(frame => frame[13] == 6);
        Assert.Equal("0001080006040002" + "52550A0002020A000202" + "5254001234560A00020F", Convert.ToHexString(answer.AsSpan(14, 28)));
        Assert.Null(guest.TryTake());
    }

    [Fact]
    public void Dhcp_leases_address_15_with_router_resolver_and_mask()
    {
        using TestGuest guest = new(Open);
        guest.Send(TestGuest.Udp(uint.MaxValue, 68, 67, Dhcp(1), 0));
        byte[] offer = guest.Take(frame => frame.Length > 282);
        Assert.Equal(2, offer[14 + 28]);
        Assert.Equal("0A00020F", Convert.ToHexString(offer.AsSpan(14 + 28 + 16, 4)));
        string options = Convert.ToHexString(offer.AsSpan(14 + 28 + 236));
        Assert.StartsWith("63825363350102" + "36040A000202", options);
        Assert.Contains("0104FFFFFF00", options);
        Assert.Contains("03040A000202", options);
        Assert.Contains("06040A000203", options);
        guest.Send(TestGuest.Udp(uint.MaxValue, 68, 67, Dhcp(3, 50, 4, 10, 0, 2, 15), 0));
        Assert.Equal(5, guest.Take(frame => frame.Length > 282)[14 + 28 + 242]);
        guest.Send(TestGuest.Udp(uint.MaxValue, 68, 67, Dhcp(3, 50, 4, 10, 0, 2, 99), 0));
        Assert.Equal(6, guest.Take(frame => frame.Length > 282)[14 + 28 + 242]);
    }

    [Fact]
    public void A_router_solicitation_is_answered_with_prefix_and_resolver()
    {
        using TestGuest guest = new(Open);
        byte[] solicitation = [133, 0, 0, 0, 0, 0, 0, 0];
        guest.Send(TestGuest.Ip6(new UInt128(0xFE80_0000_0000_0000, 0x99), new UInt128(0xFF02_0000_0000_0000, 2), 58, solicitation, 2, 255));
        byte[] answer = guest.Take(frame => frame[54] == 134);
        Assert.Equal(255, answer[21]);
        Assert.Equal("FEC00000000000000000000000000000", Convert.ToHexString(answer.AsSpan(54 + 48, 16)));
        Assert.Equal("FEC00000000000000000000000000003", Convert.ToHexString(answer.AsSpan(54 + 72, 16)));
        byte[] summed = [.. answer.AsSpan(22, 32), 0, 0, 0, 88, 0, 0, 0, 58, .. answer.AsSpan(54, 88)];
        Assert.Equal(0, TestGuest.Sum(summed));
    }

    [Fact]
    public void The_gateway_answers_echo()
    {
        using TestGuest guest = new(Open);
        byte[] echo = [8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7];
        BinaryPrimitives.WriteUInt16BigEndian(echo.AsSpan(2), TestGuest.Sum(echo));
        guest.Send(TestGuest.Ip4(TestGuest.Address, TestGuest.Host, 1, echo));
        byte[] answer = guest.Take(frame => frame[23] == 1);
        Assert.Equal(0, answer[34]);
        Assert.Equal(0, TestGuest.Sum(answer.AsSpan(34)));
        Assert.Equal(echo[4..], answer[38..]);
    }

    [Fact]
    public void Udp_goes_to_a_socket_and_its_answer_comes_back_in_fragments_where_it_is_large()
    {
        using TestGuest guest = new(Open);
        using Socket peer = Peer(out ushort port);
        guest.Send(TestGuest.Udp(TestGuest.Host, 4000, port, "question"u8));
        byte[] room = new byte[100];
        EndPoint from = new IPEndPoint(IPAddress.Any, 0);
        Assert.Equal(8, peer.ReceiveFrom(room, ref from));
        byte[] large = [.. Enumerable.Range(0, 4000).Select(i => (byte)(i * 7))];
        peer.SendTo(large, from);
        List<byte> whole = [];
        while (whole.Count < 4008)
        {
            byte[] frame = guest.Take(frame => frame[23] == 17);
            Assert.True(frame.Length <= 1514);
            Assert.Equal(whole.Count, (BinaryPrimitives.ReadUInt16BigEndian(frame.AsSpan(20)) & 0x1FFF) * 8);
            whole.AddRange(frame.AsSpan(34));
        }

        Assert.Equal(large, whole.Skip(8));
        byte[] summed = [10, 0, 2, 2, 10, 0, 2, 15, 0, 17, whole[4], whole[5], .. whole];
        Assert.Equal(0, TestGuest.Sum(summed));
    }

    [Fact]
    public void Fragments_of_the_guest_are_put_together_in_any_order()
    {
        using TestGuest guest = new(Open);
        using Socket peer = Peer(out ushort port);
        byte[] data = [.. Enumerable.Range(0, 3000).Select(i => (byte)i)];
        byte[] udp = TestGuest.UdpDatagram(4001, port, data);
        guest.Send(TestGuest.Ip4(TestGuest.Address, TestGuest.Host, 17, udp.AsSpan(1600), 200));
        guest.Send(TestGuest.Ip4(TestGuest.Address, TestGuest.Host, 17, udp.AsSpan(0, 1600), 0x2000));
        byte[] room = new byte[4000];
        Assert.Equal(3000, peer.Receive(room));
        Assert.Equal(data, room[..3000]);
    }

    [Theory]
    [InlineData(0x0A00_0202u)]
    [InlineData(0xA9FE_A9FEu)]
    public void The_hosts_services_and_the_clouds_metadata_are_refused_by_default(uint destination)
    {
        using TestGuest guest = new(new NetworkSpec());
        using Socket peer = Peer(out ushort port);
        guest.Send(TestGuest.Udp(destination, 4002, port, "x"u8));
        byte[] error = guest.Take(frame => frame[23] == 1);
        Assert.Equal((3, 13), (error[34], error[35]));
        Assert.Equal(0, peer.Available);
    }

    [Fact]
    public void A_spoofed_source_is_dropped()
    {
        using TestGuest guest = new(Open);
        using Socket peer = Peer(out ushort port);
        guest.Send(TestGuest.Udp(TestGuest.Host, 4003, port, "x"u8, 0x0808_0808));
        Assert.Equal(0, guest.Network.Udp.FlowCount);
    }

    [Fact]
    public void The_resolver_asks_the_hosts_and_fails_when_none_answers()
    {
        // A loopback address where nothing listens refuses at once.
        string file = Path.GetTempFileName();
        File.WriteAllText(file, "nameserver 127.1.2.3\n");
        try
        {
            using TestGuest guest = new(Open, file);
            byte[] query = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, (byte)'a', 0, 0, 1, 0, 1];
            guest.Send(TestGuest.Udp(0x0A00_0203, 5000, 53, query));
            byte[] answer = guest.Take(frame => frame[23] == 17);
            Assert.Equal("12348182", Convert.ToHexString(answer.AsSpan(42, 4)));
        }
        finally
        {
            File.Delete(file);
        }
    }

    [Fact]
    public void A_published_udp_port_reaches_the_guest_and_its_answer_the_caller()
    {
        using Socket free = Peer(out ushort port);
        free.Dispose();
        using TestGuest guest = new(Open with { Published = PublishRule.Parse($"{port}:7000/udp") });
        using Socket caller = Peer(out _);
        caller.SendTo("hello"u8, new IPEndPoint(IPAddress.Loopback, port));
        byte[] frame = guest.Take(frame => frame[23] == 17);
        Assert.Equal("hello"u8, frame.AsSpan(42));
        Assert.Equal(7000, BinaryPrimitives.ReadUInt16BigEndian(frame.AsSpan(36)));
        guest.Send(TestGuest.Udp(TestGuest.Host, 7000, BinaryPrimitives.ReadUInt16BigEndian(frame.AsSpan(34)), "world"u8));
        byte[] room = new byte[10];
        Assert.Equal(5, caller.Receive(room));
        Assert.Equal("world"u8, room.AsSpan(0, 5));
    }

    [Fact]
    public void A_port_that_is_taken_is_one_clear_line()
    {
        using Socket peer = Peer(out ushort port);
        NetworkException e = Assert.Throws<NetworkException>(() => new UserNetwork(new NetworkSpec { Published = PublishRule.Parse($"{port}:7/udp") }, _ => { }));
        Assert.Equal($"Can't publish 127.0.0.1:{port}/udp: the port is taken. Stop what listens there, or choose another port.", e.Message);
    }

    [Fact]
    public void A_packet_of_the_guest_in_a_known_flow_allocates_nothing()
    {
        using TestGuest guest = new(Open) { IsCounting = true };
        using Socket peer = Peer(out ushort port);
        byte[] frame = TestGuest.Udp(TestGuest.Host, 4004, port, new byte[100]);
        guest.Send(frame);
        long spent = -1;
        guest.Network.Loop.Run(() =>
        {
            for (int i = 0; i < 200; i++)
            {
                guest.Network.Send(frame, default);
            }

            long before = GC.GetAllocatedBytesForCurrentThread();
            for (int i = 0; i < 200; i++)
            {
                guest.Network.Send(frame, default);
            }

            spent = GC.GetAllocatedBytesForCurrentThread() - before;
        });
        Assert.Equal(0, spent);
    }

    [Fact]
    public void A_capture_has_tcpdumps_header_and_the_frames()
    {
        string file = Path.GetTempFileName();
        try
        {
            byte[] frame = Arp(TestGuest.Host);
            using (TestGuest guest = new(Open with { CaptureFile = file }))
            {
                guest.Send(frame);
            }

            byte[] bytes = File.ReadAllBytes(file);
            Assert.Equal("D4C3B2A1020004000000000000000000" + "0000040001000000", Convert.ToHexString(bytes.AsSpan(0, 24)));
            Assert.Equal(frame, bytes[40..(40 + frame.Length)]);
            Assert.Equal(24 + (2 * (16 + 42)), bytes.Length);
        }
        finally
        {
            File.Delete(file);
        }
    }

    private static Socket Peer(out ushort port)
    {
        Socket socket = new(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp) { ReceiveTimeout = 20000 };
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        port = (ushort)((IPEndPoint)socket.LocalEndPoint!).Port;
        return socket;
    }

    private static byte[] Arp(uint target)
    {
        byte[] arp = Convert.FromHexString("00010800060400015254001234560A00020F00000000000000000000");
        BinaryPrimitives.WriteUInt32BigEndian(arp.AsSpan(24), target);
        return TestGuest.Ethernet(FrameFormat.TypeArp, arp, FrameFormat.BroadcastMac);
    }

    private static byte[] Dhcp(byte type, params byte[] more)
    {
        byte[] message = new byte[300];
        message[0] = 1;
        message[1] = 1;
        message[2] = 6;
        FrameFormat.WriteMac(message.AsSpan(28), TestGuest.Mac);
        byte[] options = [0x63, 0x82, 0x53, 0x63, 53, 1, type, .. more, 255];
        options.CopyTo(message, 236);
        return message;
    }
}
