using System.Buffers.Binary;
using System.Text;

namespace Tutti.Boot.Acpi;

/// <summary>Writes one ACPI table: little-endian fields behind the common header.</summary>
internal sealed class TableWriter
{
    /// <summary>Bytes of the common header.</summary>
    public const int HeaderSize = 36;

    private const string OemId = "TUTTI ";
    private readonly List<byte> _bytes = [];

    /// <summary>Starts with DESCRIPTION_HEADER. Source: ACPI specification 6.5, 5.2.6, "System Description Table Header".</summary>
    public TableWriter(string signature, byte revision)
    {
        Ascii(signature);
        U32(0); // Length, set by Finish
        U8(revision);
        U8(0); // Checksum, set by Finish
        Ascii(OemId);
        Ascii("TUTTIVM ");
        U32(1); // OEM Revision
        Ascii("TUTI"); // Creator ID
        U32(1); // Creator Revision
    }

    public int Length => _bytes.Count;

    public void U8(byte value) => _bytes.Add(value);

    public void U16(ushort value)
    {
        Span<byte> bytes = stackalloc byte[2];
        BinaryPrimitives.WriteUInt16LittleEndian(bytes, value);
        _bytes.AddRange(bytes);
    }

    public void U32(uint value)
    {
        Span<byte> bytes = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, value);
        _bytes.AddRange(bytes);
    }

    public void U64(ulong value)
    {
        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        _bytes.AddRange(bytes);
    }

    public void Ascii(string text) => _bytes.AddRange(Encoding.ASCII.GetBytes(text));

    public void Bytes(ReadOnlySpan<byte> bytes) => _bytes.AddRange(bytes);

    /// <summary>Fills with zero up to an offset of the table.</summary>
    public void PadTo(int offset)
    {
        while (_bytes.Count < offset)
        {
            _bytes.Add(0);
        }
    }

    /// <summary>Generic Address Structure for I/O ports; all zero where the width is 0.</summary>
    /// <param name="port">First port.</param>
    /// <param name="bits">Width of the register block in bits.</param>
    /// <param name="accessSize">1 byte, 2 word, 3 double word.</param>
    public void IoAddress(ushort port, byte bits, byte accessSize)
    {
        U8(bits == 0 ? (byte)0 : (byte)1); // Address Space ID: system I/O
        U8(bits);
        U8(0);
        U8(bits == 0 ? (byte)0 : accessSize);
        U64(bits == 0 ? 0UL : port);
    }

    /// <summary>The table with its length and checksum.</summary>
    public byte[] Finish()
    {
        byte[] table = [.. _bytes];
        BinaryPrimitives.WriteUInt32LittleEndian(table.AsSpan(4), (uint)table.Length);
        table[9] = Checksum(table);
        return table;
    }

    /// <summary>The byte that makes all bytes add up to zero, when its own place holds zero.</summary>
    public static byte Checksum(ReadOnlySpan<byte> bytes)
    {
        byte sum = 0;
        foreach (byte value in bytes)
        {
            sum += value;
        }

        return (byte)-sum;
    }
}
