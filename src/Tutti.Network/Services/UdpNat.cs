using System.Buffers.Binary;
using Tutti.Host;
using Tutti.Network.Ip;
using Tutti.Network.Tcp;
using Tutti.Workers;

namespace Tutti.Network.Services;

/// <summary>A UDP flow by its guest end and who the guest believes to talk to.</summary>
internal readonly record struct UdpKey(IpEndpoints Endpoints, ushort GuestPort, ushort PeerPort);

/// <summary>
/// UDP from the guest: each flow is a connected socket of the host's, so only its peer's answers come in. When there are as many as there may be the one that
/// was quiet longest goes, and all go that were quiet for five minutes (RFC 4787 REQ-5), DNS and one-question flows too.
/// </summary>
internal sealed class UdpNat : IDisposable
{
    private const long IdleTime = 300_000_000_000;
    private const long SweepTime = 10_000_000_000;
    private const int MaxBatch = 64;

    private readonly EventLoop _loop;
    private readonly IpOutput _output;
    private readonly GuestLink _link;
    private readonly ReachPolicy _policy;
    private readonly Dictionary<UdpKey, UdpFlow> _flows = [];
    private readonly LinkedList<UdpFlow> _byUse = new();
    private readonly List<UdpFlow> _paused = [];
    private readonly LoopTimer _sweep;

    /// <param name="loop">The network's.</param>
    /// <param name="output">The way to the guest.</param>
    /// <param name="link">The same.</param>
    /// <param name="policy">Where flows may go.</param>
    /// <param name="maxFlows">Most at a time.</param>
    public UdpNat(EventLoop loop, IpOutput output, GuestLink link, ReachPolicy policy, int maxFlows)
    {
        MaxFlows = maxFlows;
        _loop = loop;
        _output = output;
        _link = link;
        _policy = policy;
        _sweep = loop.AddTimer(Sweep);
    }

    public int MaxFlows { get; }

    public int FlowCount => _flows.Count;

    /// <summary>Flows that the guest has begun.</summary>
    public long Opened { get; private set; }

    /// <summary>Most flows at a time so far.</summary>
    public int Most { get; private set; }

    /// <summary>Flows that went for newer ones.</summary>
    public long Evicted { get; private set; }

    /// <summary>Datagrams for the guest that found no room.</summary>
    public long Dropped { get; private set; }

    /// <summary>A datagram from the guest, header first.</summary>
    /// <param name="endpoints">From the guest's point of view.</param>
    /// <param name="udp">Header and payload.</param>
    /// <param name="mayFragment">Whether it may be cut on its way; what may not and is too large for the path is answered so.</param>
    public void Take(in IpEndpoints endpoints, ReadOnlySpan<byte> udp, bool mayFragment)
    {
        ushort peerPort = BinaryPrimitives.ReadUInt16BigEndian(udp[2..]);
        int length = BinaryPrimitives.ReadUInt16BigEndian(udp[4..]);
        if (length < FrameFormat.UdpHeader || length > udp.Length)
        {
            return;
        }

        UdpKey key = new(endpoints, BinaryPrimitives.ReadUInt16BigEndian(udp), peerPort);
        UdpFlow? flow = _flows.GetValueOrDefault(key) ?? Open(key);
        if (flow == null)
        {
            return;
        }

        Touch(flow);
        if (flow.MayFragment != mayFragment)
        {
            flow.MayFragment = mayFragment;
            flow.Socket.SetFragmentation(mayFragment);
        }

        int sent = flow.Socket.Send(udp[FrameFormat.UdpHeader..length]);
        if (sent < 0 && sent != -Errno.EAGAIN)
        {
            _output.Errors.SendFor(-sent, sent == -Errno.EMSGSIZE ? flow.Socket.PathMtu : 0);
        }
    }

    /// <summary>The guest has room: flows that waited go on.</summary>
    public void Resume()
    {
        foreach (UdpFlow flow in _paused)
        {
            if (flow.IsPaused)
            {
                flow.IsPaused = false;
                flow.Watch!.Change(IoEvents.Readable);
            }
        }

        _paused.Clear();
    }

    /// <summary>Ends flows to where the guest may not go any more.</summary>
    public void Recheck()
    {
        for (LinkedListNode<UdpFlow>? node = _byUse.First, next; node != null; node = next)
        {
            next = node.Next;
            if (Decide(node.Value.Key, out _) != Reach.Allowed)
            {
                Close(node.Value);
            }
        }
    }

    public void Dispose()
    {
        _sweep.Cancel();
        CloseAll();
    }

    public void CloseAll()
    {
        while (_byUse.First is { } node)
        {
            Close(node.Value);
        }
    }

    private Reach Decide(in UdpKey key, out HostEndpoint to) =>
        _policy.Decide(key.Endpoints.IsVersion6, key.Endpoints.Destination, FrameFormat.Udp, key.PeerPort, out to);

    private UdpFlow? Open(in UdpKey key)
    {
        switch (Decide(key, out HostEndpoint to))
        {
            case Reach.Refused or Reach.Resolver:
                _output.SendUnreachable(UnreachableReason.Prohibited);
                return null;
            case Reach.Ignored:
                return null;
        }

        if (_flows.Count >= MaxFlows)
        {
            Evicted++;
            Close(_byUse.First!.Value);
        }

        HostSocket? socket = HostSocket.TryOpenUdp(to.IsVersion6, out _);
        int connected = socket?.Connect(to) ?? -Errno.EMFILE;
        if (connected < 0)
        {
            socket?.Dispose();
            _output.Errors.SendFor(-connected, 0);
            return null;
        }

        UdpFlow flow = new(this, key, socket!);
        flow.Watch = _loop.TryWatch(socket!.Descriptor, IoEvents.Readable, flow.OnReady, out _);
        if (flow.Watch == null)
        {
            socket.Dispose();
            return null;
        }

        _flows.Add(key, flow);
        _byUse.AddLast(flow.Node);
        Opened++;
        Most = Math.Max(Most, _flows.Count);
        if (!_sweep.IsArmed)
        {
            _sweep.Arm(HostTime.Nanoseconds + SweepTime);
        }

        return flow;
    }

    private void Touch(UdpFlow flow)
    {
        flow.LastUse = HostTime.Nanoseconds;
        if (_byUse.Last != flow.Node)
        {
            _byUse.Remove(flow.Node);
            _byUse.AddLast(flow.Node);
        }
    }

    private void Receive(UdpFlow flow)
    {
        UdpKey key = flow.Key;
        for (int i = 0; i < MaxBatch; i++)
        {
            int count = flow.Socket.Receive(_output.Transport[FrameFormat.UdpHeader..]);
            if (count < 0)
            {
                if (count != -Errno.EAGAIN && count != -Errno.EINTR)
                {
                    // The peer's refusal, or a router's word that a datagram was too large; the kernel reports it once.
                    _output.Errors.SendFor(-count, count == -Errno.EMSGSIZE ? flow.Socket.PathMtu : 0, key.Endpoints, key.GuestPort, key.PeerPort);
                }

                break;
            }

            Touch(flow);
            if (!_output.SendUdp(key.Endpoints.Reversed, key.PeerPort, key.GuestPort, count))
            {
                Dropped++;
                flow.IsPaused = true;
                flow.Watch!.Change(IoEvents.None);
                _paused.Add(flow);
                break;
            }
        }

        _link.EndBatch();
    }

    private void Sweep()
    {
        long now = HostTime.Nanoseconds;
        while (_byUse.First is { } node && now - node.Value.LastUse > IdleTime)
        {
            Close(node.Value);
        }

        if (_flows.Count > 0)
        {
            _sweep.Arm(now + SweepTime);
        }
    }

    private void Close(UdpFlow flow)
    {
        flow.IsPaused = false;
        _paused.Remove(flow);
        _flows.Remove(flow.Key);
        _byUse.Remove(flow.Node);
        flow.Watch!.Dispose();
        flow.Socket.Dispose();
    }

    private sealed class UdpFlow
    {
        private readonly UdpNat _nat;

        public UdpFlow(UdpNat nat, UdpKey key, HostSocket socket)
        {
            _nat = nat;
            Key = key;
            Socket = socket;
            Node = new LinkedListNode<UdpFlow>(this);
            LastUse = HostTime.Nanoseconds;
        }

        public UdpKey Key { get; }

        public HostSocket Socket { get; }

        public LoopWatch? Watch { get; set; }

        public LinkedListNode<UdpFlow> Node { get; }

        public long LastUse { get; set; }

        /// <summary>As the socket is set; null before it is.</summary>
        public bool? MayFragment { get; set; }

        public bool IsPaused { get; set; }

        public void OnReady(IoEvents events)
        {
            if (IsPaused)
            {
                // Only an error can be the reason; taken here, so that it wakes the loop no more.
                _ = Socket.TakeError();
                return;
            }

            _nat.Receive(this);
        }
    }
}
