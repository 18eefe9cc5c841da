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
        NameOp(name);
        IntegerPackage(elements);
    }

    /// <summary>DefName with a package of at most 255 packages of integers.</summary>
    public void NamePackages(string name, int count, Func<int, ulong[]> elements)
    {
        AmlWriter body = new();
        body._bytes.Add(checked((byte)count));
        for (int i = 0; i < count; i++)
        {
            body.IntegerPackage(elements(i));
        }

        NameOp(name);
        Package([0x12], body);
    }

    /// <summary>DefName with a buffer.</summary>
    public void NameBuffer(string name, ReadOnlySpan<byte> value)
    {
        NameOp(name);
        Buffer(value);
    }

    /// <summary>DefName of _HID, or of another name, with a compressed EISA identifier, such as PNP0501.</summary>
    public void HardwareId(string eisaId, string name = "_HID")
    {
        NameOp(name);
        _bytes.Add(0x0C);
        Span<byte> value = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(value, CompressEisaId(eisaId));
        _bytes.AddRange(value);
    }

    /// <summary>DefMethod, not serialized.</summary>
    /// <param name="argumentCount">0 to 7.</param>
    public void Method(string name, int argumentCount, Action<AmlWriter> body) => Block([0x14], name, method =>
    {
        method._bytes.Add((byte)argumentCount);
        body(method);
    });

    /// <summary>DefIfElse without an else.</summary>
    public void If(Action<AmlWriter> condition, Action<AmlWriter> then)
    {
        AmlWriter body = new();
        condition(body);
        then(body);
        Package([0xA0], body);
    }

    /// <summary>DefReturn.</summary>
    public void Return(Action<AmlWriter> value) => Operation(0xA4, value);

    /// <summary>DefStore.</summary>
    public void Store(Action<AmlWriter> value, Action<AmlWriter> target) => Operation(0x70, value, target);

    /// <summary>DefOr.</summary>
    public void Or(Action<AmlWriter> left, Action<AmlWriter> right, Action<AmlWriter> target) => Operation(0x7D, left, right, target);

    /// <summary>DefLEqual.</summary>
    public void Equal(Action<AmlWriter> left, Action<AmlWriter> right) => Operation(0x93, left, right);

    /// <summary>DefCreateDWordField.</summary>
    /// <param name="offset">Where the field begins in its buffer, in bytes.</param>
    public void CreateDWordField(Action<AmlWriter> buffer, ulong offset, string name) =>
        Operation(0x8A, buffer, position => position.Integer(offset), field => field.NameString(name));

    /// <summary>ArgObj, 0 to 6.</summary>
    public void Argument(int index) => _bytes.Add((byte)(0x68 + index));

    /// <summary>NameString: what a name stands for.</summary>
    public void Reference(string name) => NameString(name);

    /// <summary>DefBuffer.</summary>
    public void Buffer(ReadOnlySpan<byte> value)
    {
        AmlWriter body = new();
        body.Integer((ulong)value.Length);
        body._bytes.AddRange(value);
        Package([0x11], body);
    }

    /// <summary>An integer in as few bytes as it takes.</summary>
    public void Integer(ulong value)
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

    private void Operation(byte op, params ReadOnlySpan<Action<AmlWriter>> operands)
    {
        _bytes.Add(op);
        foreach (Action<AmlWriter> operand in operands)
        {
            operand(this);
        }
    }

    private void IntegerPackage(ReadOnlySpan<ulong> elements)
    {
        AmlWriter body = new();
        body._bytes.Add(checked((byte)elements.Length));
        foreach (ulong element in elements)
        {
            body.Integer(element);
        }

        Package([0x12], body);
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
