using System.Buffers.Binary;
using System.Numerics;
using System.Runtime.InteropServices;

namespace Tutti.Network.Ip;

/// <summary>The ones' complement sum of IP, TCP, UDP and ICMP (RFC 1071). Sums are in the bytes' order in memory until the end, as the RFC permits.</summary>
internal static class InternetChecksum
{
    /// <summary>Adds bytes to a sum; an odd last byte counts as padded with zero, so only the last span may have one.</summary>
    public static ulong Add(ulong sum, ReadOnlySpan<byte> bytes)
    {
        // Four 32-bit lanes widened to 64 bits can't overflow with 64 KiB.
        ReadOnlySpan<uint> words = MemoryMarshal.Cast<byte, uint>(bytes);
        int done = 0;
        if (words.Length >= Vector<uint>.Count)
        {
            Vector<ulong> lanes = Vector<ulong>.Zero;
            for (; done + Vector<uint>.Count <= words.Length; done += Vector<uint>.Count)
            {
                Vector.Widen(new Vector<uint>(words[done..]), out Vector<ulong> low, out Vector<ulong> high);
                lanes += low + high;
            }

            sum += Vector.Sum(lanes);
        }

        for (; done < words.Length; done++)
        {
            sum += words[done];
        }

        ReadOnlySpan<byte> rest = bytes[(words.Length * 4)..];
        if (rest.Length >= 2)
        {
            sum += MemoryMarshal.Read<ushort>(rest);
            rest = rest[2..];
        }

        return rest.Length > 0 ? sum + rest[0] : sum;
    }

    /// <summary>The pseudo-header's sum (RFC 793, RFC 8200 section 8.1).</summary>
    public static ulong PseudoHeader(in IpEndpoints endpoints, byte protocol, int length)
    {
        Span<byte> header = stackalloc byte[40];
        BinaryPrimitives.WriteUInt128BigEndian(header, endpoints.Source);
        BinaryPrimitives.WriteUInt128BigEndian(header[16..], endpoints.Destination);
        BinaryPrimitives.WriteInt32BigEndian(header[32..], length);
        BinaryPrimitives.WriteInt32BigEndian(header[36..], protocol);
        // IPv4 addresses lie in the low bytes, behind zeros, which add nothing; so does the length.
        return Add(0, header);
    }

    /// <summary>The sum in 16 bits, not complemented, as a number to be written in network order.</summary>
    public static ushort Fold(ulong sum)
    {
        sum = (sum & 0xFFFF_FFFF) + (sum >> 32);
        sum = (sum & 0xFFFF_FFFF) + (sum >> 32);
        sum = (sum & 0xFFFF) + (sum >> 16);
        sum = (sum & 0xFFFF) + (sum >> 16);
        sum = (sum & 0xFFFF) + (sum >> 16);
        return BinaryPrimitives.ReverseEndianness((ushort)sum);
    }

    /// <summary>The checksum that a header carries.</summary>
    public static ushort Finish(ulong sum) => (ushort)~Fold(sum);
}
