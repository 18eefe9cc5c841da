using System.Numerics;

namespace Tutti.Devices;

/// <summary>
/// The I/O port space. Ports that nobody owns read as all-ones and ignore writes. An access that is wider than its device
/// takes, or that leaves the device's range, is made in pieces, lowest port first.
/// </summary>
public sealed class PortBus
{
    private const int PortCount = 0x1_0000;

    private readonly byte[] _owner = new byte[PortCount];
    private Mapping[] _mappings = [default];
    private Mapping[] _dwords = [];

    private readonly record struct Mapping(int First, int End, int MaxWidth, IPortDevice Device);

    /// <summary>Gives a device a range of ports.</summary>
    /// <param name="first">The first port.</param>
    /// <param name="count">Number of ports, 1 or more.</param>
    /// <param name="maxWidth">The widest access that the device takes at once: 1, 2 or 4 bytes.</param>
    /// <exception cref="ArgumentException">The range leaves the port space or meets another device's, the width is none, or 255 ranges are taken.</exception>
    public void Map(ushort first, int count, IPortDevice device, int maxWidth = 1)
    {
        if (!TryMap(first, count, device, maxWidth))
        {
            throw new ArgumentException($"Ports 0x{first:X4} to 0x{first + count - 1:X4} do not exist or are taken, or the bus is full.");
        }
    }

    /// <summary>The same for ranges that a guest places: false where <see cref="Map"/> would throw for the range.</summary>
    /// <exception cref="ArgumentException">The width is none.</exception>
    public bool TryMap(ushort first, int count, IPortDevice device, int maxWidth = 1)
    {
        ArgumentNullException.ThrowIfNull(device);
        if (maxWidth is not (1 or 2 or 4))
        {
            throw new ArgumentException($"A device can't take {maxWidth} bytes at once.", nameof(maxWidth));
        }

        if (count < 1 || first + count > PortCount || _owner.AsSpan(first, count).ContainsAnyExcept((byte)0))
        {
            return false;
        }

        // The number of a range that was taken back, if there is one; 0 means nobody.
        int number = Array.FindIndex(_mappings, 1, mapping => mapping.Device is null);
        if (number < 0)
        {
            number = _mappings.Length;
            if (number > byte.MaxValue)
            {
                return false;
            }

            _mappings = [.. _mappings, default];
        }

        _mappings[number] = new Mapping(first, first + count, maxWidth, device);
        _owner.AsSpan(first, count).Fill((byte)number);
        return true;
    }

    /// <summary>Takes a range back, as when a guest moves PCI ports; false when no range starts there.</summary>
    public bool Unmap(ushort first)
    {
        int number = _owner[first];
        Mapping mapping = _mappings[number];
        if (number == 0 || mapping.First != first)
        {
            return false;
        }

        _owner.AsSpan(mapping.First, mapping.End - mapping.First).Clear();
        _mappings[number] = default;
        return true;
    }

    /// <summary>
    /// Gives a device the 4-byte accesses that begin at one port, whoever has the ports for other accesses: a PC keeps PCI's
    /// CONFIG_ADDRESS over its reset register so.
    /// </summary>
    /// <exception cref="ArgumentException">A device has them already.</exception>
    public void MapDword(ushort port, IPortDevice device)
    {
        ArgumentNullException.ThrowIfNull(device);
        if (Array.Exists(_dwords, mapping => mapping.First == port))
        {
            throw new ArgumentException($"The 4-byte accesses at port 0x{port:X4} are taken.");
        }

        _dwords = [.. _dwords, new Mapping(port, port + 4, 4, device)];
    }

    /// <summary>
    /// Whether some device has a part of an access. Needs no lock: while ranges change, the answer is that of before or after.
    /// </summary>
    /// <param name="width">1, 2 or 4 bytes.</param>
    public bool Reaches(ushort port, int width)
    {
        int end = Math.Min(port + width, PortCount);
        for (int at = port; at < end; at++)
        {
            if (_owner[at] != 0)
            {
                return true;
            }
        }

        return width == 4 && FindDword(port) is not null;
    }

    public void Read(ushort port, Span<byte> data)
    {
        if (data.Length == 4 && FindDword(port) is IPortDevice dword)
        {
            if (dword.ReadPort(0, data) == IoResult.Unclaimed)
            {
                data.Fill(0xFF);
            }

            return;
        }

        int position = 0;
        while (position < data.Length)
        {
            int at = port + position;
            ref readonly Mapping mapping = ref Find(at);
            Span<byte> piece = data.Slice(position, PieceLength(mapping, at, data.Length - position));
            if (mapping.Device is null || mapping.Device.ReadPort((ushort)(at - mapping.First), piece) == IoResult.Unclaimed)
            {
                piece.Fill(0xFF);
            }

            position += piece.Length;
        }
    }

    public void Write(ushort port, ReadOnlySpan<byte> data)
    {
        if (data.Length == 4 && FindDword(port) is IPortDevice dword)
        {
            dword.WritePort(0, data);
            return;
        }

        int position = 0;
        while (position < data.Length)
        {
            int at = port + position;
            ref readonly Mapping mapping = ref Find(at);
            int length = PieceLength(mapping, at, data.Length - position);
            mapping.Device?.WritePort((ushort)(at - mapping.First), data.Slice(position, length));
            position += length;
        }
    }

    // The port space does not wrap: what lies above port 0xFFFF belongs to nobody.
    private ref readonly Mapping Find(int port) => ref _mappings[port < PortCount ? _owner[port] : 0];

    private IPortDevice? FindDword(ushort port)
    {
        foreach (ref readonly Mapping mapping in _dwords.AsSpan())
        {
            if (mapping.First == port)
            {
                return mapping.Device;
            }
        }

        return null;
    }

    private static int PieceLength(in Mapping mapping, int at, int remaining)
    {
        if (mapping.Device is null)
        {
            return 1;
        }

        int most = Math.Min(Math.Min(remaining, mapping.MaxWidth), mapping.End - at);
        return 1 << BitOperations.Log2((uint)most);
    }
}
