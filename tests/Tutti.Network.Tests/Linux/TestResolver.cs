using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;

namespace Tutti.Network.Tests.Linux;

/// <summary>A name server by UDP and by TCP, on threads of its own, which knows one address for all names unless it is told to answer otherwise.</summary>
internal sealed class TestResolver : IDisposable
{
    /// <summary>What it says of any name.</summary>
    public const string Answered = "192.0.2.77";

    /// <summary>An address of its own on the loopback, lest a resolver of the host's has the port.</summary>
    public const string Address = "127.53.53.53";

    private readonly Socket _datagrams;
    private readonly Socket _streams;
    private readonly Func<byte[], byte[]?> _answer;

    /// <param name="address">Where it listens, at port 53.</param>
    /// <param name="answer">What it answers a query; null for nothing.</param>
    public TestResolver(string address = Address, Func<byte[], byte[]?>? answer = null)
    {
        _answer = answer ?? Answer;
        IPEndPoint at = new(IPAddress.Parse(address), 53);
        _datagrams = new Socket(at.AddressFamily, SocketType.Dgram, ProtocolType.Udp);
        _streams = new Socket(at.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        _datagrams.Bind(at);
        _streams.Bind(at);
        _streams.Listen(128);
        new Thread(ServeDatagrams) { IsBackground = true }.Start();
        new Thread(AcceptStreams) { IsBackground = true }.Start();
    }

    /// <summary>Queries that have come, by both protocols.</summary>
    public ConcurrentQueue<byte[]> Queries { get; } = new();

    /// <summary>TCP connections that have come.</summary>
    public int Connections { get; private set; }

    public void Dispose()
    {
        _datagrams.Dispose();
        _streams.Dispose();
    }

    /// <summary>An address for the name that was asked for.</summary>
    public static byte[] Answer(byte[] query)
    {
        byte[] answer = [.. Refuse(query, 0), 0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 77];
        BinaryPrimitives.WriteUInt16BigEndian(answer.AsSpan(6), 1);
        return answer;
    }

    /// <summary>An answer without any record.</summary>
    /// <param name="query">The query.</param>
    /// <param name="code">RCODE, 0 to 15.</param>
    /// <param name="recurses">Whether it says that it would ask others.</param>
    public static byte[] Refuse(byte[] query, int code, bool recurses = true)
    {
        int end = 12 + query.AsSpan(12).IndexOf((byte)0) + 5;
        byte[] answer = query[..end];
        answer[2] = 0x81;
        answer[3] = (byte)((recurses ? 0x80 : 0) | code);
        answer.AsSpan(6, 6).Clear();
        return answer;
    }

    private byte[]? Take(byte[] query)
    {
        Queries.Enqueue(query);
        return _answer(query);
    }

    private void ServeDatagrams()
    {
        try
        {
            byte[] room = new byte[2000];
            while (true)
            {
                EndPoint from = new IPEndPoint(_datagrams.AddressFamily == AddressFamily.InterNetwork ? IPAddress.Any : IPAddress.IPv6Any, 0);
                int count = _datagrams.ReceiveFrom(room, ref from);
                if (Take(room[..count]) is byte[] answer)
                {
                    _datagrams.SendTo(answer, from);
                }
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The test is over.
        }
    }

    private void AcceptStreams()
    {
        try
        {
            while (true)
            {
                Socket socket = _streams.Accept();
                Connections++;
                new Thread(() => ServeStream(socket)) { IsBackground = true }.Start();
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The test is over.
        }
    }

    private void ServeStream(Socket socket)
    {
        try
        {
            using NetworkStream stream = new(socket, ownsSocket: true);
            byte[] prefix = new byte[2];
            while (true)
            {
                stream.ReadExactly(prefix);
                byte[] query = new byte[BinaryPrimitives.ReadUInt16BigEndian(prefix)];
                stream.ReadExactly(query);
                if (Take(query) is byte[] answer)
                {
                    stream.Write([(byte)(answer.Length >> 8), (byte)answer.Length, .. answer]);
                }
            }
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException)
        {
            // The other side has had enough.
        }
    }
}
