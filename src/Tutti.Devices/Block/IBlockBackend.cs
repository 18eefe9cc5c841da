using Tutti.Memory;

namespace Tutti.Devices.Block;

/// <summary>What is to be done with a part of a disk.</summary>
public enum BlockOperation
{
    Read,
    Write,

    /// <summary>Everything that was completed before this was submitted is to be on stable storage.</summary>
    Flush,

    /// <summary>The part holds nothing of value any more: space goes back to the host; what it reads as afterwards is not said.</summary>
    Discard,

    /// <summary>The part is to read as zeroes; see <see cref="BlockRequest.MayUnmap"/>.</summary>
    WriteZeroes,
}

/// <summary>How a request ended.</summary>
public enum BlockStatus
{
    Ok,

    /// <summary>The host could not do it: an error of its storage, no space, a damaged image.</summary>
    IoError,

    /// <summary>The disk does not do this: a write to a read-only disk, a discard where there is none.</summary>
    Unsupported,
}

/// <summary>
/// One request to a disk. Its owner makes it once and uses it again and again; between <see cref="IBlockBackend.Submit"/> and its completion it
/// belongs to the backend.
/// </summary>
public class BlockRequest
{
    public BlockOperation Operation { get; set; }

    /// <summary>First byte on the disk. A multiple of 512 in the disk's range, checked by the owner, for all but <see cref="BlockOperation.Flush"/>.</summary>
    public long Offset { get; set; }

    /// <summary>Bytes, a multiple of 512; for reads and writes the sum of the segments' lengths.</summary>
    public long Length { get; set; }

    /// <summary>For <see cref="BlockOperation.WriteZeroes"/>: whether space may go back to the host.</summary>
    public bool MayUnmap { get; set; }

    /// <summary>Where a read puts its bytes and a write has them; the first <see cref="SegmentCount"/> count. The backend changes none.</summary>
    public MemorySegment[] Segments { get; set; } = [];

    public int SegmentCount { get; set; }

    /// <summary>Who is told of the end.</summary>
    public required IBlockCompletion Owner { get; init; }
}

/// <summary>Takes finished requests. Calls come on any thread, also from within <see cref="IBlockBackend.Submit"/>; none of the backend's locks is held.</summary>
public interface IBlockCompletion
{
    void Complete(BlockRequest request, BlockStatus status);

    /// <summary>No more completions follow at once: now is the time to tell the guest of those that came.</summary>
    void EndCompletions();
}

/// <summary>
/// What a disk device stores its bytes in. Safe from any thread. Requests may complete in another order than they came in; overlapping ones
/// that are under way together are the guest's affair, but must not damage the image.
/// </summary>
public interface IBlockBackend
{
    /// <summary>Bytes, a multiple of 512.</summary>
    long Size { get; }

    bool IsReadOnly { get; }

    /// <summary>Whether <see cref="BlockOperation.Discard"/> gives space back.</summary>
    bool CanDiscard { get; }

    /// <summary>Bytes that discards and writes of zeroes should be aligned to and a multiple of, so that they give space back; a power of two.</summary>
    int DiscardGranularity { get; }

    /// <summary>Bytes that the guest best writes at once and aligned, 512 or 4096.</summary>
    int PhysicalBlockSize { get; }

    /// <summary>Takes a request; never waits for the host's storage, and never throws for what storage does.</summary>
    void Submit(BlockRequest request);

    /// <summary>Begins what was submitted since the last call: one system call for many requests.</summary>
    void Kick();
}
