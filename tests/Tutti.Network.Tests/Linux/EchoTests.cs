using System.Buffers.Binary;
using Tutti.Network.Services;
using Tutti.Network.Tests.Tap;

namespace Tutti.Network.Tests.Linux;

/// <summary>Ping sockets of a host that is a network namespace of the test's, with addresses of its own that stand for others.</summary>
public sealed class EchoTests
{
    private const uint Other = 0xC000_0201;
    private static readonly UInt128 Other6 = new(0x2001_0DB8_0000_0000, 1);
    private static readonly UInt128 Guest6 = new(0xFEC0_0000_0000_0000, 0x15);

    [TapFact]
    public void Echo_of_others_comes_back_with_the_guests_identifier_and_bytes()
    {
        using NetworkNamespace host = MakeHost("tutti-echo-1", "0 2147483647");
        using TestGuest guest = host.Do(() => new TestGuest(new NetworkSpec { IsHostAllowed = true, Ip6 = Ip6Mode.On }));
        foreach (int size in new[] { 8, 64, 4000 })
        {
            byte[] request = Request(8, 0x1234, (ushort)size, size);
            guest.Send(TestGuest.Ip4(TestGuest.Address, Other, 1, request));
            List<byte> reply = [];
            while (reply.Count < size)
            {
                reply.AddRange(guest.Take(frame => frame[12] == 8 && frame[13] == 0 && frame[23] == 1).AsSpan(34));
            }

            Assert.Equal(0, reply[0]);
            Assert.Equal(0, TestGuest.Sum(reply.ToArray()));
            Assert.Equal(request[4..], reply.Skip(4));
        }

        Assert.Equal(1, guest.Network.Echo.FlowCount);
    }

    [TapFact]
    public void Echo_by_IPv6_comes_back_too()
    {
        using NetworkNamespace host = MakeHost("tutti-echo-2", "0 2147483647");
        using TestGuest guest = host.Do(() => new TestGuest(new NetworkSpec { IsHostAllowed = true, Ip6 = Ip6Mode.On }));
        byte[] request = Request(128, 0x4321, 7, 100);
        guest.Send(TestGuest.Ip6(Guest6, Other6, 58, request, 2));
        byte[] reply = guest.Take(frame => frame[12] == 0x86 && frame[20] == 58 && frame[54] == 129);
        Assert.Equal(request[4..], reply[58..]);
        Assert.Equal(Other6, BinaryPrimitives.ReadUInt128BigEndian(reply.AsSpan(22)));
    }

    [TapFact]
    public void A_host_that_lets_nobody_ping_is_told_as_prohibited()
    {
        using NetworkNamespace host = MakeHost("tutti-echo-3", "1 0");
        using TestGuest guest = host.Do(() => new TestGuest(new NetworkSpec { IsHostAllowed = true }));
        guest.Send(TestGuest.Ip4(TestGuest.Address, Other, 1, Request(8, 1, 1, 64)));
        byte[] error = guest.Take(frame => frame[23] == 1);
        Assert.Equal((3, 13), (error[34], error[35]));
    }

    [TapFact]
    public void The_hosts_own_addresses_are_refused_by_default_and_flows_have_a_bound()
    {
        using NetworkNamespace host = MakeHost("tutti-echo-4", "0 2147483647");
        using (TestGuest refused = host.Do(() => new TestGuest(new NetworkSpec())))
        {
            refused.Send(TestGuest.Ip4(TestGuest.Address, Other, 1, Request(8, 1, 1, 64)));
            byte[] error = refused.Take(frame => frame[23] == 1);
            Assert.Equal((3, 13), (error[34], error[35]));
            Assert.Equal(0, refused.Network.Echo.FlowCount);
        }

        using TestGuest guest = host.Do(() => new TestGuest(new NetworkSpec { IsHostAllowed = true }) { IsCounting = true });
        for (ushort i = 0; i < 500; i++)
        {
            guest.Send(TestGuest.Ip4(TestGuest.Address, Other, 1, Request(8, i, 1, 64)));
        }

        Assert.Equal(EchoNat.MaxFlows, guest.Network.Echo.FlowCount);
    }

    private static NetworkNamespace MakeHost(string name, string groups)
    {
        NetworkNamespace host = new($"{name}-{Environment.ProcessId}");
        host.Run("ip", "link", "set", "lo", "up");
        host.Run("ip", "addr", "add", "192.0.2.1/24", "dev", "lo");
        host.Run("ip", "addr", "add", "2001:db8::1/64", "dev", "lo", "nodad");
        host.Run("sh", "-c", $"echo '{groups}' > /proc/sys/net/ipv4/ping_group_range");
        return host;
    }

    private static byte[] Request(byte type, ushort identifier, ushort sequence, int size)
    {
        byte[] request = new byte[size];
        new Random(size).NextBytes(request);
        request[0] = type;
        request[1] = 0;
        request.AsSpan(2, 2).Clear();
        BinaryPrimitives.WriteUInt16BigEndian(request.AsSpan(4), identifier);
        BinaryPrimitives.WriteUInt16BigEndian(request.AsSpan(6), sequence);
        if (type == 8)
        {
            BinaryPrimitives.WriteUInt16BigEndian(request.AsSpan(2), TestGuest.Sum(request));
        }

        return request;
    }
}
