using System.Buffers.Binary;

namespace Tutti.Boot.Acpi;

/// <summary>Builds the value of a _CRS. Source: ACPI specification 6.5, 6.4.2, "Small Resource Data Type", and 6.4.3, "Large Resource Data Type".</summary>
public sealed class ResourceTemplate
{
    // Address space descriptors: minimum and maximum fixed, positive decode, the device hands the range on.
    private const byte FixedWindow = 0x0C;
    private const byte BusNumberType = 2;
    private const byte PortType = 1;
    private const byte MemoryType = 0;
    private const byte EntireRange = 3;
    private const byte ReadWrite = 1;

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

    /// <summary>32-bit Fixed Memory Range Descriptor, read and write.</summary>
    public ResourceTemplate Memory32Fixed(uint address, uint length)
    {
        Span<byte> item = stackalloc byte[12];
        item[0] = 0x86;
        item[1] = 9;
        item[3] = ReadWrite;
        BinaryPrimitives.WriteUInt32LittleEndian(item[4..], address);
        BinaryPrimitives.WriteUInt32LittleEndian(item[8..], length);
        _bytes.AddRange(item);
        return this;
    }

    /// <summary>Word Address Space Descriptor: the bus numbers below a host bridge.</summary>
    public ResourceTemplate BusNumbers(byte first, byte last) => Window(0x88, 2, BusNumberType, 0, first, last);

    /// <summary>Word Address Space Descriptor: ports that a host bridge hands on.</summary>
    public ResourceTemplate PortWindow(ushort first, ushort last) => Window(0x88, 2, PortType, EntireRange, first, last);

    /// <summary>DWord or QWord Address Space Descriptor: memory, read and write, not cached, that a host bridge hands on.</summary>
    public ResourceTemplate MemoryWindow(ulong first, ulong last) => last <= uint.MaxValue
        ? Window(0x87, 4, MemoryType, ReadWrite, first, last)
        : Window(0x8A, 8, MemoryType, ReadWrite, first, last);

    /// <summary>The template with its end tag, whose checksum 0 means that it is not checked.</summary>
    public byte[] ToArray() => [.. _bytes, 0x79, 0];

    /// <summary>An address space descriptor with five fields of a width: granularity, minimum, maximum, translation, length.</summary>
    private ResourceTemplate Window(byte tag, int width, byte type, byte typeFlags, ulong first, ulong last)
    {
        Span<byte> item = stackalloc byte[46];
        item.Clear();
        item = item[..(6 + (5 * width))];
        item[0] = tag;
        BinaryPrimitives.WriteUInt16LittleEndian(item[1..], (ushort)(item.Length - 3));
        item[3] = type;
        item[4] = FixedWindow;
        item[5] = typeFlags;
        Span<byte> value = stackalloc byte[8];
        Span<ulong> fields = [0, first, last, 0, last - first + 1];
        for (int i = 0; i < fields.Length; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(value, fields[i]);
            value[..width].CopyTo(item[(6 + (i * width))..]);
        }

        _bytes.AddRange(item);
        return this;
    }
}
