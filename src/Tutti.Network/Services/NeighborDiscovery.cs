using System.Buffers.Binary;
using Tutti.Network.Ip;

namespace Tutti.Network.Services;

/// <summary>The router of fec0::/64 (RFC 4861, 4862, 8106): answers solicitations, advertises itself, the prefix and the resolver.</summary>
internal sealed class NeighborDiscovery(NetworkAddresses addresses, IpOutput output)
{
    private const byte RouterSolicitation = 133;
    private const byte RouterAdvertisement = 134;
    private const byte NeighborSolicitation = 135;
    private const byte NeighborAdvertisement = 136;
    private const byte LinkHopLimit = 255;
    private const uint RouterLifetime = 1800;
    private const uint PrefixLifetime = 86400;

    private static readonly UInt128 AllNodes = new(0xFF02_0000_0000_0000, 1);

    /// <summary>Whether the message was one of neighbour discovery, which nobody else is to see.</summary>
    public bool TryTake(in IpEndpoints endpoints, byte hopLimit, ReadOnlySpan<byte> message)
    {
        if (message[0] is < RouterSolicitation or > 137)
        {
            return false;
        }

        // Only what comes from the link itself (RFC 4861 section 6.1).
        if (hopLimit != LinkHopLimit || message[1] != 0)
        {
            return true;
        }

        if (message[0] == RouterSolicitation)
        {
            Advertise();
        }
        else if (message[0] == NeighborSolicitation && message.Length >= 24)
        {
            UInt128 target = BinaryPrimitives.ReadUInt128BigEndian(message[8..]);
            if (addresses.IsOurs(true, target))
            {
                Answer(target, endpoints.Source);
            }
        }

        return true;
    }

    /// <summary>Tells all nodes of the router.</summary>
    public void Advertise()
    {
        Span<byte> message = output.Transport[..88];
        message.Clear();
        message[0] = RouterAdvertisement;
        message[4] = FrameFormat.HopLimit;
        BinaryPrimitives.WriteUInt16BigEndian(message[6..], (ushort)RouterLifetime);
        // Source link-layer address.
        message[16] = 1;
        message[17] = 1;
        FrameFormat.WriteMac(message[18..], FrameFormat.HostMac);
        // MTU.
        message[24] = 5;
        message[25] = 1;
        BinaryPrimitives.WriteInt32BigEndian(message[28..], output.Mtu);
        // Prefix: on-link, autonomous.
        Span<byte> prefix = message[32..];
        prefix[0] = 3;
        prefix[1] = 4;
        prefix[2] = 64;
        prefix[3] = 0xC0;
        BinaryPrimitives.WriteUInt32BigEndian(prefix[4..], PrefixLifetime);
        BinaryPrimitives.WriteUInt32BigEndian(prefix[8..], PrefixLifetime / 2);
        BinaryPrimitives.WriteUInt128BigEndian(prefix[16..], addresses.Prefix6);
        // RDNSS.
        Span<byte> resolver = message[64..];
        resolver[0] = 25;
        resolver[1] = 3;
        BinaryPrimitives.WriteUInt32BigEndian(resolver[4..], RouterLifetime);
        BinaryPrimitives.WriteUInt128BigEndian(resolver[8..], addresses.Resolver6);
        IcmpResponder.Send(output, new IpEndpoints(true, addresses.LinkLocalHost6, AllNodes), message.Length, LinkHopLimit);
    }

    private void Answer(UInt128 target, UInt128 asker)
    {
        // Who probes an address of ours for itself has no address yet: all nodes are told.
        bool isProbe = asker == 0;
        Span<byte> message = output.Transport[..32];
        message.Clear();
        message[0] = NeighborAdvertisement;
        message[4] = isProbe ? (byte)0xA0 : (byte)0xE0;
        BinaryPrimitives.WriteUInt128BigEndian(message[8..], target);
        message[24] = 2;
        message[25] = 1;
        FrameFormat.WriteMac(message[26..], FrameFormat.HostMac);
        IcmpResponder.Send(output, new IpEndpoints(true, target, isProbe ? AllNodes : asker), message.Length, LinkHopLimit);
    }
}
