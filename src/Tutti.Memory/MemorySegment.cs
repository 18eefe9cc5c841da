using System.Runtime.InteropServices;

namespace Tutti.Memory;

/// <summary>
/// A run of bytes in this process that device work reads or writes: mostly guest RAM, bounds-checked when the segment was made. It
/// is laid out as the kernel's iovec, so that an array of them goes to readv and writev as it is. Valid as long as the mapping.
/// </summary>
[StructLayout(LayoutKind.Sequential)]
public readonly unsafe struct MemorySegment
{
    private readonly byte* _address;
    private readonly nuint _length;

    /// <param name="address">First byte of memory that does not move and that outlives the segment; the caller vouches for it.</param>
    /// <param name="length">Bytes, 0 or more.</param>
    public MemorySegment(nint address, int length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        // SAFETY: the caller vouches for the range.
        _address = (byte*)address;
        _length = (nuint)length;
    }

    /// <summary>Host address of the first byte.</summary>
    public nint Address => (nint)_address;

    /// <summary>Length in bytes.</summary>
    public int Length => (int)_length;

    /// <summary>The bytes. A guest may change them at any time: read once what decides anything.</summary>
    // SAFETY: address and length were checked when the segment was made.
    public Span<byte> Span => new(_address, (int)_length);

    /// <summary>A part of the segment.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The part leaves the segment.</exception>
    public MemorySegment Slice(int start, int length)
    {
        if ((uint)start > (uint)Length || (uint)length > (uint)(Length - start))
        {
            throw new ArgumentOutOfRangeException(nameof(start), start, "The part leaves the segment.");
        }

        // SAFETY: the part lies in the segment.
        return new MemorySegment((nint)(_address + start), length);
    }
}
