using System.Buffers.Binary;
using System.Text;

namespace Tutti.Boot.Acpi;

/// <summary>
/// Writes ACPI Machine Language: the few terms that a description of fixed devices needs. Term names and encodings are
/// those of the ACPI specification 6.5, chapter 20, "ACPI Machine Language (AML) Specification".
/// </summary>
public sealed class AmlWriter
{
    private readonly List<byte> _bytes = [];

    /// <summary>What has been written so far.</summary>
    public byte[] ToArray() => [.. _bytes];

    /// <summary>DefScope.</summary>
    /// <param name="name">A name of four characters, after a backslash where it starts at the root.</param>
    /// <param name="body">Writes what is in the scope.</param>
    public void Scope(string name, Action<AmlWriter> body) => Block([0x10], name, body);

    /// <summary>DefDevice.</summary>
    /// <param name="name">A name of four characters.</param>
    /// <param name="body">Writes what is in the device.</param>
    public void Device(string name, Action<AmlWriter> body) => Block([0x5B, 0x82], name, body);

    /// <summary>DefName with an integer.</summary>
    public void Name(string name, ulong value)
    {
        NameOp(name);
        Integer(value);
    }

    /// <summary>DefName with a string of ASCII characters.</summary>
    public void Name(string name, string value)
    {
        NameOp(name);
        _bytes.Add(0x0D);
        _bytes.AddRange(Encoding.ASCII.GetBytes(value));
        _bytes.Add(0);
    }

    /// <summary>DefName with a package of at most 255 integers.</summary>
    public void NamePackage(string name, params ReadOnlySpan<ulong> elements)
    {
        AmlWriter body = new();
        body._bytes.Add((byte)elements.Length);
        foreach (ulong element in elements)
        {
            body.Integer(element);
        }

        NameOp(name);
        Package([0x12], body);
    }

    /// <summary>DefName with a buffer.</summary>
    public void NameBuffer(string name, ReadOnlySpan<byte> value)
    {
        AmlWriter body = new();
        body.Integer((ulong)value.Length);
        body._bytes.AddRange(value);
        NameOp(name);
        Package([0x11], body);
    }

    /// <summary>DefName of _HID with a compressed EISA identifier, such as PNP0501.</summary>
    public void HardwareId(string eisaId)
    {
        NameOp("_HID");
        _bytes.Add(0x0C);
        Span<byte> value = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(value, CompressEisaId(eisaId));
        _bytes.AddRange(value);
    }

    /// <summary>One byte as it is.</summary>
    internal void Raw(byte value) => _bytes.Add(value);

    /// <summary>Three letters of five bits, then four hexadecimal digits. Source: ACPI specification, "EISAID".</summary>
    internal static uint CompressEisaId(string eisaId)
    {
        if (eisaId.Length != 7 || eisaId.AsSpan(0, 3).ContainsAnyExceptInRange('A', 'Z'))
        {
            throw new ArgumentException($"'{eisaId}' is not three capital letters and four hexadecimal digits.", nameof(eisaId));
        }

        int letters = ((eisaId[0] - '@') << 10) | ((eisaId[1] - '@') << 5) | (eisaId[2] - '@');
        return ((uint)letters << 16) | Convert.ToUInt16(eisaId[3..], 16);
    }

    private void Integer(ulong value)
    {
        switch (value)
        {
            case 0 or 1:
                _bytes.Add((byte)value); // ZeroOp, OneOp
                break;
            case <= 0xFF:
                _bytes.AddRange([0x0A, (byte)value]);
                break;
            case <= 0xFFFF:
                Prefixed(0x0B, value, 2);
                break;
            case <= 0xFFFF_FFFF:
                Prefixed(0x0C, value, 4);
                break;
            default:
                Prefixed(0x0E, value, 8);
                break;
        }
    }

    private void Prefixed(byte prefix, ulong value, int size)
    {
        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        _bytes.Add(prefix);
        _bytes.AddRange(bytes[..size]);
    }

    private void NameOp(string name)
    {
        _bytes.Add(0x08);
        NameString(name);
    }

    private void NameString(string name)
    {
        ReadOnlySpan<char> segment = name.StartsWith('\\') ? name.AsSpan(1) : name;
        if (segment.Length != 4)
        {
            throw new ArgumentException($"'{name}' is not an ACPI name of four characters.", nameof(name));
        }

        _bytes.AddRange(Encoding.ASCII.GetBytes(name));
    }

    private void Block(ReadOnlySpan<byte> op, string name, Action<AmlWriter> write)
    {
        AmlWriter body = new();
        body.NameString(name);
        write(body);
        Package(op, body);
    }

    private void Package(ReadOnlySpan<byte> op, AmlWriter body)
    {
        _bytes.AddRange(op);
        PackageLength(body._bytes.Count);
        _bytes.AddRange(body._bytes);
    }

    /// <summary>PkgLength counts its own bytes too: one byte holds 6 bits, each further one 8 on top of 4.</summary>
    private void PackageLength(int length)
    {
        if (length + 1 < 1 << 6)
        {
            _bytes.Add((byte)(length + 1));
            return;
        }

        int following = length + 2 < 1 << 12 ? 1 : length + 3 < 1 << 20 ? 2 : 3;
        int total = length + 1 + following;
        _bytes.Add((byte)((following << 6) | (total & 0xF)));
        for (int i = 0; i < following; i++)
        {
            _bytes.Add((byte)(total >> (4 + (8 * i))));
        }
    }
}
