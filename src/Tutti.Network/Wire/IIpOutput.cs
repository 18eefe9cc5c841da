using Tutti.Network.Ip;

namespace Tutti.Network.Tcp;

/// <summary>Where segments for the guest go out: headers are built in front of them and the frame is given to the card. On the network's loop only.</summary>
internal interface IIpOutput
{
    /// <summary>The largest TCP header and payload together that <see cref="ReserveTcp"/> has room for, in bytes.</summary>
    const int MaxSegment = 65535 - 40;

    /// <summary>Largest IP packet that is not segmented, in bytes. TCP's MSS to announce is this less 40 (IPv4) or 60 (IPv6).</summary>
    int Mtu { get; }

    /// <summary>
    /// The one buffer in which a segment is to be written (<see cref="MaxSegment"/> bytes): TCP header first, the payload right behind it, read from
    /// the host's socket straight to where it stays. Whatever is sent from this network overwrites it; so reserve, fill and send without
    /// anything between.
    /// </summary>
    Span<byte> ReserveTcp();

    /// <summary>
    /// Sends the segment in the buffer. Written here: IP header, checksum, and where the card does not cut segments itself, each piece's sequence
    /// number and flags (FIN and PSH on the last one only, CWR on the first). In the header as handed over the checksum field is of no matter.
    /// </summary>
    /// <param name="endpoints">The source is who the guest believes to talk to, the destination the guest.</param>
    /// <param name="headerLength">TCP header with options, 20 to 60 bytes.</param>
    /// <param name="payloadLength">Bytes behind it; <see cref="MaxSegment"/> less <paramref name="headerLength"/> at most.</param>
    /// <param name="segmentSize">The most payload of one piece: the guest's MSS less the options' bytes, and no more than the MTU has room for.</param>
    /// <returns>
    /// Payload bytes that went out, less than <paramref name="payloadLength"/> where the guest's room ended between pieces; -1 when not even the first
    /// (or a segment without payload) had room. In both cases <see cref="ITcpNat.OnReceiveReady"/> follows. A card that is unplugged or down
    /// swallows all.
    /// </returns>
    int SendTcp(in IpEndpoints endpoints, int headerLength, int payloadLength, int segmentSize);

    /// <summary>
    /// Answers the guest's packet that <see cref="ITcpNat.OnSegment"/> is being called for with an ICMP error: destination unreachable. For what the
    /// policy or the host's network refuses. Limited in rate.
    /// </summary>
    void SendUnreachable(UnreachableReason reason);
}

/// <summary>Why a packet did not arrive (RFC 792, RFC 4443).</summary>
internal enum UnreachableReason
{
    Network,
    Host,
    Port,
    Prohibited,
}
