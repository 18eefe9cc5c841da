using Tutti.Devices.Block;

namespace Tutti.Virtio.Block;

/// <summary>What the block device keeps for each of its queues, all under the device's lock.</summary>
internal sealed class BlockQueue
{
    private readonly VirtioBlockRequest[] _free;
    private readonly IBlockCompletion _owner;
    private int _freeCount;

    /// <param name="index">The queue's number.</param>
    /// <param name="size">The most requests that may be under way.</param>
    /// <param name="owner">Who is told of their ends.</param>
    internal BlockQueue(int index, int size, IBlockCompletion owner)
    {
        Index = index;
        _owner = owner;

        // One more is at hand while the worker finds the queue empty.
        _free = new VirtioBlockRequest[size + 1];
    }

    internal int Index { get; }

    /// <summary>Chains have been pushed that the guest does not see yet.</summary>
    internal bool HasUnpublished { get; set; }

    /// <summary>Chains were left in the queue so that the worker does its other work first.</summary>
    internal bool IsWaiting { get; set; }

    /// <summary>Gives a request. No more chains are under way than the queue is long: <see cref="Virtqueue"/> sees to it.</summary>
    internal VirtioBlockRequest Take()
    {
        if (_freeCount == 0)
        {
            // Made when they are first needed: few guests ever fill a queue.
            return new VirtioBlockRequest(this) { Owner = _owner };
        }

        return _free[--_freeCount];
    }

    internal void Return(VirtioBlockRequest request) => _free[_freeCount++] = request;
}
