using System.Net;
using System.Net.Sockets;
using Tutti.Host;
using Tutti.Network.Ip;
using Tutti.Network.Tcp;
using Tutti.Workers;

namespace Tutti.Network.Tests.Tcp;

/// <summary>Against sockets of the host's kernel, on loopback, through the gateway's address with the host allowed.</summary>
[Collection("descriptors")]
public sealed class TcpNatTests
{
    [Fact]
    public async Task Streams_of_both_directions_pass_the_hosts_kernel_whole()
    {
        using Fixture fixture = new();
        byte[] toHost = TcpEngineTests.Bytes(new Random(1), 8_000_000);
        byte[] toGuest = TcpEngineTests.Bytes(new Random(2), 8_000_000);
        using System.Net.Sockets.TcpListener server = new(IPAddress.Loopback, 0);
        server.Start();
        ModelGuest guest = fixture.Connect(1, ((IPEndPoint)server.LocalEndpoint).Port, toHost);
        using TcpClient client = server.AcceptTcpClient();
        using NetworkStream stream = client.GetStream();
        Task write = Task.Run(() =>
        {
            stream.Write(toGuest);
            client.Client.Shutdown(SocketShutdown.Send);
        });
        using MemoryStream received = new();
        stream.CopyTo(received);
        await write.WaitAsync(TimeSpan.FromSeconds(30));
        Assert.True(SpinWait.SpinUntil(() => fixture.Ask(() => guest.HasPeerFin && guest.IsAllAcknowledged), TimeSpan.FromSeconds(30)));
        Assert.True(toHost.AsSpan().SequenceEqual(received.ToArray()));
        Assert.True(toGuest.AsSpan().SequenceEqual(guest.Received.ToArray()));
        Assert.Empty(fixture.Failures);
    }

    [Fact]
    public void A_reader_that_is_slow_holds_the_guest_back_and_gets_all()
    {
        using Fixture fixture = new();
        byte[] toHost = TcpEngineTests.Bytes(new Random(1), 12_000_000);
        using System.Net.Sockets.TcpListener server = new(IPAddress.Loopback, 0);
        server.Server.ReceiveBufferSize = 65536;
        server.Start();
        _ = fixture.Connect(1, ((IPEndPoint)server.LocalEndpoint).Port, toHost);
        using TcpClient client = server.AcceptTcpClient();
        Thread.Sleep(500);
        Assert.InRange(fixture.Ask(() => fixture.Nat.Counters.BytesFromGuest), 1, 11_000_000);
        using MemoryStream received = new();
        client.GetStream().CopyTo(received);
        Assert.True(toHost.AsSpan().SequenceEqual(received.ToArray()));
    }

    [Fact]
    public void A_port_where_nobody_listens_is_refused()
    {
        using Fixture fixture = new();
        using Socket closed = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        closed.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        ModelGuest guest = fixture.Connect(1, ((IPEndPoint)closed.LocalEndPoint!).Port, []);
        Assert.True(SpinWait.SpinUntil(() => fixture.Ask(() => guest.IsReset), TimeSpan.FromSeconds(10)));
        Assert.False(guest.IsConnected);
    }

    [Fact]
    public void Thousands_of_connections_are_open_at_once()
    {
        int wanted = int.TryParse(Environment.GetEnvironmentVariable("TUTTI_TCP_CONNECTIONS"), out int set) ? set : 2000;

        // Both ends of the host's connections are this process's.
        wanted = (int)Math.Min(wanted, (DescriptorLimit.Raise() / 2) - 500);
        using Fixture fixture = new();
        using System.Net.Sockets.TcpListener server = new(IPAddress.Loopback, 0);
        server.Start(4096);
        int port = ((IPEndPoint)server.LocalEndpoint).Port;
        List<Socket> accepted = [];
        List<ModelGuest> guests = [];
        for (int i = 0; i < wanted; i++)
        {
            guests.Add(fixture.Connect(i + 1, port, [(byte)i, (byte)(i >> 8)]));
            accepted.Add(server.AcceptSocket());
        }

        Assert.True(fixture.Ask(() => fixture.Nat.Counters.Connections) >= wanted);
        byte[] bytes = new byte[2];
        foreach (Socket socket in accepted)
        {
            Assert.Equal(2, socket.Receive(bytes) is 1 ? 1 + socket.Receive(bytes, 1, 1, SocketFlags.None) : 2);
            socket.Send(bytes);
            socket.Dispose();
        }

        Assert.True(SpinWait.SpinUntil(() => fixture.Ask(() => guests.All(guest => guest.HasPeerFin)), TimeSpan.FromSeconds(30)));
        Assert.All(guests, guest => Assert.Equal(2, guest.Received.Length));
        Assert.Empty(fixture.Failures);
    }

    [Fact]
    public void A_published_port_that_is_taken_says_so_in_a_line()
    {
        using Fixture fixture = new();
        using System.Net.Sockets.TcpListener server = new(IPAddress.Loopback, 0);
        server.Start();
        HostEndpoint at = HostEndpoint.Loopback4((ushort)((IPEndPoint)server.LocalEndpoint).Port);
        IOException refusal = Assert.Throws<IOException>(() => fixture.Loop.Run(() => fixture.Nat.Publish(at, () => null, 80)));
        Assert.Contains($"cannot publish at {at}: another program listens there", refusal.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_published_port_sends_the_guest_a_syn_from_the_gateway_and_tells_the_caller_that_nobody_listens()
    {
        using Fixture fixture = new();
        IpEndpoints guest = new(false, fixture.Addresses.Host4, fixture.Addresses.Guest4);
        HostEndpoint at = default;
        fixture.Loop.Run(() => at = fixture.Nat.Publish(HostEndpoint.Loopback4(0), () => guest, 8080));
        using Socket caller = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        caller.Connect(IPAddress.Loopback, at.Port);
        Assert.True(SpinWait.SpinUntil(() => fixture.Ask(() => fixture.Unclaimed.Count > 0), TimeSpan.FromSeconds(10)));
        byte[] data = fixture.Unclaimed[0];
        Assert.True(TcpSegment.TryParse(data, out TcpSegment syn));
        Assert.Equal(TcpFlags.Syn, syn.Flags);
        Assert.Equal(8080, syn.DestinationPort);
        byte[] answer = new byte[20];
        TcpSegment.Write(answer, 8080, syn.SourcePort, 0, syn.Sequence + 1, TcpFlags.Rst | TcpFlags.Ack, 0, 20);
        fixture.Loop.Run(() => fixture.Nat.OnSegment(guest.Reversed, answer, default));
        Assert.Equal(SocketError.ConnectionReset, Assert.Throws<SocketException>(() => caller.Receive(new byte[1])).SocketErrorCode);
    }

    /// <summary>The network's loop with model guests on it, one per port.</summary>
    private sealed class Fixture : IIpOutput, IDisposable
    {
        private readonly Dictionary<ushort, ModelGuest> _guests = [];
        private readonly Queue<(ModelGuest? Guest, byte[] Data, bool IsFromGuest)> _wire = [];
        private readonly byte[] _buffer = new byte[IIpOutput.MaxSegment];
        private readonly LoopDoorbell _bell;
        private readonly LoopTimer _timer;

        public Fixture()
        {
            Loop = new EventLoop("tcp test", Failures.Add);
            _bell = Loop.AddDoorbell(Deliver);
            ReachPolicy policy = new(Addresses, host: null, isMetadataAllowed: false);
            Nat = new TcpNat(Loop, this, policy, _ => null, 20_000, 64 << 20);
            _timer = Loop.AddTimer(OnTick);
            Loop.Run(() => _timer.Arm(HostTime.Nanoseconds + 500_000_000));
        }

        public EventLoop Loop { get; }

        public NetworkAddresses Addresses { get; } = new();

        public TcpNat Nat { get; }

        public List<Exception> Failures { get; } = [];

        public List<byte[]> Unclaimed { get; } = [];

        public int Mtu => 1500;

        public ModelGuest Connect(int number, int port, byte[] toSend)
        {
            ushort source = (ushort)(10000 + number);
            ModelGuest guest = null!;
            guest = new ModelGuest(
                data =>
                {
                    data[0] = (byte)(source >> 8);
                    data[1] = (byte)source;
                    data[2] = (byte)(port >> 8);
                    data[3] = (byte)port;
                    _wire.Enqueue((guest, data, true));
                    _bell.Ring();
                },
                (uint)(number * 1_000_003),
                toSend);
            Loop.Run(() =>
            {
                _guests[source] = guest;
                guest.Connect();
            });
            return guest;
        }

        public T Ask<T>(Func<T> question)
        {
            T answer = default!;
            Loop.Run(() => answer = question());
            return answer;
        }

        public Span<byte> ReserveTcp() => _buffer;

        public int SendTcp(in IpEndpoints endpoints, int headerLength, int payloadLength, int segmentSize)
        {
            byte[] data = _buffer.AsSpan(0, headerLength + payloadLength).ToArray();
            ushort port = (ushort)((data[2] << 8) | data[3]);
            if (_guests.TryGetValue(port, out ModelGuest? guest))
            {
                _wire.Enqueue((guest, data, false));
                _bell.Ring();
            }
            else
            {
                Unclaimed.Add(data);
            }

            return payloadLength;
        }

        public void SendUnreachable(UnreachableReason reason)
        {
        }

        public void Dispose()
        {
            Loop.Run(Nat.Dispose);
            Loop.Dispose();
        }

        private void Deliver()
        {
            for (int left = _wire.Count; left > 0; left--)
            {
                (ModelGuest? guest, byte[] data, bool isFromGuest) = _wire.Dequeue();
                if (isFromGuest)
                {
                    Nat.OnSegment(new IpEndpoints(false, Addresses.Guest4, Addresses.Host4), data, default);
                }
                else
                {
                    guest!.OnSegment(data);
                }
            }

            Nat.OnSendEnded();
            if (_wire.Count > 0)
            {
                _bell.Ring();
            }
        }

        private void OnTick()
        {
            foreach (ModelGuest guest in _guests.Values)
            {
                if (!guest.IsAllAcknowledged)
                {
                    guest.OnTimeout();
                }
            }

            _timer.Arm(HostTime.Nanoseconds + 500_000_000);
        }
    }
}
