using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using Tutti.Network.Tests.Tap;

namespace Tutti.Guest.Tests.Network;

/// <summary>The host's ends of <see cref="ServerNetworkTests"/>: small servers in a network namespace, each at a port that the kernel chose.</summary>
internal sealed class HostPeer(NetworkNamespace host) : IDisposable
{
    /// <summary>Between the pieces that a slow reader takes.</summary>
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(10);

    private readonly CancellationTokenSource _end = new();
    private readonly List<Socket> _listeners = [];
    private readonly List<Task> _served = [];

    /// <summary>What a download of so many bytes gives.</summary>
    public static byte[] Content(int count)
    {
        byte[] content = new byte[count];
        new Random(count).NextBytes(content);
        return content;
    }

    /// <summary>A sum as sha256sum prints it.</summary>
    public static string Sum(ReadOnlySpan<byte> data) => Convert.ToHexStringLower(SHA256.HashData(data));

    /// <summary>HTTP, as far as curl wants it: GET /N gives N bytes, PUT the sum of what came.</summary>
    /// <param name="isSlow">What comes is taken a little at a time, from a small buffer.</param>
    public int Web(bool isSlow = false) => Listen(
        socket => ServeWeb(socket, isSlow),
        // The listener's, for its connections to have from their beginning: one that is made smaller later lets the kernel's sender wait for its
        // probes, 200 ms each.
        isSlow ? 16384 : 0);

    /// <summary>Takes a number from each connection and answers with its opposite, none before all connections are there.</summary>
    /// <param name="count">How many those are.</param>
    public int Opposites(int count)
    {
        int open = 0;
        TaskCompletionSource all = new(TaskCreationOptions.RunContinuationsAsynchronously);
        return Listen(async socket =>
        {
            byte[] number = new byte[4];
            await ReceiveExactly(socket, number);
            if (Interlocked.Increment(ref open) == count)
            {
                all.SetResult();
            }

            await all.Task;
            await SendAll(socket, BitConverter.GetBytes(-BitConverter.ToInt32(number)));
            Assert.Equal(0, await socket.ReceiveAsync(number));
        });
    }

    /// <summary>Reads to the end of the guest's direction, and answers with the sum of it.</summary>
    public int ReadThenSend() => Listen(async socket =>
        await SendAll(socket, Encoding.ASCII.GetBytes(Sum(await ReceiveAll(socket)))));

    /// <summary>Sends so many bytes, ends its own direction, and wants their sum on the other one.</summary>
    public int SendThenRead(int count) => Listen(async socket =>
    {
        await SendAll(socket, Content(count));
        socket.Shutdown(SocketShutdown.Send);
        Assert.Equal(Sum(Content(count)), Encoding.ASCII.GetString(await ReceiveAll(socket)));
    });

    /// <summary>Waits until all that the guest began is over here too; what failed on the host fails the test.</summary>
    public void WaitForAll()
    {
        Task[] served;
        lock (_served)
        {
            served = [.. _served];
            _served.Clear();
        }

        Assert.True(Task.WaitAll(served, TimeSpan.FromSeconds(30)), $"{served.Count(task => !task.IsCompleted)} of {served.Length} connections did not end.");
    }

    public void Dispose()
    {
        _end.Cancel();
        _listeners.ForEach(listener => listener.Dispose());
        _end.Dispose();
    }

    private static int Length(string[] lines) =>
        int.Parse(lines.Single(line => line.StartsWith("Content-Length:", StringComparison.OrdinalIgnoreCase))[15..], CultureInfo.InvariantCulture);

    private static async Task ServeWeb(Socket socket, bool isSlow)
    {
        byte[] room = new byte[65536];
        int filled = 0;
        int end;
        while ((end = room.AsSpan(0, filled).IndexOf("\r\n\r\n"u8)) < 0)
        {
            int count = await socket.ReceiveAsync(room.AsMemory(filled));
            if (count == 0)
            {
                return;
            }

            filled += count;
        }

        string[] lines = Encoding.ASCII.GetString(room, 0, end).Split("\r\n");
        byte[] body = lines[0].StartsWith("GET", StringComparison.Ordinal)
            ? Content(int.Parse(lines[0].Split(' ')[1][1..], CultureInfo.InvariantCulture))
            : Encoding.ASCII.GetBytes(await Receive(socket, room.AsMemory(end + 4, filled - end - 4), Length(lines), isSlow) + "\n");
        await SendAll(socket, Encoding.ASCII.GetBytes($"HTTP/1.1 200 OK\r\nContent-Length: {body.Length}\r\nConnection: close\r\n\r\n"));
        await SendAll(socket, body);
        socket.Shutdown(SocketShutdown.Send);
    }

    private static async Task<string> Receive(Socket socket, ReadOnlyMemory<byte> first, int length, bool isSlow)
    {
        byte[] body = new byte[length];
        first.CopyTo(body);
        int filled = first.Length;
        while (filled < length)
        {
            int count = await socket.ReceiveAsync(body.AsMemory(filled, Math.Min(length - filled, 65536)));
            Assert.NotEqual(0, count);
            filled += count;
            if (isSlow)
            {
                await Task.Delay(Pause);
            }
        }

        return Sum(body);
    }

    private static async Task<byte[]> ReceiveAll(Socket socket)
    {
        using MemoryStream all = new();
        byte[] room = new byte[65536];
        int count;
        while ((count = await socket.ReceiveAsync(room)) > 0)
        {
            all.Write(room, 0, count);
        }

        return all.ToArray();
    }

    private static async Task ReceiveExactly(Socket socket, Memory<byte> room)
    {
        while (room.Length > 0)
        {
            int count = await socket.ReceiveAsync(room);
            Assert.NotEqual(0, count);
            room = room[count..];
        }
    }

    private static async Task SendAll(Socket socket, ReadOnlyMemory<byte> data)
    {
        while (data.Length > 0)
        {
            data = data[await socket.SendAsync(data)..];
        }
    }

    private int Listen(Func<Socket, Task> serve, int receiveBuffer = 0)
    {
        // Both versions: the gateway's addresses stand for the loopback's of each.
        Socket listener = host.Do(() => new Socket(AddressFamily.InterNetworkV6, SocketType.Stream, ProtocolType.Tcp) { DualMode = true });
        _listeners.Add(listener);
        if (receiveBuffer > 0)
        {
            listener.ReceiveBufferSize = receiveBuffer;
        }

        listener.Bind(new IPEndPoint(IPAddress.IPv6Any, 0));
        listener.Listen(4096);
        _ = AcceptAsync(listener, serve);
        return ((IPEndPoint)listener.LocalEndPoint!).Port;
    }

    private async Task AcceptAsync(Socket listener, Func<Socket, Task> serve)
    {
        try
        {
            while (true)
            {
                Socket socket = await listener.AcceptAsync(_end.Token);
                lock (_served)
                {
                    _served.Add(ServeAsync(socket, serve));
                }
            }
        }
        catch (Exception e) when (e is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            // The test is over.
        }
    }

    private static async Task ServeAsync(Socket socket, Func<Socket, Task> serve)
    {
        using (socket)
        {
            await serve(socket);
        }
    }
}
