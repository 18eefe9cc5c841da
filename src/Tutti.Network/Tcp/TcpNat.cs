using Tutti.Devices.Network;
using Tutti.Host;
using Tutti.Network.Ip;
using Tutti.Workers;

namespace Tutti.Network.Tcp;

/// <summary>TCP of a user network: each connection of the guest's becomes one of the host's, and each to a published port one of the guest's.</summary>
internal sealed class TcpNat : ITcpNat, ITcpHost
{
    /// <summary>So many connections have the buffers that the host's kernel makes grow, some MiB each; those beyond get fixed ones.</summary>
    private const int FreelyBuffered = 32;

    private const int LeastBuffer = 16 << 10;
    private const int MostBuffer = 1 << 20;

    private readonly ReachPolicy _policy;
    private readonly EventLoop _loop;
    private readonly LoopTimer _timer;
    private readonly LoopTimer _sweep;
    private readonly LoopDoorbell _deferred;
    private readonly byte[] _scratch = GC.AllocateUninitializedArray<byte>(65536);
    private readonly List<TcpListener> _listeners = [];
    private readonly TcpEngine _engine;
    private readonly int _bufferSize;
    private readonly Func<Action<IoEvents>, ITcpSocket?> _connectResolver;

    /// <summary>On the network's loop, or before it has work.</summary>
    /// <param name="loop">The network's.</param>
    /// <param name="output">The way to the guest.</param>
    /// <param name="policy">Where connections may go.</param>
    /// <param name="connectResolver">Makes the network's resolver the peer of a connection; null where it has too many.</param>
    /// <param name="maxConnections">Most at a time.</param>
    /// <param name="bufferBytes">Most bytes that wait here; as many may wait in the kernel's buffers of a crowd of connections, each way.</param>
    internal TcpNat(EventLoop loop, IIpOutput output, ReachPolicy policy, Func<Action<IoEvents>, ITcpSocket?> connectResolver, int maxConnections, long bufferBytes)
    {
        _bufferSize = (int)Math.Clamp(bufferBytes / maxConnections, LeastBuffer, MostBuffer);
        _connectResolver = connectResolver;
        _loop = loop;
        _policy = policy;
        _timer = loop.AddTimer(() => _engine!.RunTimers());
        _sweep = loop.AddTimer(Sweep);
        _deferred = loop.AddDoorbell(() => _engine!.Flush());
        _engine = new TcpEngine(this, output, maxConnections, bufferBytes);
    }

    internal TcpCounters Counters => _engine.Counters;

    /// <summary>Seconds that the peer of a connection may be silent whose guest asks whether it is there.</summary>
    internal int KeepAliveSeconds { get; set; } = 30;

    /// <summary>Time between two looks for connections that the guest is silent on, nanoseconds.</summary>
    internal long SweepNanoseconds { get; set; } = TcpConnection.SweepNanoseconds;

    /// <summary>Most bytes from the guest that have waited so far.</summary>
    internal long MostBuffered => (long)_engine.Chunks.Most * TcpChunk.Size;

    /// <summary>Called once, when a connection finds no room.</summary>
    internal Action? OnFull { set => _engine.OnFull = value; }

    long ITcpHost.Now => HostTime.Nanoseconds;

    public void OnSegment(in IpEndpoints endpoints, ReadOnlySpan<byte> segment, in PacketOffload offload) => _engine.OnSegment(endpoints, segment);

    public void OnSendEnded() => _engine.Flush();

    public void OnReceiveReady() => _engine.OnReceiveReady();

    public void OnLinkChanged(bool isUp)
    {
        if (isUp)
        {
            _engine.OnReceiveReady();
        }
    }

    /// <summary>Takes connections at a host's address for a port of the guest's.</summary>
    /// <param name="at">Where to listen.</param>
    /// <param name="guest">Who the guest is to believe is calling, and the guest's address, asked for each connection; null while it has none, and then callers are reset.</param>
    /// <param name="guestPort">The guest's port.</param>
    /// <exception cref="IOException">The address can't be had; the message says why.</exception>
    internal HostEndpoint Publish(in HostEndpoint at, Func<IpEndpoints?> guest, ushort guestPort)
    {
        TcpListener listener = new(_loop, _engine, at, guest, guestPort, TryWatch);
        _listeners.Add(listener);
        return listener.Local;
    }

    /// <summary>Ends all connections: the guest that had them is gone.</summary>
    internal void AbortAll() => _engine.AbortAll();

    /// <summary>Ends what is still on its way to where the guest may not go any more.</summary>
    internal void Recheck() => _engine.Recheck();

    public void Dispose()
    {
        foreach (TcpListener listener in _listeners)
        {
            listener.Dispose();
        }

        _listeners.Clear();
        _engine.AbortAll();
        _timer.Cancel();
        _sweep.Cancel();
        _deferred.Dispose();
    }

    void ITcpHost.WakeAt(long deadline) => _timer.Arm(deadline);

    void ITcpHost.Defer() => _deferred.Ring();

    Reach ITcpHost.Decide(in TcpFlow flow, out HostEndpoint destination) =>
        _policy.Decide(flow.IsVersion6, flow.PeerAddress, FrameFormat.Tcp, flow.PeerPort, out destination);

    ITcpSocket? ITcpHost.ConnectResolver(Action<IoEvents> onReady) => _connectResolver(onReady);

    ITcpSocket? ITcpHost.Connect(in HostEndpoint destination, Action<IoEvents> onReady, out int errno)
    {
        HostSocket? socket = HostSocket.TryOpenTcp(destination.IsVersion6, out errno);
        if (socket == null)
        {
            return null;
        }

        int answer = socket.Connect(destination);
        if (answer is not 0 and not -Errno.EINPROGRESS)
        {
            errno = -answer;
            socket.Dispose();
            return null;
        }

        return TryWatch(socket, onReady, out errno);
    }

    /// <summary>Takes a host's socket over for a connection; null, and the socket closed, where the kernel can't watch it.</summary>
    private TcpSocket? TryWatch(HostSocket socket, Action<IoEvents> onReady, out int errno)
    {
        if (_engine.Counters.Connections > FreelyBuffered)
        {
            socket.SetBuffers(_bufferSize);
        }

        if (!_sweep.IsArmed)
        {
            _sweep.Arm(HostTime.Nanoseconds + SweepNanoseconds);
        }

        return TcpSocket.TryWatch(_loop, socket, onReady, _scratch, KeepAliveSeconds, out errno);
    }

    private void Sweep()
    {
        _engine.Sweep();
        if (_engine.Counters.Connections > 0)
        {
            _sweep.Arm(HostTime.Nanoseconds + SweepNanoseconds);
        }
    }
}
