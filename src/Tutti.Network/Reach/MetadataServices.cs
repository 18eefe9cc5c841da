namespace Tutti.Network;

/// <summary>
/// Addresses at which clouds tell a machine about itself, its credentials among it, and ask nobody who he is. Sources: the providers' manuals, and cloud-init's,
/// which reads them all.
/// </summary>
internal static class MetadataServices
{
    /// <summary>Whether an IPv4 address is one of them, or link-local (169.254.0.0/16), where most are.</summary>
    public static bool Contains(uint address) => address >> 16 == 0xA9FE || address is
        0x6464_64C8 or // Alibaba: 100.100.100.200
        0xA83F_8110 or // Azure's WireServer, which hands out certificates: 168.63.129.16
        0xC000_00C0;   // Oracle's classic cloud: 192.0.0.192

    /// <summary>Whether an IPv6 address is one of them; link-local ones are out of reach by themselves.</summary>
    public static bool Contains(UInt128 address)
    {
        ulong high = (ulong)(address >> 64);
        ulong low = (ulong)address;
        return high >> 32 == 0xFD00_0EC2 || // Amazon, its services' prefix: fd00:ec2::254 and ::23
            high == 0xFD20_00CE_0000_0000 || // Google: fd20:ce::254
            high == 0xFD00_A9FE_A9FE_0000 || // Akamai: fd00:a9fe:a9fe::1
            (high == 0xFD00_00C1_0000_0000 && low == 0xA9FE_A9FE) || // Oracle: fd00:c1::a9fe:a9fe
            (high == 0xFD00_0042_0000_0000 && low == 0x42) || // Scaleway: fd00:42::42
            (high == 0xFD00_0100_0000_0000 && low == 0x0100_0200); // Alibaba: fd00:100::100:200
    }
}
