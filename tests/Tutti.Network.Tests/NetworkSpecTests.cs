namespace Tutti.Network.Tests;

/// <summary>The texts of --net and --publish.</summary>
public sealed class NetworkSpecTests
{
    [Fact]
    public void All_options_are_read()
    {
        NetworkSpec spec = NetworkSpec.Parse("user,host=allow,metadata=allow,ipv6=off,net=192.168.76.0/24,mtu=9000,flows=5k,buffers=8M,pcap=/tmp/x.pcap,bps=10M,pps=500,mac=52:54:00:12:34:56");
        Assert.Equal(new NetworkSpec { IsHostAllowed = true, IsMetadataAllowed = true, Ip6 = Ip6Mode.Off, Subnet = 0xC0A8_4C00, Mtu = 9000, Flows = 5000, BufferBytes = 8 << 20, CaptureFile = "/tmp/x.pcap", BitsPerSecond = 10_000_000, PacketsPerSecond = 500, Mac = 0x5254_0012_3456, Published = spec.Published }, spec);
        Assert.Equal(NetworkKind.None, NetworkSpec.Parse("none").Kind);
    }

    [Fact]
    public void A_tap_device_takes_rates_a_capture_and_an_address() => Assert.Equal(
        new NetworkSpec { Kind = NetworkKind.Tap, TapName = "vm-tap0", CaptureFile = "x", BitsPerSecond = 8000, PacketsPerSecond = 5, Mac = 0x5254_0012_3456 },
        NetworkSpec.Parse("tap=vm-tap0,pcap=x,bps=8k,pps=5,mac=52:54:00:12:34:56") with { Published = new NetworkSpec().Published });

    [Theory]
    [InlineData("user,host=yes", "--net user,host=yes: host='yes' must be allow or deny.")]
    [InlineData("user,metadata=on", "--net user,metadata=on: metadata='on' must be allow or deny.")]
    [InlineData("user,flows=15", "--net user,flows=15: flows='15' must be 16 to 65536, the most TCP connections at a time.")]
    [InlineData("user,buffers=100k", "--net user,buffers=100k: buffers='100k' must be 1M to 16G, the most bytes that wait for the host's sockets.")]
    [InlineData("tap=tap0,flows=100", "--net tap=tap0,flows=100: flows goes with user; at a TAP device the host's own network has its settings.")]
    [InlineData("user,net=10.0.2.1/24", "--net user,net=10.0.2.1/24: net='10.0.2.1/24' must be an IPv4 network of 8 to 28 bits, such as 10.0.2.0/24.")]
    [InlineData("user,mac=01:00:00:00:00:00", "--net user,mac=01:00:00:00:00:00: mac='01:00:00:00:00:00' must be an address of one card, such as 52:54:00:12:34:56.")]
    [InlineData("user,mtu=5", "--net user,mtu=5: mtu='5' must be 1280 to 65520.")]
    public void What_is_wrong_is_said_in_a_line(string text, string message) =>
        Assert.Equal(message, Assert.Throws<NetworkException>(() => NetworkSpec.Parse(text)).Message);

    [Theory]
    [InlineData("8080:80", "127.0.0.1:8080", 80, false)]
    [InlineData("0.0.0.0:53:5353/udp", "0.0.0.0:53", 5353, true)]
    [InlineData("[::1]:1:2/tcp", "[::1]:1", 2, false)]
    public void Published_ports_are_read(string text, string host, int guestPort, bool isUdp)
    {
        PublishRule rule = Assert.Single(PublishRule.Parse(text));
        Assert.Equal((host, guestPort, isUdp), (rule.Host.ToString(), rule.GuestPort, rule.IsUdp));
    }

    [Fact]
    public void A_range_is_a_rule_for_each_port() =>
        Assert.Equal([(8000, 90), (8001, 91), (8002, 92)], PublishRule.Parse("8000-8002:90-92").Select(rule => ((int)rule.Host.Port, (int)rule.GuestPort)));

    [Theory]
    [InlineData("80")]
    [InlineData("0:80")]
    [InlineData("x:80:80")]
    [InlineData("1:65536")]
    [InlineData("1-3:1-2")]
    [InlineData("1:1/sctp")]
    [InlineData("::1:80:80")]
    public void What_is_no_published_port_is_refused(string text) =>
        Assert.StartsWith($"--publish {text}: ", Assert.Throws<NetworkException>(() => PublishRule.Parse(text)).Message);
}
