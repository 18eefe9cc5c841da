using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.NetworkInformation;
using System.Net.Sockets;
using Tutti.Devices.Network;
using Tutti.Network.Tap;

namespace Tutti.Network.Tests.Tap;

/// <summary>
/// Two Linux stacks, each in a network namespace with a TAP device, and between the devices' networks a wire of ours: what one stack leaves to its card
/// the other one must finish, so that every header is judged by Linux on both ways.
/// </summary>
public sealed class TapNetworkTests : IDisposable
{
    private const PacketOffloads All = PacketOffloads.Checksum | PacketOffloads.Tcp4 | PacketOffloads.Tcp6 | PacketOffloads.Ecn;
    private static int _last;
    private readonly List<NetworkNamespace> _spaces = [];
    private readonly List<TapNetwork> _networks = [];
    private readonly ConcurrentQueue<Exception> _failures = new();
    private readonly ConcurrentQueue<string> _notices = new();

    public void Dispose()
    {
        foreach (TapNetwork network in _networks)
        {
            network.Dispose();
        }

        foreach (NetworkNamespace space in _spaces)
        {
            space.Dispose();
        }

        Assert.Empty(_failures);
    }

    [TapFact]
    public void Two_stacks_ping_each_other()
    {
        _ = Connect(All);
        Assert.Equal(3, Ping(0, "192.0.2.2", 3));

        // In fragments.
        Assert.Equal(3, Ping(1, "fd00::1", 3, 4000));
    }

    [TapFact]
    public void Tcp_comes_over_whole_in_segments_larger_than_the_mtu()
    {
        Wire[] wires = Connect(All);
        Assert.Equal(Data(), Transfer("192.0.2.2"));
        Assert.Equal(Data(), Transfer("fd00::2"));
        Assert.True(wires[0].Segmented4 > 0, "The stack cut its IPv4 segments itself.");
        Assert.True(wires[0].Segmented6 > 0, "The stack cut its IPv6 segments itself.");
        Assert.True(wires[0].Largest > 30_000, $"The largest frame had {wires[0].Largest} bytes.");
    }

    [TapFact]
    public void A_guest_without_offloads_gets_finished_frames()
    {
        Wire[] wires = Connect(PacketOffloads.None);
        Assert.Equal(Data(), Transfer("192.0.2.2"));
        Assert.Equal(0, wires[0].Unfinished);
        Assert.InRange(wires[0].Largest, 1000, 1514);
    }

    [TapFact]
    public void Offloads_follow_the_guests_driver()
    {
        Wire[] wires = Connect(PacketOffloads.None);
        _ = Transfer("192.0.2.2");
        Assert.Equal(0, wires[0].Segmented4);
        wires[0].Accepts = All;
        _ = Transfer("192.0.2.2");
        Assert.True(wires[0].Segmented4 > 0);
    }

    [TapFact]
    public void A_guest_without_room_holds_the_host_up_and_loses_nothing()
    {
        Wire[] wires = Connect(All);
        wires[0].RefusesEach = 7;
        wires[1].RefusesEach = 5;
        Assert.Equal(Data(), Transfer("192.0.2.2"));
        Assert.True(wires[0].Refused > 10);
        Assert.Equal(0, _networks[0].ReceiveDropped);
    }

    [TapFact]
    public void A_guest_that_says_it_has_room_while_its_network_goes_does_no_harm()
    {
        Wire[] wires = Connect(All);
        wires[0].RefusesEach = 1;
        _ = _spaces[0].Do(() =>
        {
            using Socket socket = new(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
            return socket.SendTo("x"u8, new IPEndPoint(IPAddress.Parse("192.0.2.2"), 9));
        });
        Assert.True(SpinWait.SpinUntil(() => wires[0].Refused > 10, 10_000));
        _networks[0].Dispose();
        Assert.Empty(_failures);
    }

    [TapFact]
    public void Rates_hold()
    {
        _ = Connect(All, ",bps=40M");
        Stopwatch watch = Stopwatch.StartNew();
        Assert.Equal(Data(), Transfer("192.0.2.2"));

        // 8 MB at 5 MB/s, of which a tenth of a second's worth may pass at once.
        Assert.InRange(watch.Elapsed.TotalSeconds, 1.4, 30);
    }

    [TapFact]
    public void A_frame_on_either_way_allocates_nothing()
    {
        Wire[] wires = Connect(All);
        Assert.Equal(50, Ping(0, "192.0.2.2", 50));
        wires[0].Measure();
        wires[1].Measure();
        Assert.Equal(500, Ping(0, "192.0.2.2", 500));
        Assert.True(wires[0].Given >= 500 && wires[1].Given >= 500);
        Assert.Equal((0, 0), (wires[0].Allocated(), wires[1].Allocated()));
    }

    [TapFact]
    public void Capture_has_both_ways()
    {
        string file = Path.GetTempFileName();
        _ = Connect(All, $",pcap={file}", string.Empty);
        Assert.Equal(1, Ping(0, "192.0.2.2", 1));
        _networks[0].Dispose();
        byte[] capture = File.ReadAllBytes(file);
        File.Delete(file);
        string hex = Convert.ToHexString(capture);
        Assert.Contains("C0000201C00002020800", hex, StringComparison.Ordinal);
        Assert.Contains("C0000202C00002010000", hex, StringComparison.Ordinal);
    }

    [TapFact]
    public void A_device_that_is_deleted_pulls_the_guests_cable()
    {
        Wire[] wires = Connect(All);
        Assert.True(_networks[0].IsLinkUp);
        _spaces[0].Run("ip", "link", "del", NameOf(0));
        Assert.True(SpinWait.SpinUntil(() => wires[0].IsPulled, TimeSpan.FromSeconds(10)));
        Assert.False(_networks[0].IsLinkUp);
        Assert.Contains(_notices, notice => notice.Contains("has been deleted", StringComparison.Ordinal));

        // The wire's other end may send, too, and have its packets dropped.
        long before = _networks[0].SendDropped;
        _networks[0].Send(new byte[64], default);
        Assert.True(_networks[0].SendDropped > before);
    }

    [TapFact]
    public void A_device_of_the_users_own_stays_and_is_said_to_be_down()
    {
        string name = NewName();
        Command.Run("ip", "tuntap", "add", "dev", name, "mode", "tap");
        try
        {
            using (TapNetwork network = Make(name, string.Empty))
            {
                Assert.Equal(1500, network.Mtu);
                NetworkException busy = Assert.Throws<NetworkException>(() => Make(name, string.Empty));
                Assert.Equal($"Can't use TAP device {name}: it is in use by another VM. Give each VM its own device.", busy.Message);
            }

            Assert.Contains($"TAP device {name} is down", Assert.Single(_notices), StringComparison.Ordinal);
            Command.Run("ip", "link", "show", "dev", name);
        }
        finally
        {
            Command.Run("ip", "link", "del", name);
        }
    }

    [Fact]
    public void Addresses_differ_by_device_and_stay()
    {
        Assert.Equal(TapAddress.For("tap0"), TapAddress.For("tap0"));
        Assert.NotEqual(TapAddress.For("tap0"), TapAddress.For("tap1"));
        Assert.Equal(0x525400u, (uint)(TapAddress.For("tap0") >> 24));
    }

    private static byte[] Data()
    {
        byte[] data = new byte[8 << 20];
        new Random(5).NextBytes(data);
        return data;
    }

    private static string NewName() => string.Create(CultureInfo.InvariantCulture, $"ttt{Environment.ProcessId}-{Interlocked.Increment(ref _last)}");

    private TapNetwork Make(string name, string options) =>
        new(NetworkSpec.Parse($"tap={name}{options}"), _failures.Enqueue, _notices.Enqueue);

    /// <summary>Makes both ends: 192.0.2.1 and fd00::1 in namespace 0, those with 2 in namespace 1.</summary>
    private Wire[] Connect(PacketOffloads accepts, string options = "", string? optionsOfSecond = null)
    {
        for (int i = 0; i < 2; i++)
        {
            string name = NewName();
            _networks.Add(Make(name, i == 0 ? options : optionsOfSecond ?? options));
            NetworkNamespace space = new($"tutti-{name}");
            _spaces.Add(space);
            Command.Run("ip", "link", "set", name, "netns", space.Name);
            space.Run("ip", "addr", "add", $"192.0.2.{i + 1}/24", "dev", name);
            space.Run("ip", "addr", "add", $"fd00::{i + 1}/64", "dev", name, "nodad");
            space.Run("ip", "link", "set", name, "up");
        }

        Wire[] wires = [new(_networks[0], _networks[1]) { Accepts = accepts }, new(_networks[1], _networks[0]) { Accepts = accepts }];
        _networks[0].Attach(wires[0]);
        _networks[1].Attach(wires[1]);
        Assert.Empty(_notices);
        return wires;
    }

    private string NameOf(int space) => _spaces[space].Name["tutti-".Length..];

    /// <summary>Sends so many echo requests, and says how many were answered with the bytes that were sent.</summary>
    private int Ping(int space, string address, int count, int size = 56) => _spaces[space].Do(() =>
    {
        using Ping ping = new();
        byte[] data = Data()[..size];
        int answered = 0;
        for (int i = 0; i < count; i++)
        {
            PingReply reply = ping.Send(address, 5000, data);
            answered += reply.Status == IPStatus.Success && reply.Buffer.AsSpan().SequenceEqual(data) ? 1 : 0;
        }

        return answered;
    });

    /// <summary>Sends the data from namespace 0 to an address in namespace 1, and gives what comes back from there.</summary>
    private byte[] Transfer(string address)
    {
        IPAddress to = IPAddress.Parse(address);
        using TcpListener listener = _spaces[1].Do(() =>
        {
            TcpListener made = new(to, 0);
            made.Start();
            return made;
        });
        using TcpClient client = _spaces[0].Do(() =>
        {
            TcpClient made = new(to.AddressFamily);
            made.Connect((IPEndPoint)listener.LocalEndpoint);
            return made;
        });
        using TcpClient server = listener.AcceptTcpClient();
        server.ReceiveTimeout = client.ReceiveTimeout = 60_000;
        NetworkStream there = server.GetStream();
        NetworkStream here = client.GetStream();
        Task echo = Task.Run(() =>
        {
            MemoryStream all = new();
            there.CopyTo(all);
            all.Position = 0;
            all.CopyTo(there);
            server.Client.Shutdown(SocketShutdown.Send);
        });
        here.Write(Data());
        client.Client.Shutdown(SocketShutdown.Send);
        MemoryStream back = new();
        here.CopyTo(back);
        echo.Wait();
        return back.ToArray();
    }
}
