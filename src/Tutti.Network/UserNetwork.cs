using System.Buffers.Binary;
using Tutti.Devices;
using Tutti.Devices.Network;
using Tutti.Host;
using Tutti.Network.Capture;
using Tutti.Network.Dns;
using Tutti.Network.Ip;
using Tutti.Network.Services;
using Tutti.Network.Tcp;
using Tutti.Workers;

namespace Tutti.Network;

/// <summary>
/// A network for one guest that needs no privileges: the guest's packets end here, and what they carry goes on through sockets of the host's. Addresses by
/// DHCP and router advertisements, a resolver, a gateway. All of it runs on a loop of its own.
/// </summary>
public sealed class UserNetwork : INetworkBackend, IIpReceiver, IDisposable
{
    private const long BlockedTime = 2_000_000;
    private const int MinFrame = FrameFormat.EthernetHeader;

    private readonly EventLoop _loop;
    private readonly PacketCapture? _capture;
    private readonly RateLimit? _limit;
    private readonly NetworkAddresses _addresses;
    private readonly GuestLink _link;
    private readonly IpOutput _output;
    private readonly IpInput _input;
    private readonly ArpResponder _arp;
    private readonly NeighborDiscovery _neighbors;
    private readonly DhcpServer _dhcp;
    private readonly DnsForwarder _dns;
    private readonly UdpNat _udp;
    private readonly EchoNat _echo;
    private readonly UdpPublisher[] _published;
    private readonly ITcpNat _tcp;
    private readonly LoopTimer _retry;
    private readonly LoopDoorbell _batchEnd;
    private readonly HostAddresses? _hostAddresses;
    private readonly RouteWatch? _routeWatch;
    private UInt128 _guest4;
    private UInt128 _guest6;
    private bool _hadCard;
    private bool _isDisposed;

    /// <summary>Makes the network; published ports are taken before it returns.</summary>
    /// <param name="spec">What it is to be like.</param>
    /// <param name="onFailure">Told what went wrong on the loop that should not have.</param>
    /// <param name="onNotice">Told, on the loop, in a line what the user should know; null for nobody.</param>
    /// <exception cref="NetworkException">A port or a file can't be had, or so many flows.</exception>
    public UserNetwork(NetworkSpec spec, Action<Exception> onFailure, Action<string>? onNotice = null)
        : this(spec, onFailure, onNotice, new HostResolvers())
    {
    }

    internal UserNetwork(NetworkSpec spec, Action<Exception> onFailure, Action<string>? onNotice, HostResolvers resolvers)
    {
        ArgumentNullException.ThrowIfNull(spec);
        Limit = FlowLimit.For(spec.Flows);
        _addresses = new NetworkAddresses(spec.Subnet, spec.PrefixLength);
        Mtu = spec.Mtu;
        HasIp6 = spec.Ip6 == Ip6Mode.On || (spec.Ip6 == Ip6Mode.Auto && HostHasIp6());
        _capture = spec.CaptureFile == null ? null : new PacketCapture(spec.CaptureFile);
        bool isLimited = spec.BitsPerSecond > 0 || spec.PacketsPerSecond > 0;
        _limit = isLimited ? new RateLimit(spec.BitsPerSecond / 8, spec.PacketsPerSecond) : null;
        _link = new GuestLink(_capture, isLimited ? new RateLimit(spec.BitsPerSecond / 8, spec.PacketsPerSecond) : null);
        _output = new IpOutput(_link, _addresses, Mtu);
        _input = new IpInput(_addresses, _link, _output.Errors, this);
        _hostAddresses = spec.IsHostAllowed ? null : HostAddresses.Open();
        _loop = new EventLoop("network", onFailure);
        Policy = new ReachPolicy(_addresses, _hostAddresses, spec.IsMetadataAllowed);
        _arp = new ArpResponder(_link, _addresses);
        _neighbors = new NeighborDiscovery(_addresses, _output);
        _dhcp = new DhcpServer(_addresses, _output, spec.HostName, "tutti.internal");
        _dns = new DnsForwarder(_loop, _output, _link, resolvers);
        _udp = new UdpNat(_loop, _output, _link, Policy, Limit.UdpFlows);
        _echo = new EchoNat(_loop, _output, _link, Policy);
        _retry = _loop.AddTimer(OnReceiveReady);
        _link.OnLimited = OnLimited;
        _batchEnd = _loop.AddDoorbell(_link.EndBatch);
        _link.OnBatchBegun = _batchEnd.Ring;
        Tcp = new TcpNat(_loop, _output, Policy, _dns.TryOpenStream, Limit.Connections, spec.BufferBytes)
        {
            OnFull = () => onNotice?.Invoke(
                $"network: {Limit.Connections} TCP connections are open, as many as the guest may have; more are refused. --net user,flows=N allows more."),
        };
        _tcp = Tcp;
        _guest4 = _addresses.Guest4;
        List<UdpPublisher> published = [];
        _published = [];
        try
        {
            _routeWatch = spec.IsHostAllowed ? null : new RouteWatch(_loop, OnRoutesChanged);
            foreach (PublishRule rule in spec.Published)
            {
                if (rule.Host.IsVersion6 && !HasIp6)
                {
                    throw rule.WithoutGuest();
                }

                if (rule.IsUdp)
                {
                    published.Add(new UdpPublisher(_loop, _output, _link, rule, published.Count, GuestEndpoints));
                    continue;
                }

                bool isVersion6 = rule.Host.IsVersion6;
                Tcp.Publish(rule.Host, () => GuestEndpoints(isVersion6), rule.GuestPort);
            }
        }
        catch (Exception e)
        {
            _published = [.. published];
            Dispose();
            if (e is IOException)
            {
                throw new NetworkException(e.Message);
            }

            throw;
        }

        _published = [.. published];
    }

    /// <inheritdoc/>
    public IDeviceWorker Worker => _loop;

    /// <inheritdoc/>
    public int Mtu { get; }

    /// <summary>Whether the guest is offered IPv6.</summary>
    public bool HasIp6 { get; }

    /// <inheritdoc/>
    public PacketOffloads Takes => PacketOffloads.Checksum | PacketOffloads.Tcp4 | PacketOffloads.Tcp6 | PacketOffloads.Ecn;

    /// <inheritdoc/>
    public bool IsLinkUp => _link.IsUp;

    /// <summary>Frames of the guest's that were not well-formed, not its own, or too many.</summary>
    public long Dropped { get; private set; }

    /// <summary>How many flows there may be.</summary>
    internal FlowLimit Limit { get; }

    internal EventLoop Loop => _loop;

    internal ReachPolicy Policy { get; }

    internal UdpNat Udp => _udp;

    internal EchoNat Echo => _echo;

    internal DnsForwarder Dns => _dns;

    internal TcpNat Tcp { get; }

    internal IReadOnlyList<UdpPublisher> PublishedUdp => _published;

    /// <summary>Pulls the cable out or puts it in. Safe from any thread.</summary>
    public void SetLink(bool isUp) => _loop.Run(() =>
    {
        _link.IsUp = isUp;
        _link.Card?.OnLinkChanged();
        _tcp.OnLinkChanged(isUp);
    });

    /// <inheritdoc/>
    /// <remarks>A card after the first is that of a machine that was reset: whoever had the flows that are open is gone.</remarks>
    public void Attach(INetworkReceiver card) => _loop.Run(() =>
    {
        if (_hadCard)
        {
            Tcp.AbortAll();
            _udp.CloseAll();
            _echo.CloseAll();
        }

        _hadCard = true;
        _link.Card = card;
    });

    /// <inheritdoc/>
    public void Detach(INetworkReceiver card)
    {
        if (_isDisposed)
        {
            return;
        }

        _loop.Run(() => _link.Card = _link.Card == card ? null : _link.Card);
    }

    /// <inheritdoc/>
    public void Send(ReadOnlySpan<byte> frame, in PacketOffload offload)
    {
        if (frame.Length < MinFrame || !_link.IsUp || (_limit != null && !_limit.TryTake(frame.Length)))
        {
            Dropped++;
            return;
        }

        _capture?.Write(frame);
        ulong destination = FrameFormat.ReadMac(frame);
        ulong source = FrameFormat.ReadMac(frame[6..]);
        if (FrameFormat.IsMulticast(source) || source == FrameFormat.HostMac || (!FrameFormat.IsMulticast(destination) && destination != FrameFormat.HostMac))
        {
            Dropped++;
            return;
        }

        _link.GuestMac = source;
        ReadOnlySpan<byte> payload = frame[FrameFormat.EthernetHeader..];
        switch (BinaryPrimitives.ReadUInt16BigEndian(frame[12..]))
        {
            case FrameFormat.TypeArp:
                _arp.Take(payload);
                break;
            case FrameFormat.TypeIp4:
                _input.Take4(payload, source, offload);
                break;
            case FrameFormat.TypeIp6 when HasIp6:
                _input.Take6(payload, source, offload);
                break;
            default:
                Dropped++;
                break;
        }
    }

    /// <inheritdoc/>
    public void EndSend()
    {
        _tcp.OnSendEnded();
        _link.EndBatch();
    }

    /// <inheritdoc/>
    public void OnReceiveReady()
    {
        _udp.Resume();
        _tcp.OnReceiveReady();
        _link.EndBatch();
    }

    public void Dispose()
    {
        if (_isDisposed)
        {
            return;
        }

        _loop.Run(() =>
        {
            _link.Card = null;
            _retry.Cancel();
            _batchEnd.Dispose();
            _routeWatch?.Dispose();
            _tcp.Dispose();
            _udp.Dispose();
            _echo.Dispose();
            _dns.Dispose();
            foreach (UdpPublisher publisher in _published)
            {
                publisher.Dispose();
            }
        });
        _isDisposed = true;
        _loop.Dispose();
        _hostAddresses?.Dispose();
        _capture?.Dispose();
    }

    /// <summary>What the network has done so far. Safe from any thread.</summary>
    public IReadOnlyList<NetworkCounter> ReadCounters()
    {
        IReadOnlyList<NetworkCounter> counters = [];
        _loop.Run(() => counters =
        [
            new("TCP connections, of the guest's", Tcp.Counters.Opened),
            new("TCP connections, to published ports", Tcp.Counters.Accepted),
            new("TCP connections, most at a time", Tcp.Counters.Most),
            new("TCP connections, limit", Limit.Connections),
            new("TCP connections, refused for want of room", Tcp.Counters.Overflows),
            new("TCP bytes that waited, most at a time", Tcp.MostBuffered, "bytes"),
            new("UDP flows", _udp.Opened),
            new("UDP flows, most at a time", _udp.Most),
            new("UDP flows, limit", Limit.UdpFlows),
            new("UDP flows, ended for newer ones", _udp.Evicted),
            new("DNS queries", _dns.Queries),
            new("DNS queries without room", _dns.Overflows),
            new("frames from the guest, dropped", Dropped + _input.Dropped),
        ]);
        return counters;
    }

    void IIpReceiver.OnPacket(in IpEndpoints endpoints, byte protocol, byte hopLimit, bool mayFragment, ReadOnlySpan<byte> payload, in PacketOffload offload)
    {
        Remember(endpoints);
        switch (protocol)
        {
            case FrameFormat.Tcp when endpoints.Source != 0:
                _tcp.OnSegment(endpoints, payload, offload);
                break;
            case FrameFormat.Udp:
                OnUdp(endpoints, mayFragment, payload);
                break;
            case FrameFormat.Icmp or FrameFormat.Icmp6:
                OnIcmp(endpoints, hopLimit, payload);
                break;
            default:
                Dropped++;
                break;
        }
    }

    private static bool HostHasIp6()
    {
        // Connecting a datagram socket sends nothing: it asks for a route to the global addresses (2000::/3).
        using HostSocket? probe = HostSocket.TryOpenUdp(true, out _);
        return probe != null && probe.Connect(new HostEndpoint(true, new UInt128(0x2000_0000_0000_0000, 1), 9)) == 0;
    }

    private void Remember(in IpEndpoints endpoints)
    {
        if (endpoints.IsVersion6)
        {
            _guest6 = _addresses.IsInPrefix6(endpoints.Source) ? endpoints.Source : _guest6;
        }
        else if (endpoints.Source != 0)
        {
            _guest4 = endpoints.Source;
        }
    }

    /// <summary>From the gateway to the guest, whom published ports lead to: the address that it spoke from last.</summary>
    private IpEndpoints? GuestEndpoints(bool isVersion6)
    {
        UInt128 guest = isVersion6 ? _guest6 : _guest4;
        return guest == 0 ? null : new IpEndpoints(isVersion6, _addresses.HostFor(isVersion6), guest);
    }

    private void OnUdp(in IpEndpoints endpoints, bool mayFragment, ReadOnlySpan<byte> udp)
    {
        ushort port = BinaryPrimitives.ReadUInt16BigEndian(udp[2..]);
        int length = BinaryPrimitives.ReadUInt16BigEndian(udp[4..]);
        if (length < FrameFormat.UdpHeader || length > udp.Length)
        {
            Dropped++;
            return;
        }

        ReadOnlySpan<byte> message = udp[FrameFormat.UdpHeader..length];
        if (!endpoints.IsVersion6 && port == DhcpServer.ServerPort && ((uint)endpoints.Destination == uint.MaxValue || endpoints.Destination == _addresses.Host4))
        {
            _dhcp.Take(message);
            return;
        }

        if (endpoints.Source == 0)
        {
            Dropped++;
            return;
        }

        if (port == ReachPolicy.DnsPort && endpoints.Destination == _addresses.ResolverFor(endpoints.IsVersion6))
        {
            _dns.Take(endpoints, BinaryPrimitives.ReadUInt16BigEndian(udp), message);
            return;
        }

        if (endpoints.Destination == _addresses.HostFor(endpoints.IsVersion6))
        {
            foreach (UdpPublisher publisher in _published)
            {
                if (publisher.TryAnswer(endpoints, udp))
                {
                    return;
                }
            }
        }

        _udp.Take(endpoints, udp, mayFragment);
    }

    private void OnIcmp(in IpEndpoints endpoints, byte hopLimit, ReadOnlySpan<byte> message)
    {
        if (endpoints.IsVersion6 && _neighbors.TryTake(endpoints, hopLimit, message))
        {
            return;
        }

        if (endpoints.Source == 0 || message[0] != (endpoints.IsVersion6 ? FrameFormat.Icmp6Echo : (byte)8))
        {
            return;
        }

        if (_addresses.IsOurs(endpoints.IsVersion6, endpoints.Destination))
        {
            IcmpResponder.Reply(_output, endpoints, message);
        }
        else
        {
            _echo.Take(endpoints, message);
        }
    }

    /// <summary>What the guest has open may lead to the host itself now.</summary>
    private void OnRoutesChanged()
    {
        _udp.Recheck();
        _echo.Recheck();
        Tcp.Recheck();
    }

    /// <summary>Where the rate is used up no card will say when there is room again.</summary>
    private void OnLimited()
    {
        if (!_retry.IsArmed)
        {
            _retry.Arm(HostTime.Nanoseconds + BlockedTime);
        }
    }
}
