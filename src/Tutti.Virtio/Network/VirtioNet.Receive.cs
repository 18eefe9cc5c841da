using Tutti.Devices.Network;
using static Tutti.Virtio.Network.VirtioNetLayout;

namespace Tutti.Virtio.Network;

/// <summary>The way of frames from the network to the guest.</summary>
public sealed partial class VirtioNet
{
    // Linux posts mergeable buffers of 1.5 KiB and more: 44 of them hold the longest frame.
    private const int MaxMergedChains = 64;

    private readonly DescriptorChain[] _receiveChains = new DescriptorChain[MaxMergedChains];

    // The network waits for the guest to post buffers.
    private bool _isWaiting;

    // Frames are in the queue that the guest does not see yet.
    private bool _hasUnpublished;

    private enum Placing
    {
        Placed,
        Dropped,
        NoRoom,
    }

    /// <inheritdoc/>
    public bool TryReceive(ReadOnlySpan<byte> frame, in PacketOffload offload)
    {
        bool signal = false;
        lock (Lock)
        {
            Virtqueue queue = Queue(ReceiveQueue);
            if (!_isActive || !queue.IsReady)
            {
                return true;
            }

            if (frame.Length is < MinFrameSize or > MaxFrameSize || !CanTake(offload))
            {
                _receiveDropped++;
                return true;
            }

            if (!_filter.Passes(frame))
            {
                _receiveFiltered++;
                return true;
            }

            switch (Place(queue, frame, offload))
            {
                case Placing.Placed:
                    _received++;
                    _receivedBytes += frame.Length;
                    return true;
                case Placing.Dropped:
                    _receiveDropped++;
                    return true;
            }

            // The guest posts new buffers only when it sees the old ones come back.
            _isWaiting = true;
            signal = PublishReceived(queue);
        }

        if (signal)
        {
            SignalQueue(ReceiveQueue);
        }

        return false;
    }

    /// <inheritdoc/>
    public void EndReceive()
    {
        bool signal;
        lock (Lock)
        {
            signal = PublishReceived(Queue(ReceiveQueue));
        }

        if (signal)
        {
            SignalQueue(ReceiveQueue);
        }
    }

    private void ResumeReceive()
    {
        lock (Lock)
        {
            if (!_isWaiting)
            {
                return;
            }

            _isWaiting = false;
            if (_isActive)
            {
                Queue(ReceiveQueue).DisableNotify();
            }
        }

        _backend.OnReceiveReady();
    }

    private bool PublishReceived(Virtqueue queue)
    {
        bool signal = _hasUnpublished && queue.Publish();
        _hasUnpublished = false;
        return signal;
    }

    // The driver may have switched offloads off since the network asked.
    private bool CanTake(in PacketOffload offload)
    {
        PacketOffloads needed = (offload.NeedsChecksum ? PacketOffloads.Checksum : 0) | (offload.HasEcn ? PacketOffloads.Ecn : 0);
        needed |= offload.Segmentation switch
        {
            SegmentationKind.None => 0,
            SegmentationKind.Tcp4 => PacketOffloads.Tcp4,
            SegmentationKind.Tcp6 => PacketOffloads.Tcp6,
            _ => (PacketOffloads)int.MinValue,
        };
        return (needed & ~Accepts) == 0;
    }

    private Placing Place(Virtqueue queue, ReadOnlySpan<byte> frame, in PacketOffload offload)
    {
        int limit = (_features & FeatureMrgRxbuf) != 0 ? Math.Min(MaxMergedChains, queue.Size) : 1;
        while (true)
        {
            int count = Gather(queue, HeaderSize + frame.Length, limit, out bool isEnough);
            if (isEnough)
            {
                Fill(queue, count, frame, offload);
                return Placing.Placed;
            }

            for (int i = count - 1; i >= 0; i--)
            {
                queue.Return(_receiveChains[i]);
            }

            if (count == limit)
            {
                // It will never fit: what was posted later comes no earlier.
                return Placing.Dropped;
            }

            if (!queue.EnableNotifyOfMore())
            {
                return Placing.NoRoom;
            }
        }
    }

    // Takes chains until they hold as many bytes, but no more than the limit.
    private int Gather(Virtqueue queue, int needed, int limit, out bool isEnough)
    {
        int count = 0;
        long room = 0;

        // The driver could post bad chains for as long as we take them: as many as the queue is long are enough for one frame.
        int useless = 0;
        while (room < needed && count < limit && useless < queue.Size && queue.TryPop(_receiveChains[count]))
        {
            DescriptorChain chain = _receiveChains[count];
            if (count == 0 && chain.WritableLength < HeaderSize)
            {
                // No frame can begin in it.
                useless++;
                queue.Push(chain, 0);
                _hasUnpublished = true;
                continue;
            }

            room += chain.WritableLength;
            count++;
        }

        isEnough = room >= needed;
        return count;
    }

    private void Fill(Virtqueue queue, int count, ReadOnlySpan<byte> frame, in PacketOffload offload)
    {
        Span<byte> header = stackalloc byte[HeaderSize];
        PacketOffload known = (Accepts & PacketOffloads.Checksum) != 0 ? offload : offload with { IsChecksumValid = false };
        VirtioNetHeader.Write(header, known, count);
        int at = HeaderSize;
        _receiveChains[0].Write(0, header);
        for (int i = 0; i < count; i++)
        {
            DescriptorChain chain = _receiveChains[i];
            int part = (int)Math.Min(chain.WritableLength - at, frame.Length);
            chain.Write(at, frame[..part]);
            queue.Push(chain, (uint)(at + part));
            frame = frame[part..];
            at = 0;
        }

        _hasUnpublished = true;
    }
}
