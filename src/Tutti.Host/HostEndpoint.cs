using System.Buffers.Binary;
using System.Globalization;

namespace Tutti.Host;

/// <summary>An IP address and a port, as a plain value.</summary>
/// <param name="IsVersion6">IPv6, or IPv4.</param>
/// <param name="Address">The address as a number, its first byte the highest; IPv4 in the low 32 bits.</param>
/// <param name="Port">The port; 0 where the kernel is to choose.</param>
/// <param name="Scope">Interface of a link-local IPv6 address; else 0.</param>
public readonly record struct HostEndpoint(bool IsVersion6, UInt128 Address, ushort Port, uint Scope = 0)
{
    /// <summary>127.0.0.1.</summary>
    public static HostEndpoint Loopback4(ushort port) => new(false, 0x7F000001, port);

    /// <summary>::1.</summary>
    public static HostEndpoint Loopback6(ushort port) => new(true, UInt128.One, port);

    public override int GetHashCode() => HashCode.Combine(IsVersion6, Address, Port, Scope);

    /// <summary>Such as <c>127.0.0.1:80</c> or <c>[::1]:80</c>.</summary>
    public override string ToString()
    {
        // SAFETY: a span over the stack, which the compiler keeps from leaving the method.
        Span<byte> bytes = new byte[16];
        BinaryPrimitives.WriteUInt128BigEndian(bytes, Address);
        return IsVersion6
            ? string.Create(CultureInfo.InvariantCulture, $"[{new System.Net.IPAddress(bytes, Scope)}]:{Port}")
            : string.Create(CultureInfo.InvariantCulture, $"{bytes[12]}.{bytes[13]}.{bytes[14]}.{bytes[15]}:{Port}");
    }

    /// <summary>What an IP address of the runtime's and a port are.</summary>
    public static HostEndpoint From(System.Net.IPAddress address, ushort port)
    {
        ArgumentNullException.ThrowIfNull(address);
        Span<byte> bytes = new byte[16];
        bytes.Clear();
        bool isVersion6 = address.AddressFamily == System.Net.Sockets.AddressFamily.InterNetworkV6;
        address.TryWriteBytes(isVersion6 ? bytes : bytes[12..], out _);
        return new HostEndpoint(isVersion6, BinaryPrimitives.ReadUInt128BigEndian(bytes), port, isVersion6 ? (uint)address.ScopeId : 0);
    }
}
