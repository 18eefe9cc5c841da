namespace Tutti.Network;

/// <summary>IPv4 addresses that IPv6 addresses carry, by which a translator or a tunnel on the way, or the host itself, reaches the IPv4 address.</summary>
internal static class EmbeddedAddresses
{
    /// <summary>As many as one address can carry, by all readings.</summary>
    public const int Most = 4;

    /// <summary>Finds them; gives their number. What is ambiguous gives all its readings.</summary>
    public static int Find(UInt128 address, Span<uint> found)
    {
        ulong high = (ulong)(address >> 64);
        ulong low = (ulong)address;
        int count = 0;
        if (high == 0x0064_FF9B_0000_0000 && low >> 32 == 0)
        {
            // NAT64's well-known prefix 64:ff9b::/96 (RFC 6052).
            found[count++] = (uint)low;
        }
        else if (high >> 16 == 0x0064_FF9B_0001)
        {
            // NAT64's prefixes of local use lie in 64:ff9b:1::/48 (RFC 8215), as long as who runs them likes; bits 64 to 71 are never of the address (RFC 6052, 2.2).
            found[count++] = (uint)low;
            found[count++] = (uint)(low >> 24);
            found[count++] = ((uint)high << 24) | (uint)(low >> 32 & 0xFFFFFF);
            found[count++] = ((uint)high << 16) | (uint)(low >> 40 & 0xFFFF);
        }
        else if (high >> 48 == 0x2002)
        {
            // 6to4 (RFC 3056).
            found[count++] = (uint)(high >> 16);
        }
        else if (high >> 32 == 0x2001_0000)
        {
            // Teredo: its server, and its client, inverted (RFC 4380).
            found[count++] = (uint)high;
            found[count++] = ~(uint)low;
        }

        // ISATAP's interface identifiers, in any prefix (RFC 5214).
        if (low >> 32 is 0x0000_5EFE or 0x0200_5EFE && count < Most)
        {
            found[count++] = (uint)low;
        }

        return count;
    }
}
