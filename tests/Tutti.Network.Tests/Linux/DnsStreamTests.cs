using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Text;
using Tutti.Network.Tests.Tap;

namespace Tutti.Network.Tests.Linux;

/// <summary>TCP of the guest's to the network's resolver: nothing but queries gets through to the host's.</summary>
public sealed class DnsStreamTests : IDisposable
{
    private const string Server = "127.53.53.57";
    private static readonly IPAddress Resolver = IPAddress.Parse("10.0.2.3");
    private readonly string _file = Path.GetTempFileName();

    public DnsStreamTests() => File.WriteAllText(_file, $"nameserver {Server}\n");

    public void Dispose() => File.Delete(_file);

    public static TheoryData<string> Others => new()
    {
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",

        // A length that is right, and behind it: an answer, an update, two questions, a name without an end, bytes that are none of a header.
        Frame([0, 1, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0, 1, 97, 0, 0, 1, 0, 1]),
        Frame([0, 1, 0x28, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 97, 0, 0, 1, 0, 1]),
        Frame([0, 1, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1, 97, 0, 0, 1, 0, 1]),
        Frame([0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 63, 97, 0, 0, 1, 0, 1]),
        Frame([1, 2, 3]),
        Frame([]),
        Frame(new byte[4000]),
    };

    [TapTheory]
    [MemberData(nameof(Others))]
    public void What_is_no_query_ends_the_connection_and_reaches_nobody(string text)
    {
        using TestResolver server = new(Server);
        using LinuxGuest guest = Guest();
        using Socket socket = guest.Connect(Resolver, 53);
        socket.Send(Encoding.Latin1.GetBytes(text));
        Assert.Equal(SocketError.ConnectionReset, Assert.Throws<SocketException>(() => socket.Receive(new byte[1])).SocketErrorCode);
        Assert.Equal((0, 0), (server.Connections, server.Queries.Count));
    }

    [TapFact]
    public void Queries_in_pieces_and_many_in_a_piece_are_answered_and_their_end_ends_the_connection()
    {
        const int Count = 200;
        using TestResolver server = new(Server);
        using LinuxGuest guest = Guest();
        using Socket socket = guest.Connect(Resolver, 53);
        using NetworkStream stream = new(socket);
        socket.NoDelay = true;
        byte[] all = [.. Enumerable.Range(0, Count).SelectMany(i => Encoding.Latin1.GetBytes(Frame(Query((ushort)i, 1))))];
        foreach (byte one in all.AsSpan(0, 40))
        {
            socket.Send([one]);
        }

        socket.Send(all.AsSpan(40));
        socket.Shutdown(SocketShutdown.Send);
        SortedSet<int> answered = [];
        byte[] prefix = new byte[2];
        for (int i = 0; i < Count; i++)
        {
            stream.ReadExactly(prefix);
            byte[] answer = new byte[BinaryPrimitives.ReadUInt16BigEndian(prefix)];
            stream.ReadExactly(answer);
            Assert.Equal([192, 0, 2, 77], answer[^4..]);
            answered.Add(BinaryPrimitives.ReadUInt16BigEndian(answer));
        }

        Assert.Equal(Enumerable.Range(0, Count), answered);
        Assert.Equal(0, stream.Read(prefix));
        Assert.Equal(Count, server.Queries.Count);
        Assert.True(SpinWait.SpinUntil(() => guest.Network.Dns.StreamCount == 0, TimeSpan.FromSeconds(10)));
    }

    [TapFact]
    public void An_answer_that_is_large_comes_whole_and_a_forged_one_not_at_all()
    {
        byte[]? large = null;
        bool isForged = false;
        using TestResolver server = new(Server, query =>
        {
            large = [.. TestResolver.Answer(query), .. new byte[60_000]];
            large[^1] = 7;
            large[0] ^= isForged ? (byte)1 : (byte)0;
            return large;
        });
        using LinuxGuest guest = Guest();
        using Socket socket = guest.Connect(Resolver, 53);
        using NetworkStream stream = new(socket);
        byte[] query = Query(0x1234, 1);
        stream.Write(Encoding.Latin1.GetBytes(Frame(query)));
        byte[] answer = new byte[2 + query.Length + 16 + 60_000];
        stream.ReadExactly(answer);
        Assert.Equal(query[..2], answer[2..4]);
        Assert.Equal(large![2..], answer[4..]);

        isForged = true;
        stream.Write(Encoding.Latin1.GetBytes(Frame(query)));
        stream.ReadExactly(answer.AsSpan(0, 2 + query.Length));
        Assert.Equal((0x82, query.Length), (answer[5], answer[1]));
    }

    [TapFact]
    public void A_zone_is_not_handed_over()
    {
        using TestResolver server = new(Server);
        using LinuxGuest guest = Guest();
        using Socket socket = guest.Connect(Resolver, 53);
        using NetworkStream stream = new(socket);
        stream.Write(Encoding.Latin1.GetBytes(Frame(Query(5, 252))));
        byte[] answer = new byte[2 + 19];
        stream.ReadExactly(answer);
        Assert.Equal((0x85, 0), (answer[5], server.Queries.Count));
    }

    [TapFact]
    public void Connections_and_what_waits_in_them_have_bounds()
    {
        byte[] filling = new byte[50_000];
        using TestResolver server = new(Server, query => [.. TestResolver.Answer(query), .. filling]);
        using LinuxGuest guest = Guest();
        List<Socket> sockets = [];
        for (int i = 0; i < Dns.DnsForwarder.MaxStreams; i++)
        {
            sockets.Add(guest.Connect(Resolver, 53, 4096));
        }

        Exception refusal = Assert.Throws<InvalidOperationException>(() => guest.Connect(Resolver, 53)).InnerException!;
        Assert.Equal(SocketError.ConnectionRefused, Assert.IsType<SocketException>(refusal).SocketErrorCode);

        // Nobody reads: after the first answers no more queries are passed on.
        byte[] queries = [.. Enumerable.Range(0, 100).SelectMany(i => Encoding.Latin1.GetBytes(Frame(Query((ushort)i, 1))))];
        sockets[0].Send(queries);
        Thread.Sleep(1000);
        Assert.InRange(server.Queries.Count, 1, 10);
        foreach (Socket socket in sockets)
        {
            socket.Dispose();
        }

        Assert.True(SpinWait.SpinUntil(() => guest.Network.Dns.StreamCount == 0, TimeSpan.FromSeconds(10)));
    }

    private static byte[] Query(ushort identification, byte type) =>
        [(byte)(identification >> 8), (byte)identification, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 97, 0, 0, type, 0, 1];

    private static string Frame(byte[] message) => Encoding.Latin1.GetString([(byte)(message.Length >> 8), (byte)message.Length, .. message]);

    private LinuxGuest Guest() => new(new NetworkSpec { Ip6 = Ip6Mode.Off }, _file);
}
