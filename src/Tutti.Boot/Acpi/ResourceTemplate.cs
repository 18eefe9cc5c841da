using System.Buffers.Binary;

namespace Tutti.Boot.Acpi;

/// <summary>Builds the value of a _CRS. Source: ACPI specification 6.5, 6.4.2, "Small Resource Data Type".</summary>
public sealed class ResourceTemplate
{
    private readonly List<byte> _bytes = [];

    /// <summary>I/O Port Descriptor: a fixed range, all 16 address bits decoded.</summary>
    public ResourceTemplate Io(ushort port, byte length)
    {
        Span<byte> item = stackalloc byte[8];
        item[0] = 0x47;
        item[1] = 1;
        BinaryPrimitives.WriteUInt16LittleEndian(item[2..], port);
        BinaryPrimitives.WriteUInt16LittleEndian(item[4..], port);
        item[6] = 1;
        item[7] = length;
        _bytes.AddRange(item);
        return this;
    }

    /// <summary>IRQ Descriptor: an ISA interrupt, 0 to 15, edge-triggered and active high.</summary>
    public ResourceTemplate Irq(byte irq)
    {
        Span<byte> item = stackalloc byte[3];
        item[0] = 0x22;
        BinaryPrimitives.WriteUInt16LittleEndian(item[1..], (ushort)(1 << irq));
        _bytes.AddRange(item);
        return this;
    }

    /// <summary>The template with its end tag, whose checksum 0 means that it is not checked.</summary>
    public byte[] ToArray() => [.. _bytes, 0x79, 0];
}
