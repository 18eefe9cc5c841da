using System.Runtime.InteropServices;
using Tutti.Host;
using Tutti.Memory;

namespace Tutti.Storage.Files;

/// <summary>What an <see cref="IoOperation"/> does.</summary>
public enum IoKind
{
    /// <summary>Reads; bytes behind the file's end are zero.</summary>
    Read,
    Write,

    /// <summary>Brings everything that was written before this was submitted to stable storage; see <see cref="BlockFile.Flush"/>.</summary>
    Flush,

    /// <summary>Gives the range's space back; what it reads as afterwards is not said on a block device, zeroes in a file.</summary>
    Discard,

    /// <summary>Lets the range read as zeroes.</summary>
    WriteZeroes,

    /// <summary>Runs <see cref="IoOperation.Work"/> on a thread that may wait.</summary>
    Work,
}

/// <summary>Takes finished operations, on the queue's loop thread.</summary>
public interface IIoCompletion
{
    /// <summary>The operation is its owner's again; <see cref="IoOperation.Error"/> says how it ended. It may submit others, and call <see cref="IoQueue.Kick"/>.</summary>
    void Complete(IoOperation operation);
}

/// <summary>
/// One operation on a file. Its owner makes it once, derives from it where it needs fields of its own, and uses it again and again; from
/// <see cref="IoQueue.Submit"/> to its completion it belongs to the queue.
/// </summary>
public class IoOperation
{
    /// <summary>The kernel's limit of vectors in one call (IOV_MAX).</summary>
    private const int MaxVectors = 1024;

    private MemorySegment[] _vectors = [];
    private nint _vectorsAddress;
    private int _first;
    private int _count;
    private long _done;

    /// <summary>Who is told of the end.</summary>
    public required IIoCompletion Owner { get; init; }

    public IoKind Kind { get; set; }

    /// <summary>The file; not looked at for <see cref="IoKind.Work"/>.</summary>
    public BlockFile? File { get; set; }

    /// <summary>First byte in the file.</summary>
    public long Offset { get; set; }

    /// <summary>Bytes; for reads and writes set by <see cref="SetSegments(ReadOnlySpan{MemorySegment})"/>.</summary>
    public long Length { get; set; }

    /// <summary>For <see cref="IoKind.WriteZeroes"/>: whether space may go back to the host.</summary>
    public bool MayUnmap { get; set; }

    /// <summary>For <see cref="IoKind.Work"/>: what runs; 0 or an error number is its result. What it throws is EIO, but for <see cref="HostException"/>.</summary>
    public Func<int>? Work { get; set; }

    /// <summary>For <see cref="IoKind.Work"/>: a way to do the same at once, on the loop's thread, that waits for nothing but copies from or to the host's
    /// page cache; true when that is done. After false, or what it throws, the work itself runs. Null where there is none.</summary>
    public Func<bool>? AtOnce { get; set; }

    /// <summary>0, or the kernel's error number of what went wrong; a write may have been done in part.</summary>
    public int Error { get; internal set; }

    /// <summary>The next in whichever list of the queue's it is in.</summary>
    internal IoOperation? Next { get; set; }

    /// <summary>Says where a read puts its bytes, or a write has them.</summary>
    public void SetSegments(ReadOnlySpan<MemorySegment> segments)
    {
        BeginVectors(segments.Length);
        long length = 0;
        foreach (MemorySegment segment in segments)
        {
            length += Add(segment);
        }

        Length = length;
    }

    /// <summary>The same with a part of the segments, as if they were one run of bytes.</summary>
    /// <param name="segments">The whole.</param>
    /// <param name="skip">Bytes to pass over.</param>
    /// <param name="length">Bytes to take.</param>
    /// <exception cref="ArgumentOutOfRangeException">The segments end before.</exception>
    public void SetSegments(ReadOnlySpan<MemorySegment> segments, long skip, long length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(skip);
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        BeginVectors(segments.Length);
        long left = length;
        foreach (MemorySegment segment in segments)
        {
            if (left == 0)
            {
                break;
            }

            if (skip >= segment.Length)
            {
                skip -= segment.Length;
                continue;
            }

            int take = (int)Math.Min(segment.Length - skip, left);
            left -= Add(segment.Slice((int)skip, take));
            skip = 0;
        }

        ArgumentOutOfRangeException.ThrowIfNotEqual(left, 0, nameof(length));
        Length = length;
    }

    /// <summary>The same with one run of bytes, which must not move.</summary>
    public void SetSegment(MemorySegment segment) => SetSegments(new ReadOnlySpan<MemorySegment>(in segment));

    /// <summary>Says all of a read or a write: a part of the segments, and its place in a file.</summary>
    internal void Set(IoKind kind, BlockFile file, long offset, ReadOnlySpan<MemorySegment> segments, long skip, long length)
    {
        Kind = kind;
        File = file;
        Offset = offset;
        Error = 0;
        SetSegments(segments, skip, length);
    }

    /// <summary>Address of the vectors that are still to be done.</summary>
    internal nint VectorsAddress => _vectorsAddress + (_first * Marshal.SizeOf<MemorySegment>());

    /// <summary>Their number, as far as one call takes them.</summary>
    internal int VectorCount => Math.Min(_count - _first, MaxVectors);

    /// <summary>Where in the file they go on.</summary>
    internal long Position => Offset + _done;

    internal bool HasVectors => _first < _count;

    internal void Begin()
    {
        Error = 0;
        Next = null;
    }

    /// <summary>Takes what a call of the kernel's gave.</summary>
    /// <param name="result">Bytes, or an error number, negative.</param>
    /// <returns>Whether the operation is at its end; else it is to be begun once more, for what is left.</returns>
    internal bool Advance(long result)
    {
        if (result < 0)
        {
            Error = (int)-result;
            // The kernel gives these, too, where it was only disturbed.
            bool isOver = Error is not Errno.EINTR and not Errno.EAGAIN;
            Error = isOver ? Error : 0;
            return isOver;
        }

        if (Kind is not IoKind.Read and not IoKind.Write)
        {
            return true;
        }

        if (result == 0)
        {
            EndOfFile();
            return true;
        }

        Skip(result);
        return !HasVectors;
    }

    /// <summary>Does it on this thread, and waits.</summary>
    internal void RunHere()
    {
        Error = 0;
        switch (Kind)
        {
            case IoKind.Read:
                while (!Advance(File!.File.TryReadVector(VectorsAddress, VectorCount, Position)))
                {
                }

                break;
            case IoKind.Write:
                TellWatch();
                while (!Advance(File!.File.TryWriteVector(VectorsAddress, VectorCount, Position)))
                {
                }

                break;
            case IoKind.Flush:
                Error = File!.TryFlush();
                break;
            case IoKind.Discard:
                Error = File!.TryDiscard(Offset, Length);
                break;
            case IoKind.WriteZeroes:
                Error = File!.TryWriteZeroes(Offset, Length, MayUnmap);
                break;
            case IoKind.Work:
                Error = RunWork();
                break;
        }
    }

    /// <summary>Reads on this thread what the host has in its page cache, without waiting.</summary>
    /// <returns>Whether the operation is at its end; else the rest is still to be read.</returns>
    internal bool TryReadCached()
    {
        if (File!.LacksCachedReads)
        {
            return false;
        }

        nint result = File.File.TryReadCachedVector(VectorsAddress, VectorCount, Position);
        if (result is -Errno.EOPNOTSUPP or -Errno.ENOSYS or -Errno.EINVAL or -Errno.EPERM)
        {
            File.LacksCachedReads = true;
            return false;
        }

        return result != 0 && Advance(result);
    }

    /// <summary>Whether the work has been done at once.</summary>
    internal bool TryWorkAtOnce()
    {
        try
        {
            return AtOnce!();
        }
        catch (HostException)
        {
            // The work meets the same, and says it.
            return false;
        }
    }

    private void TellWatch()
    {
        if (File!.Watch is IBlockFileWatch watch)
        {
            long at = Offset;
            for (int i = 0; i < _count; i++)
            {
                watch.OnWrite(_vectors[i].Span, at);
                at += _vectors[i].Length;
            }
        }
    }

    private int RunWork()
    {
        try
        {
            return Work!();
        }
        catch (HostException e)
        {
            return e.Errno;
        }
        catch (Exception)
        {
            // On a thread of its own it would end the process.
            return Errno.EIO;
        }
    }

    private void BeginVectors(int count)
    {
        if (_vectors.Length < count)
        {
            // Pinned for good: the kernel reads them while an operation is under way.
            _vectors = GC.AllocateUninitializedArray<MemorySegment>((int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)count), pinned: true);
            _vectorsAddress = Marshal.UnsafeAddrOfPinnedArrayElement(_vectors, 0);
        }

        _first = 0;
        _count = 0;
        _done = 0;
    }

    private int Add(MemorySegment segment)
    {
        if (segment.Length > 0)
        {
            _vectors[_count++] = segment;
        }

        return segment.Length;
    }

    private void Skip(long bytes)
    {
        _done += bytes;
        while (bytes > 0 && _first < _count)
        {
            MemorySegment segment = _vectors[_first];
            if (bytes < segment.Length)
            {
                _vectors[_first] = segment.Slice((int)bytes, segment.Length - (int)bytes);
                return;
            }

            bytes -= segment.Length;
            _first++;
        }
    }

    private void EndOfFile()
    {
        if (Kind == IoKind.Write)
        {
            Error = Errno.ENOSPC;
            return;
        }

        for (; _first < _count; _first++)
        {
            _vectors[_first].Span.Clear();
        }
    }
}
