using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;

namespace Tutti.Network.Tests.Linux;

/// <summary>A name server that knows one address for all names, by UDP and by TCP, on threads of its own.</summary>
internal sealed class TestResolver : IDisposable
{
    /// <summary>What it says of any name.</summary>
    public const string Answered = "192.0.2.77";

    /// <summary>An address of its own on the loopback, lest a resolver of the host's has the port.</summary>
    public const string Address = "127.53.53.53";

    private readonly Socket _datagrams = new(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
    private readonly Socket _streams = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);

    public TestResolver()
    {
        IPEndPoint at = new(IPAddress.Parse(Address), 53);
        _datagrams.Bind(at);
        _streams.Bind(at);
        _streams.Listen(16);
        new Thread(ServeDatagrams) { IsBackground = true }.Start();
        new Thread(ServeStreams) { IsBackground = true }.Start();
    }

    public void Dispose()
    {
        _datagrams.Dispose();
        _streams.Dispose();
    }

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
