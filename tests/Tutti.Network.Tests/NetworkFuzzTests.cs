using System.Buffers.Binary;
using System.Diagnostics;
using Tutti.Network.Dns;
using Tutti.Network.Tcp;

namespace Tutti.Network.Tests;

/// <summary>Random and mutated frames: nothing throws, and what the network keeps of them has bounds.</summary>
[Trait("Category", "Fuzz")]
public sealed class NetworkFuzzTests
{
    [Fact]
    public void Random_and_mutated_frames_do_no_harm()
    {
        int seed = Setting("TUTTI_FUZZ_SEED", 1);
        TimeSpan time = TimeSpan.FromSeconds(Setting("TUTTI_FUZZ_SECONDS", 2));
        Random random = new(seed);
        // The host is refused, so that nothing leaves this process but on paths that tests may use.
        using TestGuest guest = new(new NetworkSpec { Ip6 = Ip6Mode.On }, "/nonexistent") { IsCounting = true };
        Stopwatch watch = Stopwatch.StartNew();
        for (int run = 0; watch.Elapsed < time; run++)
        {
            guest.Network.Loop.Run(() =>
            {
                for (int i = 0; i < 200; i++)
                {
                    guest.Network.Send(Frame(random), default);
                }

                guest.Network.EndSend();
                StreamToResolver(guest.Network, random);
            });
            Assert.True(guest.Failures.IsEmpty, $"seed {seed}, run {run}: {guest.Failures.FirstOrDefault()}");
            Assert.InRange(guest.Network.Udp.FlowCount, 0, guest.Network.Udp.MaxFlows);
        }
    }

    [Fact]
    public void Random_and_mutated_DNS_messages_do_no_harm()
    {
        Random random = new(Setting("TUTTI_FUZZ_SEED", 1));
        TimeSpan time = TimeSpan.FromSeconds(Setting("TUTTI_FUZZ_SECONDS", 2));
        Stopwatch watch = Stopwatch.StartNew();
        byte[] room = new byte[DnsMessage.MaxQuery];
        int queries = 0;
        int answers = 0;
        while (watch.Elapsed < time)
        {
            byte[] query = Query(random);
            if (!DnsMessage.IsQuery(query))
            {
                continue;
            }

            queries++;
            _ = DnsMessage.IsTransfer(query);
            int length = DnsMessage.WriteFailure(query, random.Next(16), room);
            Assert.True(DnsMessage.IsAnswer(room.AsSpan(0, length), query, BinaryPrimitives.ReadUInt16BigEndian(query)));
            room[random.Next(length)] ^= (byte)random.Next(256);
            ReadOnlySpan<byte> answer = room.AsSpan(0, random.Next(length + 1));
            if (DnsMessage.IsAnswer(answer, query, (ushort)random.Next(4)))
            {
                answers++;
                _ = DnsMessage.IsTurnedDown(answer);
            }
        }

        Assert.True(queries > 100 && answers > 0, $"{queries} queries, {answers} answers: the fuzz does not get far.");
    }

    /// <summary>Bytes of a guest's connection to the resolver, in pieces.</summary>
    private static void StreamToResolver(UserNetwork network, Random random)
    {
        using ITcpSocket stream = network.Dns.TryOpenStream(_ => { })!;
        byte[] room = new byte[100];
        for (int i = 0; i < 20; i++)
        {
            byte[] query = Query(random);
            byte[] bytes = [(byte)(query.Length >> 8), (byte)query.Length, .. query];
            bytes[random.Next(bytes.Length)] ^= (byte)(random.Next(4) == 0 ? random.Next(256) : 0);
            ReadOnlySpan<byte> rest = bytes;
            while (!rest.IsEmpty)
            {
                int sent = stream.Send(rest[..random.Next(1, rest.Length + 1)]);
                Assert.InRange(sent, -200, rest.Length);
                if (sent <= 0)
                {
                    break;
                }

                rest = rest[sent..];
            }

            stream.Discard(Math.Max(0, stream.Peek(random.Next(3), room)));
        }

        stream.ShutdownWrite();
    }

    private static byte[] Query(Random random)
    {
        byte[] query = new byte[random.Next(12, 60)];
        random.NextBytes(query);
        (query[0], query[1], query[2], query[3], query[4], query[5]) = (0, (byte)random.Next(4), (byte)(query[2] & 7), 0, 0, 1);
        if (query.Length > 20)
        {
            query[12] = (byte)(query.Length - 20);
            query[query.Length - 7] = 0;
        }

        return query;
    }

    private static byte[] Frame(Random random)
    {
        byte[] payload = new byte[random.Next(8, 400)];
        random.NextBytes(payload);
        byte[] frame;
        switch (random.Next(6))
        {
            case 0:
                return payload;
            case 1:
                return TestGuest.Ethernet((ushort)(random.Next(3) switch { 0 => 0x0800, 1 => 0x0806, _ => 0x86DD }), payload);
            case 2:
                frame = TestGuest.Udp(TestGuest.Host, (ushort)random.Next(65536), (ushort)(random.Next(3) == 0 ? 67 : random.Next(65536)), payload);
                break;
            case 3:
                frame = TestGuest.Ip4(TestGuest.Address, TestGuest.Host, (byte)(random.Next(3) switch { 0 => 1, 1 => 6, _ => 17 }), payload, (ushort)random.Next(65536));
                break;
            case 4:
                frame = TestGuest.Udp(0x0A00_0203, 5353, 53, payload);
                break;
            default:
                payload[0] = (byte)random.Next(128, 140);
                frame = TestGuest.Ip6(new UInt128(0xFEC0_0000_0000_0000, (ulong)random.Next(10, 99)), new UInt128(0xFEC0_0000_0000_0000, 2), 58, payload, 2, 255);
                break;
        }

        if (random.Next(3) == 0)
        {
            // Behind the addresses, so that it still gets somewhere.
            frame[random.Next(34, frame.Length)] ^= (byte)(1 << random.Next(8));
        }

        return frame;
    }

    private static int Setting(string name, int otherwise) =>
        int.TryParse(Environment.GetEnvironmentVariable(name), out int value) ? value : otherwise;
}
