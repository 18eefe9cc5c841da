using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text.RegularExpressions;
using Tutti.Guest.Tests.Network;
using Tutti.Network.Tests.Linux;
using Tutti.Network.Tests.Tap;
using Xunit.Abstractions;

namespace Tutti.Guest.Tests;

/// <summary>
/// The user network as a whole Debian uses it. The host is a network namespace, so that its addresses, its resolver and its ping sockets are the
/// test's own; Tutti, ssh and the servers run in it.
/// </summary>
[Collection("guests")]
public sealed partial class ServerNetworkTests(ITestOutputHelper output) : IDisposable
{
    private const string Gateway = "10.0.2.2";
    private const string Gateway6 = "fec0::2";
    private const string Other = "192.0.2.1";
    private const string Other6 = "2001:db8::1";

    private readonly string _folder = Directory.CreateTempSubdirectory("tutti-network-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [ServerNetworkFact]
    public void A_server_has_a_network_that_downloads_pings_looks_up_bears_loss_and_thousands_of_connections()
    {
        using NetworkNamespace host = new($"tutti-server-{Environment.ProcessId}");
        host.Run("ip", "link", "set", "lo", "up");
        host.Run("ip", "addr", "add", Other + "/24", "dev", "lo");
        host.Run("ip", "addr", "add", Other6 + "/64", "dev", "lo", "nodad");
        host.Run("sh", "-c", "echo '0 2147483647' > /proc/sys/net/ipv4/ping_group_range");
        string resolvers = Path.Combine(_folder, "resolv.conf");
        File.WriteAllText(resolvers, $"nameserver {TestResolver.Address}\n");
        using TestResolver resolver = host.Do(() => new TestResolver());
        using HostPeer peer = new(host);
        int datagrams = HostProgram.FreePort();

        // The mount is that of the command alone, as ip-netns gives each a namespace of mounts.
        using ServerSession server = new(
            _folder,
            output,
            ["--net", $"user,host=allow,ipv6=on,flows={Math.Max(2048, Connections)}", "--publish", string.Create(CultureInfo.InvariantCulture, $"{datagrams}:5599/udp")],
            "ip", "netns", "exec", host.Name, "sh", "-c", $"mount --bind {resolvers} /etc/resolv.conf && exec \"$@\"", "sh");
        string program = Convert.ToBase64String(File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "Network", "peer.py")));
        server.Run($"echo {program} | base64 -d > peer.py");
        int web = peer.Web();

        Part("echo", () => CheckEcho(server));
        Part("names", () => CheckNames(server));
        Part("parallel downloads", () => CheckDownloads(server, web));
        Part("half-closed connections", () => CheckHalfClosed(server, peer));
        Part("slow readers", () => CheckSlowReaders(server, peer, web));
        Part("published UDP", () => CheckDatagrams(server, host, datagrams));
        Part("many connections", () => CheckMany(server, peer));
        Part("loss both ways", () => CheckLoss(server, web));
        peer.WaitForAll();
        Assert.Empty(GuestSession.Complaints(server.Run("sudo dmesg")));
    }

    private static int Connections => int.Parse(Environment.GetEnvironmentVariable("TUTTI_TCP_CONNECTIONS") ?? "1000", CultureInfo.InvariantCulture);

    private static void CheckEcho(ServerSession server)
    {
        List<string> commands = [];
        foreach (string address in new[] { Gateway, Gateway6, Other, Other6 })
        {
            foreach (int size in new[] { 56, 4000 })
            {
                commands.Add($"ping -c 5 -i 0.2 -W 5 -s {size} {address}");
            }
        }

        string answers = server.Run(string.Join(" && ", commands));
        Assert.Equal(commands.Count, answers.Split('\n').Count(line => line.Contains("5 received, 0% packet loss", StringComparison.Ordinal)));

        // Nobody has it: the answer is an error, and it comes at once.
        Assert.Contains("Unreachable", server.Try("ping -c 1 -W 30 203.0.113.1").Text, StringComparison.OrdinalIgnoreCase);
    }

    private static void CheckNames(ServerSession server)
    {
        Assert.Equal(TestResolver.Answered, server.Run("python3 peer.py look_up 10.0.2.3 100"));
        Assert.Equal(TestResolver.Answered, server.Run("python3 peer.py look_up fec0::3 100"));
        Assert.StartsWith(TestResolver.Answered + " ", server.Run("getent ahostsv4 host.example"), StringComparison.Ordinal);
    }

    private static void CheckDownloads(ServerSession server, int web)
    {
        // Each of a size of its own, so that none can pass for another.
        const int Base = 1_000_000;
        string[] sums = server.Run(
            $"seq {Base + 1} {Base + 32} | xargs -P 32 -I % sh -c 'echo % $(curl -sS --fail http://{Gateway}:{web}/% | sha256sum)'").Split('\n');
        Assert.Equal(Enumerable.Range(Base + 1, 32).Select(size => $"{size} {HostPeer.Sum(HostPeer.Content(size))} -"), sums.Order());
        foreach (string address in new[] { $"[{Gateway6}]", Other, $"[{Other6}]" })
        {
            Assert.Equal($"{HostPeer.Sum(HostPeer.Content(Base))}  -", server.Run($"curl -sS --fail 'http://{address}:{web}/{Base}' | sha256sum"));
        }
    }

    private static void CheckHalfClosed(ServerSession server, HostPeer peer)
    {
        const int Size = 3_000_000;
        Assert.Equal("whole", server.Run($"python3 peer.py send_then_read {Gateway} {peer.ReadThenSend()} {Size}"));
        Assert.Equal("whole", server.Run($"python3 peer.py send_then_read {Gateway6} {peer.ReadThenSend()} {Size}"));

        // Longer than TIME_WAIT or any timer of the network's for connections that are closing.
        Assert.Equal("sent", server.Run($"python3 peer.py read_then_send {Gateway} {peer.SendThenRead(Size)} 3"));
        peer.WaitForAll();
    }

    private static void CheckSlowReaders(ServerSession server, HostPeer peer, int web)
    {
        const int Size = 3_000_000;
        Assert.Equal(HostPeer.Sum(HostPeer.Content(Size)), server.Run($"python3 peer.py read_slowly {Gateway} {web} /{Size}"));
        Upload(server, peer.Web(isSlow: true));
    }

    private static void CheckDatagrams(ServerSession server, NetworkNamespace host, int port)
    {
        server.Run("nohup python3 peer.py echo_datagrams 5599 > /dev/null 2>&1 & for i in $(seq 100); do ss -Hlun sport = 5599 | grep -q . && exit; sleep 0.1; done; exit 1");
        using Socket socket = host.Do(() => new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp) { ReceiveTimeout = 10_000 });
        socket.Connect(IPAddress.Loopback, port);
        byte[] room = new byte[65536];
        foreach (int size in new[] { 1, 1472, 1473, 9000, 40_000 })
        {
            byte[] sent = HostPeer.Content(size);
            socket.Send(sent);
            int count = socket.Receive(room);
            Assert.Equal(sent.AsEnumerable().Reverse(), room.Take(count));
        }
    }

    private static void CheckLoss(ServerSession server, int web)
    {
        // What comes in has no queue of its own, and gets one by a device in between.
        const int Size = 2_000_000;
        string card = server.Run("ip -o route get 10.0.2.2 | grep -o 'dev [^ ]*' | cut -d' ' -f2");
        server.Run(
            "sudo modprobe ifb numifbs=1 && sudo ip link set ifb0 up && " +
            $"sudo tc qdisc add dev {card} handle ffff: ingress && " +
            $"sudo tc filter add dev {card} parent ffff: matchall action mirred egress redirect dev ifb0 && " +
            $"sudo tc qdisc add dev ifb0 root netem loss 3% delay 5ms && sudo tc qdisc replace dev {card} root netem loss 3% delay 5ms");
        Assert.Equal($"{HostPeer.Sum(HostPeer.Content(Size))}  -", server.Run($"curl -sS --fail http://{Gateway}:{web}/{Size} | sha256sum"));
        Upload(server, web);
        foreach (string device in new[] { "ifb0", card })
        {
            Assert.True(int.Parse(Dropped().Match(server.Run($"sudo tc -s qdisc show dev {device} root")).Groups[1].Value, CultureInfo.InvariantCulture) > 0);
        }

        server.Run($"sudo tc qdisc del dev {card} ingress && sudo tc qdisc del dev {card} root && sudo tc qdisc del dev ifb0 root");
    }

    private static void Upload(ServerSession server, int web)
    {
        string[] sums = server.Run($"head -c 2000000 /dev/urandom > upload && sha256sum < upload && curl -sS --fail -H Expect: -T upload http://{Gateway}:{web}/").Split('\n');
        Assert.Equal(sums[0], sums[1] + "  -");
    }

    private void CheckMany(ServerSession server, HostPeer peer)
    {
        string answer = server.Run($"timeout 600 python3 peer.py many {Gateway} {peer.Opposites(Connections)} {Connections}");
        output.WriteLine($"{Connections} connections at once: {answer}");
        peer.WaitForAll();
    }

    private void Part(string name, Action check)
    {
        var watch = Stopwatch.StartNew();
        check();
        output.WriteLine($"{name}: {watch.Elapsed.TotalSeconds:F1} s");
    }

    [GeneratedRegex(@"dropped (\d+)")]
    private static partial Regex Dropped();
}
