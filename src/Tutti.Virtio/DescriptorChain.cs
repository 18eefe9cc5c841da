using System.Numerics;
using Tutti.Memory;

namespace Tutti.Virtio;

/// <summary>
/// A request of the driver's: buffers that the device reads, then buffers that it writes. Made once by its user and filled again and again by
/// <see cref="Virtqueue.TryPop"/>; every segment is guest RAM whose bounds have been checked. The guest may change the bytes at any time.
/// </summary>
public sealed class DescriptorChain
{
    private const int MinCapacity = 8;
    private GuestRange[] _ranges = new GuestRange[MinCapacity];

    /// <summary>The segments, those to be read first. Only the first <see cref="ReadableCount"/> + <see cref="WritableCount"/> count.</summary>
    public MemorySegment[] Segments { get; private set; } = new MemorySegment[MinCapacity];

    public int ReadableCount { get; private set; }

    public int WritableCount { get; private set; }

    /// <summary>Bytes of all readable segments; less than 4 GiB together with <see cref="WritableLength"/>.</summary>
    public long ReadableLength { get; private set; }

    /// <summary>Bytes of all writable segments.</summary>
    public long WritableLength { get; private set; }

    /// <summary>Index of the chain's first descriptor, by which the driver knows it.</summary>
    public ushort Head { get; private set; }

    /// <summary>What the device reads. No segment is empty.</summary>
    public ReadOnlySpan<MemorySegment> Readable => Segments.AsSpan(0, ReadableCount);

    /// <summary>What the device writes. No segment is empty.</summary>
    public ReadOnlySpan<MemorySegment> Writable => Segments.AsSpan(ReadableCount, WritableCount);

    /// <summary>It was under way when its device's state was saved, and is so for the second time.</summary>
    internal bool IsRepeated { get; set; }

    internal ReadOnlySpan<GuestRange> WritableRanges => _ranges.AsSpan(ReadableCount, WritableCount);

    /// <summary>Copies readable bytes out.</summary>
    /// <param name="position">Where to begin, counted in the readable part.</param>
    /// <returns>Bytes copied; fewer than asked for when the readable part ends before.</returns>
    public int Read(long position, Span<byte> to)
    {
        int copied = 0;
        foreach (ref readonly MemorySegment segment in Readable)
        {
            if (copied == to.Length)
            {
                break;
            }

            if (position >= segment.Length)
            {
                position -= segment.Length;
                continue;
            }

            ReadOnlySpan<byte> from = segment.Span[(int)position..];
            position = 0;
            from = from[..Math.Min(from.Length, to.Length - copied)];
            from.CopyTo(to[copied..]);
            copied += from.Length;
        }

        return copied;
    }

    /// <summary>Copies bytes into the writable part.</summary>
    /// <param name="position">Where to begin, counted in the writable part.</param>
    /// <returns>Bytes copied; fewer than given when the writable part ends before.</returns>
    public int Write(long position, ReadOnlySpan<byte> from)
    {
        int copied = 0;
        foreach (ref readonly MemorySegment segment in Writable)
        {
            if (copied == from.Length)
            {
                break;
            }

            if (position >= segment.Length)
            {
                position -= segment.Length;
                continue;
            }

            Span<byte> to = segment.Span[(int)position..];
            position = 0;
            ReadOnlySpan<byte> part = from.Slice(copied, Math.Min(to.Length, from.Length - copied));
            part.CopyTo(to);
            copied += part.Length;
        }

        return copied;
    }

    internal void Begin(ushort head)
    {
        Head = head;
        (ReadableCount, WritableCount, ReadableLength, WritableLength) = (0, 0, 0, 0);
    }

    /// <summary>Adds a segment; the caller sees to it that readable ones come first.</summary>
    internal void Add(in MemorySegment segment, ulong address, bool isWritable)
    {
        int count = ReadableCount + WritableCount;
        if (count == Segments.Length)
        {
            // A chain is at most as long as its queue: after a few of them this is never taken again.
            int capacity = (int)BitOperations.RoundUpToPowerOf2((uint)count + 1);
            MemorySegment[] segments = new MemorySegment[capacity];
            Segments.CopyTo(segments, 0);
            Segments = segments;
            Array.Resize(ref _ranges, capacity);
        }

        Segments[count] = segment;
        _ranges[count] = new GuestRange(address, segment.Length);
        if (isWritable)
        {
            WritableCount++;
            WritableLength += segment.Length;
        }
        else
        {
            ReadableCount++;
            ReadableLength += segment.Length;
        }
    }
}
