using Tutti.Host;
using Tutti.Network.Ip;
using Tutti.Workers;

namespace Tutti.Network.Tcp;

/// <summary>Takes a host's socket over for a connection; null, and the socket closed, where that can't be.</summary>
internal delegate ITcpSocket? WatchSocket(HostSocket socket, Action<IoEvents> onReady, out int errno);

/// <summary>A published TCP port: who connects is handed to the guest, which sees the gateway as the caller.</summary>
internal sealed class TcpListener : IDisposable
{
    private const int Backlog = 128;
    private const int Batch = 32;
    private const long RetryNanoseconds = 200_000_000;
    private readonly TcpEngine _engine;
    private readonly Func<IpEndpoints?> _guest;
    private readonly ushort _guestPort;
    private readonly WatchSocket _watchSocket;
    private readonly HostSocket _socket;
    private readonly LoopWatch _watch;
    private readonly LoopTimer _retry;

    internal TcpListener(EventLoop loop, TcpEngine engine, in HostEndpoint at, Func<IpEndpoints?> guest, ushort guestPort, WatchSocket watchSocket)
    {
        _engine = engine;
        _guest = guest;
        _guestPort = guestPort;
        _watchSocket = watchSocket;
        _socket = HostSocket.TryOpenTcp(at.IsVersion6, out int errno) ?? throw Refusal(at, errno);
        _socket.SetReuseAddress();
        if (at.IsVersion6)
        {
            _socket.SetVersion6Only();
        }

        int answer = _socket.Bind(at);
        answer = answer == 0 ? _socket.Listen(Backlog) : answer;
        if (answer != 0)
        {
            _socket.Dispose();
            throw Refusal(at, -answer);
        }

        _retry = loop.AddTimer(() => _watch!.Change(IoEvents.Readable));
        _watch = loop.Watch(_socket.Descriptor, IoEvents.Readable, _ => Accept());
    }

    /// <summary>Where it listens, with the port that the kernel chose where none was given.</summary>
    internal HostEndpoint Local => _socket.LocalEndpoint;

    public void Dispose()
    {
        _retry.Cancel();
        _watch.Dispose();
        _socket.Dispose();
    }

    private static IOException Refusal(in HostEndpoint at, int errno) => new(errno switch
    {
        Errno.EADDRINUSE => $"cannot publish at {at}: another program listens there; choose another port",
        Errno.EACCES => $"cannot publish at {at}: ports below net.ipv4.ip_unprivileged_port_start need root; choose a port of 1024 or above",
        Errno.EADDRNOTAVAIL => $"cannot publish at {at}: the host has no such address",
        _ => $"cannot publish at {at}: {Errno.Describe(errno)}",
    });

    private void Accept()
    {
        for (int i = 0; i < Batch; i++)
        {
            HostSocket? socket = _socket.TryAccept(out _, out int errno);
            if (socket == null)
            {
                if (errno is Errno.EMFILE or Errno.ENFILE or Errno.ENOBUFS or Errno.ENOMEM)
                {
                    // Callers wait in the backlog until others have gone; the loop is not to spin meanwhile.
                    _engine.Counters.Overflows++;
                    _watch.Change(IoEvents.None);
                    _retry.Arm(HostTime.Nanoseconds + RetryNanoseconds);
                    return;
                }

                if (errno == Errno.EAGAIN)
                {
                    return;
                }

                continue;
            }

            if (_guest() is not IpEndpoints guest || !TryHandOver(guest, socket))
            {
                socket.SetResetOnClose();
                socket.Dispose();
            }
        }
    }

    private bool TryHandOver(in IpEndpoints guest, HostSocket socket) =>
        _engine.TryOpenToGuest(guest, _guestPort, onReady => _watchSocket(socket, onReady, out _));
}
