using Tutti.Host;

namespace Tutti.Network.Tcp;

/// <summary>What the TCP side wants of the host: time, and sockets. All on the network's loop.</summary>
internal interface ITcpHost
{
    /// <summary>Monotonic time, nanoseconds.</summary>
    long Now { get; }

    /// <summary>Wants <see cref="TcpEngine.RunTimers"/> at this time; replaces the time before.</summary>
    void WakeAt(long deadline);

    /// <summary>Wants <see cref="TcpEngine.Flush"/> when the work under way is done.</summary>
    void Defer();

    /// <summary>Where the host is to connect for the guest's flow.</summary>
    Reach Decide(in TcpFlow flow, out HostEndpoint destination);

    /// <summary>The network's own resolver as a peer, connected already; null where it has too many.</summary>
    ITcpSocket? ConnectResolver(Action<IoEvents> onReady);

    /// <summary>Begins to connect.</summary>
    /// <param name="onReady">Told what the socket is ready for, once per change; first when the connection is there or has failed.</param>
    /// <param name="errno">Why it failed at once, where null is returned.</param>
    ITcpSocket? Connect(in HostEndpoint destination, Action<IoEvents> onReady, out int errno);
}

/// <summary>A stream socket of the host's. Answers are counts, or negated <see cref="Errno"/>s.</summary>
internal interface ITcpSocket : IDisposable
{
    int TakeError();

    int Send(ReadOnlySpan<byte> data);

    /// <summary>Reads without taking, from this offset behind what has been taken; 0 at the stream's end.</summary>
    int Peek(int offset, Span<byte> into);

    /// <summary>Takes bytes that have been peeked.</summary>
    int Discard(int count);

    void ShutdownWrite();

    /// <summary>The guest wants to know whether the peer is still there: from now on it is asked when it is silent.</summary>
    void KeepAlive();

    void SetResetOnClose();
}
