using System.Buffers.Binary;

namespace Tutti.Network.Ip;

/// <summary>ICMP and ICMPv6 messages, their checksum.</summary>
internal static class IcmpResponder
{
    /// <summary>Completes and sends the message in the output's buffer.</summary>
    public static bool Send(IpOutput output, in IpEndpoints endpoints, int length, byte hopLimit = FrameFormat.HopLimit)
    {
        byte protocol = endpoints.IsVersion6 ? FrameFormat.Icmp6 : FrameFormat.Icmp;
        Span<byte> icmp = output.Transport[..length];
        icmp[2..4].Clear();
        ulong sum = endpoints.IsVersion6 ? InternetChecksum.PseudoHeader(endpoints, protocol, length) : 0;
        BinaryPrimitives.WriteUInt16BigEndian(icmp[2..], InternetChecksum.Finish(InternetChecksum.Add(sum, icmp)));
        return output.Send(endpoints, protocol, length, hopLimit);
    }

    /// <summary>Answers an echo request as the one who was asked.</summary>
    public static void Reply(IpOutput output, in IpEndpoints asked, ReadOnlySpan<byte> request)
    {
        request.CopyTo(output.Transport);
        output.Transport[0] = asked.IsVersion6 ? FrameFormat.Icmp6EchoReply : (byte)0;
        Send(output, asked.Reversed, request.Length);
    }
}
