using Tutti.Devices.Block;
using Tutti.Host;
using Tutti.Memory;

namespace Tutti.Guests.Disks;

/// <summary>Reads a disk of the machine's, in whatever format, before the machine starts: one request at a time, waited for. For one thread.</summary>
public sealed class BlockBackendReader : IDiskReader, IBlockCompletion, IDisposable
{
    private const int SectorSize = 512;
    private const int BufferSize = 1 << 18;
    private readonly IBlockBackend _disk;
    private readonly HostMapping _buffer = new(BufferSize, hugePages: false);
    private readonly BlockRequest _request;
    private readonly ManualResetEventSlim _done = new();
    private readonly CancellationToken _cancellation;
    private readonly Lock _end = new();
    private volatile BlockStatus _status;
    private bool _isUnderWay;
    private bool _isDisposed;
    private long _start = -1;
    private int _count;

    /// <param name="disk">Stays its owner's.</param>
    /// <param name="cancellation">Ends waiting for it.</param>
    /// <exception cref="HostException">The host has no memory.</exception>
    public BlockBackendReader(IBlockBackend disk, CancellationToken cancellation = default)
    {
        _disk = disk;
        _cancellation = cancellation;
        _request = new BlockRequest { Owner = this, Operation = BlockOperation.Read, Segments = new MemorySegment[1], SegmentCount = 1 };
    }

    public long Size => _disk.Size;

    public void Read(long offset, Span<byte> into)
    {
        while (!into.IsEmpty)
        {
            if (offset < 0 || offset >= Size)
            {
                throw new ImageException("The disk ends before what it says it holds: it is damaged or cut off.");
            }

            if (_start < 0 || offset < _start || offset >= _start + _count)
            {
                Fetch(offset, into.Length);
            }

            int skip = (int)(offset - _start);
            int count = Math.Min(into.Length, _count - skip);
            // The segment stands for the mapping's first bytes, which live as long as this.
            new MemorySegment(_buffer.Address, BufferSize).Span.Slice(skip, count).CopyTo(into);
            into = into[count..];
            offset += count;
        }
    }

    /// <summary>The buffer stays as long as the disk may still write to it: until the request's end where nobody waits for that any more.</summary>
    public void Dispose()
    {
        lock (_end)
        {
            _isDisposed = true;
            if (!_isUnderWay)
            {
                Release();
            }
        }
    }

    void IBlockCompletion.Complete(BlockRequest request, BlockStatus status)
    {
        lock (_end)
        {
            _isUnderWay = false;
            _status = status;
            if (_isDisposed)
            {
                Release();
            }
            else
            {
                _done.Set();
            }
        }
    }

    void IBlockCompletion.EndCompletions()
    {
    }

    private void Release()
    {
        _buffer.Dispose();
        _done.Dispose();
    }

    private void Fetch(long offset, int wanted)
    {
        long start = offset & -SectorSize;
        int count = (int)Math.Min(Math.Min(BufferSize, Size - start), ((offset - start) + wanted + SectorSize - 1) & -SectorSize);
        if (_isUnderWay)
        {
            throw new InvalidOperationException("Nobody waited for the last read's end.");
        }

        _start = -1;
        _request.Offset = start;
        _request.Length = count;
        _request.Segments[0] = new MemorySegment(_buffer.Address, count);
        _done.Reset();
        _isUnderWay = true;
        _disk.Submit(_request);
        _disk.Kick();
        _done.Wait(_cancellation);
        if (_status != BlockStatus.Ok)
        {
            throw new ImageException("The disk cannot be read: its image is damaged, or the host's storage failed.");
        }

        (_start, _count) = (start, count);
    }
}
