using System.Diagnostics;
using Tutti.Network.Services;

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
            });
            Assert.True(guest.Failures.IsEmpty, $"seed {seed}, run {run}: {guest.Failures.FirstOrDefault()}");
            Assert.InRange(guest.Network.Udp.FlowCount, 0, UdpNat.MaxFlows);
        }
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
