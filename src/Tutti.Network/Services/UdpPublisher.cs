using System.Buffers.Binary;
using Tutti.Host;
using Tutti.Network.Ip;
using Tutti.Workers;

namespace Tutti.Network.Services;

/// <summary>
/// A published UDP port. Each caller has a port of the gateway's, at which the guest sees and answers him; at most <see cref="MaxCallers"/>, the one that
/// was quiet longest goes.
/// </summary>
internal sealed class UdpPublisher : IDisposable
{
    public const int MaxCallers = 256;
    private const int FirstPort = 49152;
    private const int MaxBatch = 64;
    private readonly HostSocket _socket;
    private readonly LoopWatch _watch;
    private readonly IpOutput _output;
    private readonly GuestLink _link;
    private readonly Func<bool, IpEndpoints?> _guest;
    private readonly PublishRule _rule;
    private readonly ushort _base;
    private readonly (HostEndpoint Caller, long LastUse)[] _callers = new (HostEndpoint, long)[MaxCallers];

    /// <exception cref="NetworkException">The port can't be had.</exception>
    public UdpPublisher(EventLoop loop, IpOutput output, GuestLink link, in PublishRule rule, int index, Func<bool, IpEndpoints?> guest)
    {
        (_output, _link, _rule, _guest) = (output, link, rule, guest);
        _base = (ushort)(FirstPort + (index % 63 * MaxCallers));
        PublishRule copy = rule;
        _socket = HostSocket.TryOpenUdp(rule.Host.IsVersion6, out int errno) ?? throw copy.Unavailable(errno);
        int bound = _socket.Bind(rule.Host);
        if (bound < 0)
        {
            _socket.Dispose();
            throw rule.Unavailable(-bound);
        }

        _watch = loop.Watch(_socket.Descriptor, IoEvents.Readable, _ => Receive());
    }

    /// <summary>Where it listens, the port that the kernel chose too.</summary>
    public HostEndpoint Local => _socket.LocalEndpoint;

    /// <summary>Takes the guest's answer where it is one of this port's.</summary>
    public bool TryAnswer(in IpEndpoints endpoints, ReadOnlySpan<byte> udp)
    {
        int caller = BinaryPrimitives.ReadUInt16BigEndian(udp[2..]) - _base;
        int length = BinaryPrimitives.ReadUInt16BigEndian(udp[4..]);
        if (endpoints.IsVersion6 != _rule.Host.IsVersion6 || caller is < 0 or >= MaxCallers || _callers[caller].LastUse == 0 ||
            BinaryPrimitives.ReadUInt16BigEndian(udp) != _rule.GuestPort || length < FrameFormat.UdpHeader || length > udp.Length)
        {
            return false;
        }

        _callers[caller].LastUse = HostTime.Nanoseconds;
        _socket.SendTo(udp[FrameFormat.UdpHeader..length], _callers[caller].Caller);
        return true;
    }

    public void Dispose()
    {
        _watch.Dispose();
        _socket.Dispose();
    }

    private void Receive()
    {
        for (int i = 0; i < MaxBatch; i++)
        {
            int count = _socket.ReceiveFrom(_output.Transport[FrameFormat.UdpHeader..], out HostEndpoint from);
            if (count < 0)
            {
                break;
            }

            // A guest without an address, or without room, loses it as on any network.
            if (_guest(_rule.Host.IsVersion6) is IpEndpoints endpoints && count <= 65535 - FrameFormat.Ip4Header - FrameFormat.UdpHeader)
            {
                _output.SendUdp(endpoints, (ushort)(_base + IndexOf(from)), _rule.GuestPort, count);
            }
        }

        _link.EndBatch();
    }

    private int IndexOf(in HostEndpoint caller)
    {
        int oldest = 0;
        for (int i = 0; i < MaxCallers; i++)
        {
            if (_callers[i].LastUse != 0 && _callers[i].Caller == caller)
            {
                _callers[i].LastUse = HostTime.Nanoseconds;
                return i;
            }

            oldest = _callers[i].LastUse < _callers[oldest].LastUse ? i : oldest;
        }

        _callers[oldest] = (caller, HostTime.Nanoseconds);
        return oldest;
    }
}
