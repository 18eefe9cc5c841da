using System.Buffers.Binary;
using System.Globalization;

namespace Tutti.Devices.Network;

/// <summary>An Ethernet address, its first byte on the wire in bits 47:40.</summary>
public readonly record struct MacAddress
{
    /// <summary>Bytes of an address.</summary>
    public const int Size = 6;

    /// <param name="value">The address in bits 47:0; the others are ignored.</param>
    public MacAddress(ulong value) => Value = value & 0xFFFF_FFFF_FFFF;

    /// <summary>The address as a number; the upper 16 bits are 0.</summary>
    public ulong Value { get; }

    /// <summary>All stations.</summary>
    public static MacAddress Broadcast { get; } = new(ulong.MaxValue);

    /// <summary>Whether it names a group, broadcast among them.</summary>
    public bool IsMulticast => (Value & (1UL << 40)) != 0;

    /// <summary>Reads the first 6 bytes.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There are fewer.</exception>
    public static MacAddress Read(ReadOnlySpan<byte> from) =>
        new(((ulong)BinaryPrimitives.ReadUInt16BigEndian(from) << 32) | BinaryPrimitives.ReadUInt32BigEndian(from[sizeof(ushort)..]));

    /// <summary>Reads six two-digit hexadecimal numbers with colons between them, as 52:54:00:12:34:56.</summary>
    public static bool TryParse(ReadOnlySpan<char> text, out MacAddress address)
    {
        address = default;
        if (text.Length != (3 * Size) - 1)
        {
            return false;
        }

        ulong value = 0;
        for (int i = 0; i < text.Length; i += 3)
        {
            if ((i != 0 && text[i - 1] != ':') || !byte.TryParse(text.Slice(i, 2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out byte part))
            {
                return false;
            }

            value = (value << 8) | part;
        }

        address = new MacAddress(value);
        return true;
    }

    /// <summary>Writes the 6 bytes.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There is less room.</exception>
    public void Write(Span<byte> to)
    {
        BinaryPrimitives.WriteUInt16BigEndian(to, (ushort)(Value >> 32));
        BinaryPrimitives.WriteUInt32BigEndian(to[sizeof(ushort)..], (uint)Value);
    }

    /// <summary>As <see cref="TryParse"/> reads it.</summary>
    public override string ToString() => string.Create(
        CultureInfo.InvariantCulture,
        $"{(byte)(Value >> 40):x2}:{(byte)(Value >> 32):x2}:{(byte)(Value >> 24):x2}:{(byte)(Value >> 16):x2}:{(byte)(Value >> 8):x2}:{(byte)Value:x2}");
}
