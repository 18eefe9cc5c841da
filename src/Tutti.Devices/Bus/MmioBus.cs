using System.Numerics;

namespace Tutti.Devices;

/// <summary>
/// The physical addresses that are not RAM. Addresses that nobody owns read as all-ones and ignore writes. An access that
/// is wider than its device takes, or that leaves the device's range, is made in pieces, lowest address first.
/// </summary>
public sealed class MmioBus
{
    private Mapping[] _mappings = [];
    private Mapping? _lastHit;

    private sealed record Mapping(ulong First, ulong Last, int MaxWidth, IMmioDevice Device);

    /// <summary>Gives a device a range of addresses.</summary>
    /// <param name="length">Bytes, 1 or more.</param>
    /// <param name="maxWidth">The widest access that the device takes at once: 1, 2, 4 or 8 bytes.</param>
    /// <exception cref="ArgumentException">The range wraps or meets another device's, or the width is none.</exception>
    public void Map(ulong first, ulong length, IMmioDevice device, int maxWidth = 8)
    {
        if (!TryMap(first, length, device, maxWidth))
        {
            throw new ArgumentException($"Addresses 0x{first:X} to 0x{first + (length - 1):X} wrap or meet a range that is taken.");
        }
    }

    /// <summary>The same for ranges that a guest places: false where <see cref="Map"/> would throw for the range.</summary>
    /// <exception cref="ArgumentException">The width is none.</exception>
    public bool TryMap(ulong first, ulong length, IMmioDevice device, int maxWidth = 8)
    {
        ArgumentNullException.ThrowIfNull(device);
        if (maxWidth is not (1 or 2 or 4 or 8))
        {
            throw new ArgumentException($"A device can't take {maxWidth} bytes at once.", nameof(maxWidth));
        }

        ulong last = first + (length - 1);
        if (length == 0 || last < first || Array.Exists(_mappings, other => first <= other.Last && other.First <= last))
        {
            return false;
        }

        Mapping[] mappings = [.. _mappings, new Mapping(first, last, maxWidth, device)];
        Array.Sort(mappings, (a, b) => a.First.CompareTo(b.First));
        _mappings = mappings;
        return true;
    }

    /// <summary>Takes a range back, as when a guest moves a PCI window; false when no range starts there.</summary>
    public bool Unmap(ulong first)
    {
        int index = Array.FindIndex(_mappings, mapping => mapping.First == first);
        if (index < 0)
        {
            return false;
        }

        _lastHit = null;
        _mappings = [.. _mappings[..index], .. _mappings[(index + 1)..]];
        return true;
    }

    /// <summary>
    /// Whether some device has a part of an access. Needs no lock: while ranges change, the answer is that of before or after.
    /// </summary>
    /// <param name="width">1 to 8 bytes.</param>
    public bool Reaches(ulong address, int width)
    {
        foreach (Mapping mapping in _mappings)
        {
            if (address <= mapping.Last)
            {
                // The first range that does not lie below the access; those behind it lie higher still.
                return mapping.First <= address || mapping.First - address < (ulong)width;
            }
        }

        return false;
    }

    public void Read(ulong address, Span<byte> data)
    {
        int position = 0;
        while (position < data.Length)
        {
            ulong at = address + (ulong)position;
            Mapping? mapping = Find(at);
            Span<byte> piece = data.Slice(position, PieceLength(mapping, at, data.Length - position));
            if (mapping is null || mapping.Device.ReadMmio(at - mapping.First, piece) == IoResult.Unclaimed)
            {
                piece.Fill(0xFF);
            }

            position += piece.Length;
        }
    }

    public void Write(ulong address, ReadOnlySpan<byte> data)
    {
        int position = 0;
        while (position < data.Length)
        {
            ulong at = address + (ulong)position;
            Mapping? mapping = Find(at);
            int length = PieceLength(mapping, at, data.Length - position);
            mapping?.Device.WriteMmio(at - mapping.First, data.Slice(position, length));
            position += length;
        }
    }

    private Mapping? Find(ulong address)
    {
        Mapping? last = _lastHit;
        if (last is not null && address >= last.First && address <= last.Last)
        {
            return last;
        }

        Mapping[] mappings = _mappings;
        int low = 0;
        int high = mappings.Length - 1;
        while (low <= high)
        {
            int middle = (low + high) >>> 1;
            Mapping candidate = mappings[middle];
            if (address < candidate.First)
            {
                high = middle - 1;
            }
            else if (address > candidate.Last)
            {
                low = middle + 1;
            }
            else
            {
                _lastHit = candidate;
                return candidate;
            }
        }

        return null;
    }

    private static int PieceLength(Mapping? mapping, ulong at, int remaining)
    {
        if (mapping is null)
        {
            return 1;
        }

        ulong left = mapping.Last - at;
        int inside = left >= 8 ? 8 : (int)left + 1;
        int most = Math.Min(Math.Min(remaining, mapping.MaxWidth), inside);
        return 1 << BitOperations.Log2((uint)most);
    }
}
