using System.Buffers.Binary;
using Tutti.Devices.Block;
using static Tutti.Virtio.Block.VirtioBlockLayout;

namespace Tutti.Virtio.Block;

/// <summary>The way of a request: taken from its queue, checked, handed to the backend, returned with its status.</summary>
public sealed partial class VirtioBlock
{
    protected override void OnNotify(int queue) => Serve(_queues[queue]);

    // On the worker's thread.
    private void Resume()
    {
        foreach (BlockQueue queue in _queues)
        {
            bool waits;
            lock (Lock)
            {
                waits = queue.IsWaiting;
                queue.IsWaiting = false;
            }

            if (waits)
            {
                Serve(queue);
            }
        }
    }

    private void Serve(BlockQueue queue)
    {
        for (int batch = 0; ; batch++)
        {
            int count = TakeBatch(queue, batch == MaxBatches, out bool goOn);
            if (count != 0)
            {
                for (int i = 0; i < count; i++)
                {
                    Begin(_batch[i]);
                }

                _backend.Kick();
                EndCompletions();
            }

            if (!goOn)
            {
                return;
            }
        }
    }

    private int TakeBatch(BlockQueue queue, bool isEnough, out bool goOn)
    {
        goOn = false;
        int count = 0;
        lock (Lock)
        {
            Virtqueue ring = Queue(queue.Index);
            if (!ring.IsReady)
            {
                return 0;
            }

            if (isEnough)
            {
                queue.IsWaiting = true;
                _resume.Ring();
                return 0;
            }

            ring.DisableNotify();
            goOn = FillBatch(queue, ring, ref count);
        }

        return count;
    }

    // Whether there may be more.
    private bool FillBatch(BlockQueue queue, Virtqueue ring, ref int count)
    {
        while (count < BatchSize)
        {
            VirtioBlockRequest request = queue.Take();
            if (!ring.TryPop(request.Chain))
            {
                queue.Return(request);
                return ring.EnableNotify();
            }

            _underWay++;
            _batch[count++] = request;
        }

        return true;
    }

    private void Begin(VirtioBlockRequest request)
    {
        byte? status = Prepare(request);
        if (status is byte known)
        {
            Finish(request, known);
        }
        else
        {
            _backend.Submit(request);
        }
    }

    // The status of a request that needs no backend, or null. The header is read once.
    private byte? Prepare(VirtioBlockRequest request)
    {
        DescriptorChain chain = request.Chain;
        Span<byte> header = stackalloc byte[RequestHeaderSize];
        if (chain.WritableLength == 0 || chain.Read(0, header) != RequestHeaderSize)
        {
            return StatusIoErr;
        }

        ulong sector = BinaryPrimitives.ReadUInt64LittleEndian(header[RequestSector..]);
        switch (BinaryPrimitives.ReadUInt32LittleEndian(header[RequestType..]))
        {
            case TypeIn:
                return PrepareTransfer(request, BlockOperation.Read, sector, chain.WritableLength - 1);
            case TypeOut:
                return _isReadOnly ? StatusIoErr : PrepareTransfer(request, BlockOperation.Write, sector, chain.ReadableLength - RequestHeaderSize);
            case TypeFlush:
                request.SetFlush();
                return null;
            case TypeGetId:
                chain.Write(0, _id.AsSpan(0, (int)Math.Min(IdSize, chain.WritableLength - 1)));
                return StatusOk;
            case TypeDiscard when _canDiscard || _isReadOnly:
                return _isReadOnly ? StatusIoErr : PrepareRanges(request, BlockOperation.Discard, 0);
            case TypeWriteZeroes:
                return _isReadOnly ? StatusIoErr : PrepareRanges(request, BlockOperation.WriteZeroes, RangeFlagUnmap);
            default:
                return StatusUnsupp;
        }
    }

    private byte? PrepareTransfer(VirtioBlockRequest request, BlockOperation operation, ulong sector, long length)
    {
        if (length % SectorSize != 0 || length > MaxTransferBytes || !BlockRange.IsOnDisk(sector, (ulong)length >> SectorShift, Volatile.Read(ref _capacity)))
        {
            return StatusIoErr;
        }

        if (length == 0)
        {
            return StatusOk;
        }

        request.SetTransfer(operation, (long)sector << SectorShift, length, operation == BlockOperation.Write && !Volatile.Read(ref _isWriteback));
        return null;
    }

    // All ranges are checked before the first is begun.
    private byte? PrepareRanges(VirtioBlockRequest request, BlockOperation operation, uint knownFlags)
    {
        long length = request.Chain.ReadableLength - RequestHeaderSize;
        if (length == 0 || length % RangeSize != 0 || length > MaxRanges * RangeSize)
        {
            return StatusIoErr;
        }

        Span<byte> bytes = stackalloc byte[MaxRanges * RangeSize];
        bytes = bytes[..request.Chain.Read(RequestHeaderSize, bytes[..(int)length])];
        ulong capacity = Volatile.Read(ref _capacity);
        bool isOutside = false;
        request.SetRanges(operation, !Volatile.Read(ref _isWriteback));
        for (; bytes.Length != 0; bytes = bytes[RangeSize..])
        {
            BlockRange range = BlockRange.Read(bytes);
            if ((range.Flags & ~knownFlags) != 0)
            {
                return StatusUnsupp;
            }

            isOutside |= range.SectorCount > MaxRangeSectors || !BlockRange.IsOnDisk(range.Sector, range.SectorCount, capacity);
            if (range.SectorCount != 0)
            {
                request.AddRange(range);
            }
        }

        return isOutside ? StatusIoErr : request.TryAdvance() ? null : StatusOk;
    }

    /// <inheritdoc/>
    public void Complete(BlockRequest request, BlockStatus status)
    {
        VirtioBlockRequest ours = (VirtioBlockRequest)request;
        if (status != BlockStatus.Ok)
        {
            Finish(ours, status == BlockStatus.Unsupported ? StatusUnsupp : StatusIoErr);
        }
        else if (ours.TryAdvance())
        {
            // The backend may be in the middle of a batch of completions: it is told to begin when that ends.
            _backend.Submit(ours);
            Volatile.Write(ref _mustKick, true);
        }
        else
        {
            Finish(ours, StatusOk);
        }
    }

    /// <inheritdoc/>
    public void EndCompletions()
    {
        if (Volatile.Read(ref _mustKick) && Interlocked.Exchange(ref _mustKick, false))
        {
            _backend.Kick();
        }

        ulong signals = 0;
        lock (Lock)
        {
            foreach (BlockQueue queue in _queues)
            {
                if (queue.HasUnpublished)
                {
                    queue.HasUnpublished = false;
                    signals |= Queue(queue.Index).Publish() ? 1UL << queue.Index : 0;
                }
            }
        }

        for (int i = 0; signals != 0; i++, signals >>= 1)
        {
            if ((signals & 1) != 0)
            {
                SignalQueue(i);
            }
        }
    }

    private void Finish(VirtioBlockRequest request, byte status)
    {
        // What a failed read has written is not known, so all of it counts as written. A chain without room for a status can't tell the guest anything.
        DescriptorChain chain = request.Chain;
        if (chain.WritableCount != 0)
        {
            chain.Writable[^1].Span[^1] = status;
        }

        bool isReset;
        lock (Lock)
        {
            BlockQueue queue = request.Queue;
            Queue(queue.Index).Push(chain, (uint)chain.WritableLength);
            queue.HasUnpublished = true;
            queue.Return(request);
            _underWay--;
            isReset = _isResetting && _underWay == 0;
            if (isReset)
            {
                ForgetQueues();
            }
        }

        if (isReset)
        {
            CompleteReset();
        }
    }
}
