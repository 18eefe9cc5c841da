using System.Buffers.Binary;
using Tutti.Host;
using Tutti.Network.Tcp;

namespace Tutti.Network.Ip;

/// <summary>Tells the guest what became of its packets (RFC 792, RFC 4443), at most 100 times a second with as many in a burst.</summary>
internal sealed class IcmpErrors
{
    private const int MaxQuote = 512;
    private const int QuotedTransport = 8;
    private const long NanosecondsEach = 10_000_000;
    private const long Burst = 100 * NanosecondsEach;

    private readonly IpOutput _output;
    private readonly NetworkAddresses _addresses;
    private readonly byte[] _packet = new byte[MaxQuote];
    private int _packetLength;
    private IpEndpoints _endpoints;
    private long _spentUntil;

    public IcmpErrors(IpOutput output, NetworkAddresses addresses)
    {
        _output = output;
        _addresses = addresses;
    }

    /// <summary>Keeps the head of the packet that is being looked at, which an error has to quote.</summary>
    public void Remember(in IpEndpoints endpoints, ReadOnlySpan<byte> packet)
    {
        _endpoints = endpoints;
        _packetLength = Math.Min(packet.Length, MaxQuote);
        packet[.._packetLength].CopyTo(_packet);
    }

    /// <summary>There is no packet to quote any more.</summary>
    public void Forget() => _packetLength = 0;

    /// <summary>Answers the packet that is being looked at.</summary>
    public void SendUnreachable(UnreachableReason reason)
    {
        bool isVersion6 = _endpoints.IsVersion6;
        byte code = reason switch
        {
            UnreachableReason.Network => 0,
            UnreachableReason.Host => isVersion6 ? (byte)3 : (byte)1,
            UnreachableReason.Port => isVersion6 ? (byte)4 : (byte)3,
            _ => isVersion6 ? (byte)1 : (byte)13,
        };
        Send(isVersion6 ? (byte)1 : (byte)3, code, 0);
    }

    /// <summary>Packet too big, or fragmentation needed.</summary>
    public void SendTooBig(int mtu) => Send(_endpoints.IsVersion6 ? (byte)2 : (byte)3, _endpoints.IsVersion6 ? (byte)0 : (byte)4, (uint)mtu);

    /// <summary>What a host's socket said of a packet that the guest had sent.</summary>
    public void SendFor(int errno, int mtu)
    {
        switch (errno)
        {
            case Errno.ECONNREFUSED:
                SendUnreachable(UnreachableReason.Port);
                break;
            case Errno.EHOSTUNREACH or Errno.EHOSTDOWN:
                SendUnreachable(UnreachableReason.Host);
                break;
            case Errno.ENETUNREACH or Errno.ENETDOWN or Errno.EADDRNOTAVAIL:
                SendUnreachable(UnreachableReason.Network);
                break;
            case Errno.EPERM or Errno.EACCES:
                SendUnreachable(UnreachableReason.Prohibited);
                break;
            case Errno.EMSGSIZE when mtu > 0:
                SendTooBig(mtu);
                break;
        }
    }

    /// <summary>For a UDP packet that was sent a while ago: the quote is made up from the flow.</summary>
    public void SendFor(int errno, int mtu, in IpEndpoints endpoints, ushort sourcePort, ushort destinationPort)
    {
        Span<byte> udp = MakeQuote(endpoints, FrameFormat.Udp);
        BinaryPrimitives.WriteUInt16BigEndian(udp, sourcePort);
        BinaryPrimitives.WriteUInt16BigEndian(udp[2..], destinationPort);
        udp[5] = FrameFormat.UdpHeader;
        SendFor(errno, mtu);
        _packetLength = 0;
    }

    /// <summary>The same for an echo request.</summary>
    public void SendForEcho(int errno, in IpEndpoints endpoints, ushort identifier, ushort sequence)
    {
        Span<byte> icmp = MakeQuote(endpoints, endpoints.IsVersion6 ? FrameFormat.Icmp6 : FrameFormat.Icmp);
        icmp[0] = endpoints.IsVersion6 ? FrameFormat.Icmp6Echo : (byte)8;
        BinaryPrimitives.WriteUInt16BigEndian(icmp[4..], identifier);
        BinaryPrimitives.WriteUInt16BigEndian(icmp[6..], sequence);
        SendFor(errno, 0);
        _packetLength = 0;
    }

    /// <summary>Makes the packet that an error is to quote; gives the 8 bytes behind its IP header, zero.</summary>
    private Span<byte> MakeQuote(in IpEndpoints endpoints, byte protocol)
    {
        int header = endpoints.IsVersion6 ? FrameFormat.Ip6Header : FrameFormat.Ip4Header;
        Span<byte> ip = _packet.AsSpan(0, header + QuotedTransport);
        ip.Clear();
        ip[0] = endpoints.IsVersion6 ? (byte)0x60 : (byte)0x45;
        if (endpoints.IsVersion6)
        {
            ip[5] = QuotedTransport;
            ip[6] = protocol;
            ip[7] = FrameFormat.HopLimit;
            BinaryPrimitives.WriteUInt128BigEndian(ip[8..], endpoints.Source);
            BinaryPrimitives.WriteUInt128BigEndian(ip[24..], endpoints.Destination);
        }
        else
        {
            ip[3] = (byte)ip.Length;
            ip[8] = FrameFormat.HopLimit;
            ip[9] = protocol;
            BinaryPrimitives.WriteUInt32BigEndian(ip[12..], (uint)endpoints.Source);
            BinaryPrimitives.WriteUInt32BigEndian(ip[16..], (uint)endpoints.Destination);
            BinaryPrimitives.WriteUInt16BigEndian(ip[10..], InternetChecksum.Finish(InternetChecksum.Add(0, ip[..header])));
        }

        _packetLength = ip.Length;
        _endpoints = endpoints;
        return ip[header..];
    }

    private void Send(byte type, byte code, uint value)
    {
        long now = HostTime.Nanoseconds;
        long spent = Math.Max(_spentUntil, now) + NanosecondsEach;
        if (_packetLength == 0 || spent - now > Burst)
        {
            return;
        }

        _spentUntil = spent;
        // A router's error comes from the router; one of a port comes from whom the guest asked.
        bool isFromTarget = type == (_endpoints.IsVersion6 ? 1 : 3) && code == (_endpoints.IsVersion6 ? 4 : 3);
        IpEndpoints back = new(_endpoints.IsVersion6, isFromTarget ? _endpoints.Destination : _addresses.HostFor(_endpoints.IsVersion6), _endpoints.Source);
        Span<byte> icmp = _output.Transport[..(8 + _packetLength)];
        icmp[0] = type;
        icmp[1] = code;
        icmp[2..4].Clear();
        BinaryPrimitives.WriteUInt32BigEndian(icmp[4..], value);
        _packet.AsSpan(0, _packetLength).CopyTo(icmp[8..]);
        IcmpResponder.Send(_output, back, icmp.Length);
    }
}
