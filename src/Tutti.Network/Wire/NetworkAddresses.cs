using System.Buffers.Binary;
using System.Net;

namespace Tutti.Network;

/// <summary>The addresses of a user network: those that QEMU's has made customary, in a subnet of choice.</summary>
internal sealed class NetworkAddresses
{
    /// <summary>10.0.2.0/24.</summary>
    public const uint CustomarySubnet = 0x0A000200;

    public const int CustomaryPrefixLength = 24;

    private const ulong Prefix6High = 0xFEC0_0000_0000_0000;

    /// <param name="subnet">An IPv4 network, its host bits zero.</param>
    /// <param name="prefixLength">8 to 28.</param>
    public NetworkAddresses(uint subnet = CustomarySubnet, int prefixLength = CustomaryPrefixLength)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(prefixLength, 8);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(prefixLength, 28);
        Mask = uint.MaxValue << (32 - prefixLength);
        ArgumentOutOfRangeException.ThrowIfNotEqual(subnet & ~Mask, 0u);
        Subnet = subnet;
        PrefixLength = prefixLength;
    }

    public uint Subnet { get; }

    public uint Mask { get; }

    public int PrefixLength { get; }

    /// <summary>The gateway, which stands for the host: .2.</summary>
    public uint Host4 => Subnet + 2;

    /// <summary>.3.</summary>
    public uint Resolver4 => Subnet + 3;

    /// <summary>What DHCP leases first: .15 (.10 where the subnet has no such).</summary>
    public uint Guest4 => Subnet + (PrefixLength > 27 ? 10u : 15u);

    public uint Broadcast4 => Subnet | ~Mask;

    /// <summary>fec0::/64.</summary>
    public UInt128 Prefix6 { get; } = new(Prefix6High, 0);

    /// <summary>fec0::2.</summary>
    public UInt128 Host6 { get; } = new(Prefix6High, 2);

    /// <summary>fec0::3.</summary>
    public UInt128 Resolver6 { get; } = new(Prefix6High, 3);

    /// <summary>fe80::2, from which the router's advertisements come.</summary>
    public UInt128 LinkLocalHost6 { get; } = new(0xFE80_0000_0000_0000, 2);

    /// <summary>The gateway that stands for the host.</summary>
    public UInt128 HostFor(bool isVersion6) => isVersion6 ? Host6 : Host4;

    public UInt128 ResolverFor(bool isVersion6) => isVersion6 ? Resolver6 : Resolver4;

    /// <summary>The guest that a published port leads to: what it was leased, or in IPv6 what it last spoke from, is the network's to know; this is the first guess.</summary>
    public bool IsInSubnet(uint address) => (address & Mask) == Subnet;

    public bool IsInPrefix6(UInt128 address) => (ulong)(address >> 64) == Prefix6High;

    /// <summary>Whether the network itself answers at this address.</summary>
    public bool IsOurs(bool isVersion6, UInt128 address) => isVersion6
        ? address == Host6 || address == Resolver6 || address == LinkLocalHost6
        : address == Host4 || address == Resolver4;

    /// <summary>Text of an address, for messages.</summary>
    public static string Text(bool isVersion6, UInt128 address)
    {
        Span<byte> bytes = stackalloc byte[16];
        BinaryPrimitives.WriteUInt128BigEndian(bytes, address);
        return new IPAddress(isVersion6 ? bytes : bytes[12..]).ToString();
    }
}
