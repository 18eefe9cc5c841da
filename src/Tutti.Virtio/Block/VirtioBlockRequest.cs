using System.Numerics;
using Tutti.Devices.Block;
using Tutti.Memory;
using static Tutti.Virtio.Block.VirtioBlockLayout;

namespace Tutti.Virtio.Block;

/// <summary>
/// A guest's request on its way: the chain that it came in, and the one or more backend requests that do it, one after the other.
/// Made once and used again and again.
/// </summary>
internal sealed class VirtioBlockRequest : BlockRequest
{
    private const int MinSegments = 16;
    private readonly BlockRange[] _ranges = new BlockRange[VirtioBlock.MaxRanges];
    private int _rangeCount;
    private int _nextRange;
    private bool _flushAfter;

    internal VirtioBlockRequest(BlockQueue queue)
    {
        Queue = queue;
        Segments = new MemorySegment[MinSegments];
    }

    /// <summary>The queue that it came from.</summary>
    internal BlockQueue Queue { get; }

    internal DescriptorChain Chain { get; } = new();

    /// <summary>Sets up a read or write.</summary>
    /// <param name="operation">Which of them.</param>
    /// <param name="offset">First byte on the disk.</param>
    /// <param name="length">Bytes.</param>
    /// <param name="flushAfter">Whether a flush follows.</param>
    internal void SetTransfer(BlockOperation operation, long offset, long length, bool flushAfter)
    {
        Operation = operation;
        Offset = offset;
        Length = length;
        MayUnmap = false;
        _rangeCount = 0;
        _nextRange = 0;
        _flushAfter = flushAfter;
        if (operation == BlockOperation.Read)
        {
            TakeSegments(Chain.Writable, 0, length);
        }
        else
        {
            TakeSegments(Chain.Readable, RequestHeaderSize, length);
        }
    }

    internal void SetFlush()
    {
        Operation = BlockOperation.Flush;
        Offset = 0;
        Length = 0;
        MayUnmap = false;
        SegmentCount = 0;
        _rangeCount = 0;
        _nextRange = 0;
        _flushAfter = false;
    }

    /// <summary>Begins a DISCARD or WRITE_ZEROES, whose ranges are added next.</summary>
    internal void SetRanges(BlockOperation operation, bool flushAfter)
    {
        Operation = operation;
        SegmentCount = 0;
        _rangeCount = 0;
        _nextRange = 0;
        _flushAfter = flushAfter;
    }

    internal void AddRange(BlockRange range) => _ranges[_rangeCount++] = range;

    /// <summary>Goes on to the next backend request of the guest's request; false when all are done.</summary>
    internal bool TryAdvance()
    {
        if (_nextRange < _rangeCount)
        {
            BlockRange range = _ranges[_nextRange++];
            Offset = (long)range.Sector << SectorShift;
            Length = (long)range.SectorCount << SectorShift;
            MayUnmap = (range.Flags & RangeFlagUnmap) != 0;
            return true;
        }

        if (!_flushAfter)
        {
            return false;
        }

        SetFlush();
        return true;
    }

    // A descriptor's cut is not a cut between header, data and status: drivers may lay them out as they like.
    private void TakeSegments(ReadOnlySpan<MemorySegment> from, int skip, long length)
    {
        if (Segments.Length < from.Length)
        {
            // No more than a chain can have, so that the array soon fits all.
            Segments = new MemorySegment[BitOperations.RoundUpToPowerOf2((uint)from.Length)];
        }

        int count = 0;
        foreach (MemorySegment segment in from)
        {
            int start = Math.Min(skip, segment.Length);
            int taken = (int)Math.Min(segment.Length - start, length);
            skip -= start;
            length -= taken;
            if (taken != 0)
            {
                Segments[count++] = segment.Slice(start, taken);
            }
        }

        SegmentCount = count;
    }
}
