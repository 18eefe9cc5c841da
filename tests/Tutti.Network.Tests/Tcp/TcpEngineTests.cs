using Tutti.Host;
using Tutti.Network.Ip;
using Tutti.Network.Tcp;

namespace Tutti.Network.Tests.Tcp;

public sealed class TcpEngineTests
{
    [Theory]
    [InlineData(0.0, 1, 0, false)]
    [InlineData(0.02, 5, 0, false)]
    [InlineData(0.1, 5, 50_000, false)]
    [InlineData(0.3, 5, 5_000, false)]
    [InlineData(0.0, 3, 20_000, true)]
    [InlineData(0.1, 5, 20_000, true)]
    public void Both_streams_arrive_whole_over_a_wire_that_loses_doubles_and_swaps(double trouble, int runs, int room, bool variesWindow)
    {
        for (int seed = 1; seed <= runs; seed++)
        {
            Random random = new(seed);
            byte[] toGuest = Bytes(random, variesWindow ? 100_000 : 700_000);
            byte[] toHost = Bytes(random, trouble > 0.2 ? 100_000 : 500_000);
            Simulation simulation = new(seed, trouble, toGuest, toHost) { VariesWindow = variesWindow };
            simulation.Socket.Room = room;
            simulation.Guest.LargestSegment = seed % 2 == 0 ? 1460 : 60000;
            simulation.Guest.Connect();
            bool isDone = simulation.Run(
                () => simulation.Guest.HasPeerFin && simulation.Guest.IsAllAcknowledged && simulation.Socket.IsShutDown && simulation.Engine.Counters.Connections == 0, 6000);
            string where = $"seed {seed}: guest has {simulation.Guest.Received.Length} of {toGuest.Length}, host {simulation.Socket.Sent.Length} of {toHost.Length}, "
                + $"FIN {simulation.Guest.HasPeerFin}, all acknowledged {simulation.Guest.IsAllAcknowledged}, reset {simulation.Guest.IsReset}";
            Assert.True(isDone, where);
            Assert.True(toGuest.AsSpan().SequenceEqual(simulation.Guest.Received.ToArray()), where);
            Assert.True(toHost.AsSpan().SequenceEqual(simulation.Socket.Sent.ToArray()), where);
            Assert.Equal(0, simulation.Engine.Chunks.InUse);
            Assert.Equal(0, simulation.Socket.Pending);
            Assert.True(simulation.Socket.IsDisposed);
        }
    }

    [Fact]
    public void The_guest_hears_of_no_connection_before_the_host_has_one()
    {
        Simulation simulation = new(1, 0, [], []) { ConnectError = Errno.ECONNREFUSED };
        simulation.Guest.Connect();
        Assert.True(simulation.Run(() => simulation.Guest.IsReset, 5));
        Assert.False(simulation.Guest.IsConnected);
        Assert.Equal(0, simulation.Engine.Counters.Connections);
        Assert.Equal(1, simulation.Engine.Counters.Refused);
    }

    [Fact]
    public void A_host_without_a_route_is_told_by_icmp()
    {
        Simulation simulation = new(1, 0, [], []) { ConnectError = Errno.EHOSTUNREACH };
        simulation.Guest.Connect();
        Assert.True(simulation.Run(() => simulation.Unreachables > 0, 5));
        Assert.False(simulation.Guest.IsReset);
        Assert.Equal(0, simulation.Engine.Counters.Connections);
    }

    [Fact]
    public void A_direction_that_has_ended_leaves_the_other_open()
    {
        Simulation simulation = new(1, 0, Bytes(new Random(1), 100_000), Bytes(new Random(2), 1000));
        simulation.Socket.HoldsEnd = true;
        simulation.Guest.Connect();
        Assert.True(simulation.Run(() => simulation.Socket.IsShutDown && simulation.Guest.Received.Length == 100_000, 10));
        Assert.False(simulation.Guest.HasPeerFin);
        Assert.False(simulation.Socket.IsDisposed);
    }

    [Fact]
    public void A_reset_by_the_guest_resets_the_peer_and_the_other_way_round()
    {
        Simulation simulation = new(1, 0, [], []) { Guest = { HoldsFin = true }, Socket = { HoldsEnd = true } };
        simulation.Guest.Connect();
        Assert.True(simulation.Run(() => simulation.Guest.IsConnected, 5));
        Assert.False(simulation.Run(() => false, 1));
        simulation.Guest.Reset();
        Assert.True(simulation.Run(() => simulation.Socket.IsDisposed, 5));
        Assert.True(simulation.Socket.ResetsOnClose);

        simulation = new(1, 0, [], []) { Guest = { HoldsFin = true }, Socket = { HoldsEnd = true } };
        simulation.Guest.Connect();
        Assert.False(simulation.Run(() => false, 1));
        simulation.Socket.Break(Errno.ECONNRESET);
        Assert.True(simulation.Run(() => simulation.Guest.IsReset, 5));
        Assert.Equal(0, simulation.Engine.Counters.Connections);
    }

    [Fact]
    public void A_segment_without_a_connection_is_reset()
    {
        Simulation simulation = new(1, 0, [], []);
        byte[] data = new byte[20];
        TcpSegment.Write(data, ModelGuest.Port, 80, 5, 7, TcpFlags.Ack, 1000, 20);
        simulation.Engine.OnSegment(new IpEndpoints(false, 1, 2), data);
        Assert.True(simulation.Run(() => simulation.Guest.IsReset, 1));
    }

    [Fact]
    public void A_full_table_refuses()
    {
        Simulation simulation = new(1, 0, [], []);
        byte[] data = new byte[20];
        for (int i = 0; i < 150; i++)
        {
            TcpSegment.Write(data, (ushort)(1000 + i), 80, 5, 0, TcpFlags.Syn, 1000, 20);
            simulation.Engine.OnSegment(new IpEndpoints(false, 1, 2), data);
        }

        Assert.Equal(100, simulation.Engine.Counters.Connections);
        Assert.Equal(50, simulation.Engine.Counters.Overflows);
        simulation.Engine.AbortAll();
        Assert.Equal(0, simulation.Engine.Counters.Connections);
    }

    [Fact]
    public void A_guest_that_asks_and_is_gone_is_forgotten_and_the_peer_reset()
    {
        Simulation simulation = new(1, trouble: 1, [], []);
        byte[] data = new byte[20];
        TcpSegment.Write(data, ModelGuest.Port, 80, 5, 0, TcpFlags.Syn, 1000, 20);
        simulation.Engine.OnSegment(new IpEndpoints(false, 1, 2), data);
        Assert.False(simulation.Run(() => simulation.Socket.IsDisposed, 30));
        Assert.True(simulation.Run(() => simulation.Socket.IsDisposed, 300));
        Assert.True(simulation.Socket.ResetsOnClose);
        Assert.Equal(0, simulation.Engine.Counters.Connections);
    }

    /// <summary>The route watch may be late, and the kernel's second SYN early: what counts is where the connection ends when it is there.</summary>
    [Fact]
    public void An_address_that_becomes_the_hosts_own_while_the_host_connects_is_refused()
    {
        int asked = 0;
        Simulation simulation = new(1, 0, [], []) { Policy = () => asked++ == 0 ? Reach.Allowed : Reach.Refused };
        simulation.Guest.Connect();
        Assert.True(simulation.Run(() => simulation.Guest.IsReset, 5));
        Assert.False(simulation.Guest.IsConnected);
        Assert.True(simulation.Socket.IsDisposed);
        Assert.True(simulation.Socket.ResetsOnClose);
        Assert.Equal((1, 0), (simulation.Engine.Counters.Refused, simulation.Engine.Counters.Connections));
    }

    /// <summary>A guest's stack keeps a connection that its program has closed for a minute, a peer that never closes has it for good.</summary>
    [Theory]
    [InlineData(true, false, 2)]
    [InlineData(true, true, 11)]
    [InlineData(false, false, 120)]
    [InlineData(false, true, 129)]
    public void A_connection_that_the_guest_has_forgotten_ends(bool isClosed, bool isGone, int sweeps)
    {
        Simulation simulation = new(1, 0, [], []) { Guest = { HoldsFin = !isClosed }, Socket = { HoldsEnd = true } };
        simulation.Guest.Connect();
        Assert.False(simulation.Run(() => false, 5));
        Assert.Equal((isClosed, 1), (simulation.Socket.IsShutDown, simulation.Engine.Counters.Connections));
        simulation.Guest.HasForgotten = !isGone;
        simulation.Guest.IsGone = isGone;
        for (int i = 1; i < sweeps; i++)
        {
            simulation.Engine.Sweep();
            Assert.False(simulation.Run(() => simulation.Socket.IsDisposed, 1));
        }

        simulation.Engine.Sweep();
        Assert.True(simulation.Run(() => simulation.Socket.IsDisposed, 1));

        // A peer that the guest's last bytes are still on their way to is to get them.
        Assert.Equal(!isClosed, simulation.Socket.ResetsOnClose);
        Assert.Equal(0, simulation.Engine.Counters.Connections);
    }

    [Fact]
    public void A_guest_that_has_closed_is_not_asked_while_its_bytes_wait_for_the_peer()
    {
        Simulation simulation = new(1, 0, [], Bytes(new Random(1), 100_000)) { Socket = { HoldsEnd = true, Room = 1 } };
        simulation.Guest.Connect();
        Assert.False(simulation.Run(() => false, 30));
        Assert.True(simulation.Guest.IsAllAcknowledged);
        simulation.Guest.HasForgotten = true;
        int segments = simulation.Guest.Segments;
        for (int i = 0; i < 20; i++)
        {
            simulation.Engine.Sweep();
            Assert.False(simulation.Run(() => simulation.Socket.IsDisposed, 1));
        }

        Assert.Equal(segments, simulation.Guest.Segments);
        simulation.Socket.Room = 0;
        Assert.True(simulation.Run(() => simulation.Socket.IsShutDown, 5));
        Assert.Equal(100_000, simulation.Socket.Sent.Length);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_guest_that_waits_for_its_peer_is_asked_and_keeps_the_connection(bool isClosed)
    {
        Simulation simulation = new(1, 0, [], []) { Guest = { HoldsFin = !isClosed }, Socket = { HoldsEnd = true } };
        simulation.Guest.Connect();
        Assert.False(simulation.Run(() => false, 5));
        simulation.Guest.IsQuiet = true;
        int segments = simulation.Guest.Segments;
        for (int i = 0; i < 1000; i++)
        {
            simulation.Engine.Sweep();
            Assert.False(simulation.Run(() => simulation.Socket.IsDisposed, 1));
        }

        Assert.Equal(1000 / (isClosed ? 2 : 120), simulation.Guest.Segments - segments);
        Assert.False(simulation.Guest.IsReset);
        Assert.Equal(1, simulation.Engine.Counters.Connections);
    }

    [Fact]
    [Trait("Category", "Fuzz")]
    public void Random_segments_do_no_harm()
    {
        int seed = int.TryParse(Environment.GetEnvironmentVariable("TUTTI_FUZZ_SEED"), out int first) ? first : 1;
        int seconds = int.TryParse(Environment.GetEnvironmentVariable("TUTTI_FUZZ_SECONDS"), out int wanted) ? wanted : 0;
        System.Diagnostics.Stopwatch watch = System.Diagnostics.Stopwatch.StartNew();
        for (int run = 0; run < 10 || watch.Elapsed.TotalSeconds < seconds; run++, seed++)
        {
            try
            {
                Fuzz(seed);
            }
            catch (Exception e)
            {
                throw new InvalidOperationException($"seed {seed}", e);
            }
        }
    }

    private static void Fuzz(int seed)
    {
        Random random = new(seed);
        Simulation simulation = new(seed, 0.05, Bytes(random, 200_000), Bytes(random, 10_000), initialSequence: 0);
        simulation.Guest.Connect();
        byte[] data = new byte[3000];
        for (int i = 0; i < 2000; i++)
        {
            _ = simulation.Run(() => random.Next(3) == 0, 1);
            int length = random.Next(0, random.Next(20, data.Length));
            random.NextBytes(data.AsSpan(0, length));
            if (length >= 20 && random.Next(10) != 0)
            {
                uint sequence = (uint)random.Next(0, 20_000);
                int header = Math.Min(random.Next(5, 16) * 4, length / 4 * 4);
                TcpSegment.Write(data, ModelGuest.Port, 80, sequence, (uint)random.Next(), (TcpFlags)(random.Next(64) & ~(random.Next(4) == 0 ? 0 : 6)), (ushort)random.Next(65536), header);
            }

            simulation.Engine.OnSegment(new IpEndpoints(false, 0x0A00020F, 0xC0000201), data.AsSpan(0, length));
            Assert.InRange(simulation.Engine.Chunks.InUse, 0, 4096);
        }
    }

    internal static byte[] Bytes(Random random, int length)
    {
        byte[] bytes = new byte[length];
        random.NextBytes(bytes);
        return bytes;
    }
}
