using System.Buffers.Binary;
using Tutti.Host;
using Tutti.Network.Ip;
using Tutti.Network.Tcp;
using Tutti.Workers;

namespace Tutti.Network.Services;

/// <summary>
/// Echo requests to others than the network's own addresses: each flow is a ping socket of the host's (icmp(7)), which needs no privileges where the
/// host's ping_group_range lets this user have one; where it does not, the guest is told that it is prohibited. The kernel gives requests an
/// identifier of its own, so the guest's is put back into the replies. At most <see cref="MaxFlows"/>; the one that was quiet longest goes when there are more,
/// and all go that were quiet for a minute (RFC 5508 REQ-1).
/// </summary>
internal sealed class EchoNat : IDisposable
{
    public const int MaxFlows = 64;
    private const int Header = 8;
    private const int MaxBatch = 16;
    private const long IdleTime = 60_000_000_000;
    private const long SweepTime = 10_000_000_000;

    private readonly EventLoop _loop;
    private readonly IpOutput _output;
    private readonly GuestLink _link;
    private readonly ReachPolicy _policy;
    private readonly List<EchoFlow> _flows = [];
    private readonly LoopTimer _sweep;

    public EchoNat(EventLoop loop, IpOutput output, GuestLink link, ReachPolicy policy)
    {
        (_loop, _output, _link, _policy) = (loop, output, link, policy);
        _sweep = loop.AddTimer(Sweep);
    }

    public int FlowCount => _flows.Count;

    /// <summary>An echo request from the guest, its ICMP header first, at least 8 bytes.</summary>
    public void Take(in IpEndpoints endpoints, ReadOnlySpan<byte> request)
    {
        ushort identifier = BinaryPrimitives.ReadUInt16BigEndian(request[4..]);
        EchoFlow? flow = Find(endpoints, identifier) ?? Open(endpoints, identifier);
        if (flow == null)
        {
            return;
        }

        flow.LastUse = HostTime.Nanoseconds;
        flow.Sequence = BinaryPrimitives.ReadUInt16BigEndian(request[6..]);
        int sent = flow.Socket.Send(request);
        if (sent < 0 && sent != -Errno.EAGAIN)
        {
            _output.Errors.SendFor(-sent, 0);
        }
    }

    /// <summary>Ends flows to where the guest may not go any more.</summary>
    public void Recheck()
    {
        for (int i = _flows.Count - 1; i >= 0; i--)
        {
            if (_policy.DecideEcho(_flows[i].Endpoints.IsVersion6, _flows[i].Endpoints.Destination) != Reach.Allowed)
            {
                Close(_flows[i]);
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
        while (_flows.Count > 0)
        {
            Close(_flows[^1]);
        }
    }

    private EchoFlow? Find(in IpEndpoints endpoints, ushort identifier)
    {
        foreach (EchoFlow flow in _flows)
        {
            if (flow.Identifier == identifier && flow.Endpoints == endpoints)
            {
                return flow;
            }
        }

        return null;
    }

    private EchoFlow? Open(in IpEndpoints endpoints, ushort identifier)
    {
        switch (_policy.DecideEcho(endpoints.IsVersion6, endpoints.Destination))
        {
            case Reach.Refused:
                _output.SendUnreachable(UnreachableReason.Prohibited);
                return null;
            case Reach.Ignored:
                return null;
        }

        HostSocket? socket = HostSocket.TryOpenPing(endpoints.IsVersion6, out int errno);
        if (socket == null)
        {
            // The host lets nobody have one, or not this user: said, so that nobody waits.
            _output.SendUnreachable(UnreachableReason.Prohibited);
            return null;
        }

        errno = -socket.Connect(new HostEndpoint(endpoints.IsVersion6, endpoints.Destination, 0));
        if (errno != 0)
        {
            socket.Dispose();
            _output.Errors.SendFor(errno, 0);
            return null;
        }

        if (_flows.Count >= MaxFlows)
        {
            Close(_flows.MinBy(flow => flow.LastUse)!);
        }

        EchoFlow made = new(this, endpoints, identifier, socket);
        made.Watch = _loop.TryWatch(socket.Descriptor, IoEvents.Readable, made.OnReady, out _);
        if (made.Watch == null)
        {
            socket.Dispose();
            return null;
        }

        _flows.Add(made);
        if (!_sweep.IsArmed)
        {
            _sweep.Arm(HostTime.Nanoseconds + SweepTime);
        }

        return made;
    }

    private void Receive(EchoFlow flow)
    {
        for (int i = 0; i < MaxBatch; i++)
        {
            int count = flow.Socket.ReceiveFrom(_output.Transport, out HostEndpoint from);
            if (count < 0)
            {
                if (count is not (-Errno.EAGAIN or -Errno.EINTR))
                {
                    _output.Errors.SendForEcho(-count, flow.Endpoints, flow.Identifier, flow.Sequence);
                }

                break;
            }

            // A ping socket takes replies of anybody who knows its identifier.
            Span<byte> reply = _output.Transport;
            bool isReply = count >= Header && reply[0] == (flow.Endpoints.IsVersion6 ? FrameFormat.Icmp6EchoReply : 0) && reply[1] == 0;
            if (!isReply || count > ushort.MaxValue - FrameFormat.Ip4Header || from.Address != flow.Endpoints.Destination)
            {
                continue;
            }

            // A guest without room loses it, as on any network.
            BinaryPrimitives.WriteUInt16BigEndian(reply[4..], flow.Identifier);
            IcmpResponder.Send(_output, flow.Endpoints.Reversed, count);
        }

        _link.EndBatch();
    }

    private void Sweep()
    {
        long now = HostTime.Nanoseconds;
        for (int i = _flows.Count - 1; i >= 0; i--)
        {
            if (now - _flows[i].LastUse > IdleTime)
            {
                Close(_flows[i]);
            }
        }

        if (_flows.Count > 0)
        {
            _sweep.Arm(now + SweepTime);
        }
    }

    private void Close(EchoFlow flow)
    {
        _flows.Remove(flow);
        flow.Watch!.Dispose();
        flow.Socket.Dispose();
    }

    private sealed class EchoFlow(EchoNat nat, IpEndpoints endpoints, ushort identifier, HostSocket socket)
    {
        public IpEndpoints Endpoints { get; } = endpoints;

        public ushort Identifier { get; } = identifier;

        /// <summary>Of the last request.</summary>
        public ushort Sequence { get; set; }

        public HostSocket Socket { get; } = socket;

        public LoopWatch? Watch { get; set; }

        public long LastUse { get; set; } = HostTime.Nanoseconds;

        public void OnReady(IoEvents events) => nat.Receive(this);
    }
}
