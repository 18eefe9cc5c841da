using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using Tutti.Network.Tests.Tap;

namespace Tutti.Network.Tests.Linux;

/// <summary>BIND's dig in the guest asks the network's resolver, behind which is a server of ours on the host's loopback.</summary>
public sealed class DnsTests : IDisposable
{
    private readonly string _file = Path.GetTempFileName();
    private readonly Socket _datagrams = new(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
    private readonly Socket _streams = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);

    public void Dispose()
    {
        _datagrams.Dispose();
        _streams.Dispose();
        File.Delete(_file);
    }

    [TapFact]
    public void Dig_gets_answers_by_both_protocols_and_both_versions_and_many_at_once()
    {
        if (!File.Exists("/usr/bin/dig"))
        {
            Console.WriteLine("Not tried: dig is not installed.");
            return;
        }

        // An address of its own on the loopback, lest a resolver of the host's has the port.
        IPEndPoint at = new(IPAddress.Parse("127.53.53.53"), 53);
        _datagrams.Bind(at);
        _streams.Bind(at);
        _streams.Listen(16);
        File.WriteAllText(_file, "nameserver 127.53.53.53\n");
        new Thread(ServeDatagrams) { IsBackground = true }.Start();
        new Thread(ServeStreams) { IsBackground = true }.Start();

        using LinuxGuest guest = new(new NetworkSpec { Ip6 = Ip6Mode.On }, _file);
        guest.WaitForIp6();
        Assert.Equal("192.0.2.77", Dig(guest, "@10.0.2.3", "one.example"));
        Assert.Equal("192.0.2.77", Dig(guest, "@10.0.2.3", "+tcp", "two.example"));
        Assert.Equal("192.0.2.77", Dig(guest, "@fec0::3", "three.example"));
        Assert.Equal("192.0.2.77", Dig(guest, "@fec0::3", "+tcp", "four.example"));
        string[] names = [.. Enumerable.Range(0, 100).Select(i => $"n{i}.example")];
        Assert.Equal(100, Dig(guest, ["@10.0.2.3", .. names]).Split('\n').Count(line => line == "192.0.2.77"));
    }

    private static string Dig(LinuxGuest guest, params string[] arguments) => guest.Space.Run("dig", ["+short", "+timeout=5", .. arguments]).Trim();

    private static byte[] Answer(ReadOnlySpan<byte> query)
    {
        int end = 12 + query[12..].IndexOf((byte)0) + 5;
        byte[] answer = [.. query[..end], 0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 77];
        answer[2] = 0x81;
        answer[3] = 0x80;
        BinaryPrimitives.WriteUInt16BigEndian(answer.AsSpan(6), 1);
        answer.AsSpan(8, 4).Clear();
        return answer;
    }

    private void ServeDatagrams()
    {
        try
        {
            byte[] room = new byte[2000];
            while (true)
            {
                EndPoint from = new IPEndPoint(IPAddress.Any, 0);
                int count = _datagrams.ReceiveFrom(room, ref from);
                _datagrams.SendTo(Answer(room.AsSpan(0, count)), from);
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The test is over.
        }
    }

    private void ServeStreams()
    {
        try
        {
            byte[] room = new byte[2000];
            while (true)
            {
                using Socket socket = _streams.Accept();
                int count = socket.Receive(room);
                byte[] answer = Answer(room.AsSpan(2, count - 2));
                socket.Send([(byte)(answer.Length >> 8), (byte)answer.Length, .. answer]);
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The test is over.
        }
    }
}
