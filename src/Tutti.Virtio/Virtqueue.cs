using System.Numerics;
using Tutti.Memory;

namespace Tutti.Virtio;

/// <summary>State of a queue. Chains that were under way are given to the device again.</summary>
/// <param name="Size">Entries.</param>
/// <param name="Addresses">Where its areas lie.</param>
/// <param name="IsEnabled">Whether the driver has enabled it.</param>
/// <param name="IsBroken">Whether the driver has broken its rules.</param>
/// <param name="NextAvailable">Index of the available entry that comes next.</param>
/// <param name="Used">Elements that were used so far, modulo 65536.</param>
/// <param name="UnderWay">Heads of the chains that were taken and not yet returned.</param>
public sealed record VirtqueueState(
    int Size, VirtqueueAddresses Addresses, bool IsEnabled, bool IsBroken, ushort NextAvailable, ushort Used, ushort[] UnderWay);

/// <summary>
/// The device's side of a split virtqueue. All that the driver has written is read once and checked; what breaks the rules breaks the queue,
/// and the device then needs a reset. Every call is made under the device's lock. Source: Virtual I/O Device 1.2, 2.7.
/// </summary>
public sealed class Virtqueue
{
    private readonly VirtioDevice _device;
    private GuestMemory? _memory;
    private SplitRing _ring;
    private bool _hasIndirect;
    private bool _hasEventIdx;
    private bool _isBroken;
    private bool _isNotifyOff;

    // Where we are in the available ring, and what of it we have seen.
    private ushort _nextAvailable;
    private ushort _knownAvailable;

    // Elements written to the used ring, and those that the driver can see.
    private ushort _used;
    private ushort _published;

    // By head, so that a driver that offers a chain twice is found out, and a state knows what was under way.
    private bool[] _isUnderWay = [];
    private ushort[] _repeats = [];
    private int _repeatCount;

    internal Virtqueue(VirtioDevice device, int index, int maxSize)
    {
        if (!BitOperations.IsPow2(maxSize) || maxSize > 32768)
        {
            throw new ArgumentOutOfRangeException(nameof(maxSize), maxSize, "A queue has 1 to 32768 entries, a power of two.");
        }

        (_device, Index, MaxSize, Size) = (device, index, maxSize, maxSize);
    }

    /// <summary>The queue's number.</summary>
    public int Index { get; }

    /// <summary>Entries as the driver has set them.</summary>
    public int Size { get; private set; }

    /// <summary>Whether it is enabled and not broken: else it gives no chains, and takes them back without a word to the driver.</summary>
    public bool IsReady { get; private set; }

    /// <summary>Chains that were taken and not yet returned.</summary>
    public int UnderWay { get; private set; }

    internal int MaxSize { get; }

    internal VirtqueueAddresses Addresses { get; private set; }

    internal bool IsEnabled { get; private set; }

    /// <summary>The driver has reset the queue alone, and chains of it are still under way.</summary>
    internal bool IsResetting { get; private set; }

    /// <summary>Takes the next chain that the driver has made available.</summary>
    /// <returns>False where there is none, or the driver has broken the rules: then the queue is not ready any more.</returns>
    public bool TryPop(DescriptorChain chain)
    {
        ArgumentNullException.ThrowIfNull(chain);
        if (!IsReady)
        {
            return false;
        }

        ushort head;
        chain.IsRepeated = _repeatCount != 0;
        if (chain.IsRepeated)
        {
            head = _repeats[_repeatCount - 1];
        }
        else if (_nextAvailable != _knownAvailable || Refresh())
        {
            head = _ring.ReadAvailable(_nextAvailable);
        }
        else
        {
            return false;
        }

        if (head >= Size || _isUnderWay[head] || !TryWalk(head, chain))
        {
            Break();
            return false;
        }

        if (chain.IsRepeated)
        {
            _repeatCount--;
        }
        else
        {
            _nextAvailable++;
        }

        _isUnderWay[head] = true;
        UnderWay++;
        return true;
    }

    /// <summary>Puts the chain that was popped last back, as if it had not been; several go back in the opposite order.</summary>
    public void Return(DescriptorChain chain)
    {
        ArgumentNullException.ThrowIfNull(chain);
        if (!Forget(chain.Head) || !IsReady)
        {
            return;
        }

        if (chain.IsRepeated)
        {
            _repeats[_repeatCount++] = chain.Head;
        }
        else
        {
            _nextAvailable--;
        }
    }

    /// <summary>Gives a chain back as used; the driver sees it after <see cref="Publish"/>. In any order.</summary>
    /// <param name="chain">As <see cref="TryPop"/> filled it.</param>
    /// <param name="written">
    /// Bytes that were written to its writable part, from the first; no more than it has. The memory's observers are told of so many: who may
    /// have written more says more.
    /// </param>
    public void Push(DescriptorChain chain, uint written)
    {
        ArgumentNullException.ThrowIfNull(chain);

        // Even of a queue that is not ready: whoever has decoded code there must hear of it.
        if (written != 0)
        {
            _memory?.MarkWritten(chain.WritableRanges, written);
        }

        if (Forget(chain.Head) && IsReady)
        {
            _ring.WriteUsed(_used++, chain.Head, (uint)Math.Min(written, chain.WritableLength));
        }
    }

    /// <summary>Shows the driver all that was pushed, by one store.</summary>
    /// <returns>Whether it wants an interrupt for that: the caller signals it after it has let go of the device's lock.</returns>
    public bool Publish()
    {
        if (!IsReady || _used == _published)
        {
            return false;
        }

        ushort before = _published;
        _published = _used;
        _ring.WriteUsedIndex(_used);

        // A full barrier: the driver writes what it wants and then looks at the index, we the other way round.
        MarkRing();
        return _hasEventIdx
            ? (ushort)(_used - _ring.UsedEvent - 1) < (ushort)(_used - before)
            : !_ring.WantsNoInterrupt;
    }

    /// <summary>Asks the driver not to notify of more chains: we look ourselves. It may do so nevertheless.</summary>
    public void DisableNotify()
    {
        // With EVENT_IDX an index that lies behind says the same.
        if (IsReady && !_hasEventIdx && !_isNotifyOff)
        {
            _isNotifyOff = true;
            _ring.WriteNoNotify(true);
        }
    }

    /// <summary>Asks the driver to notify of the next chain.</summary>
    /// <returns>True when chains have come meanwhile, of which it may not notify: go on.</returns>
    public bool EnableNotify() => EnableNotify(_nextAvailable) || (IsReady && _repeatCount != 0);

    /// <summary>
    /// As <see cref="EnableNotify()"/>, for who has popped all chains and returned them because they are too few: they don't count, only further ones do.
    /// </summary>
    public bool EnableNotifyOfMore() => EnableNotify(_knownAvailable);

    /// <summary>Whether the driver has offered as many chains as the queue holds. The index wraps: true at some time is what counts.</summary>
    internal bool IsFilled => IsReady && _ring.AvailableIndex >= Size;

    /// <summary>Whether it has offered more, so that it has taken some back.</summary>
    internal bool IsRefilled => IsReady && _ring.AvailableIndex > Size;

    internal void Connect(GuestMemory memory) => _memory = memory;

    /// <summary>Sets the size; ignored while the queue is enabled or where it is none.</summary>
    internal void SetSize(int size)
    {
        if (!IsEnabled && !IsResetting && size <= MaxSize && BitOperations.IsPow2(size))
        {
            Size = size;
        }
    }

    internal void SetAddresses(in VirtqueueAddresses addresses)
    {
        if (!IsEnabled && !IsResetting)
        {
            Addresses = addresses;
        }
    }

    /// <summary>Starts the queue with an empty ring; where its areas can't be, the device needs a reset.</summary>
    internal void Enable(ulong features)
    {
        if (IsEnabled || IsResetting)
        {
            return;
        }

        if (!TryOpen(features))
        {
            _device.FailUnderLock();
        }
    }

    /// <summary>The driver resets this queue alone. Chains under way are waited for: see <see cref="IsResetting"/>.</summary>
    internal void BeginReset()
    {
        if (!IsEnabled)
        {
            return;
        }

        IsEnabled = false;
        IsReady = false;
        IsResetting = UnderWay != 0;
        if (!IsResetting)
        {
            Reset();
        }
    }

    /// <summary>Stops the queue: what is pushed from now on reaches nobody.</summary>
    internal void Stop() => IsReady = false;

    /// <summary>Back to how it was made.</summary>
    internal void Reset()
    {
        (IsEnabled, IsReady, IsResetting, _isBroken, _isNotifyOff) = (false, false, false, false, false);
        (Size, Addresses, _ring) = (MaxSize, default, default);
        (_nextAvailable, _knownAvailable, _used, _published) = (0, 0, 0, 0);
        (UnderWay, _repeatCount) = (0, 0);
        Array.Clear(_isUnderWay);
    }

    internal VirtqueueState Save()
    {
        if (IsResetting)
        {
            // What the reset waits for does not go along.
            return new VirtqueueState(MaxSize, default, false, false, 0, 0, []);
        }

        ushort[] underWay = [.. _repeats[.._repeatCount], .. Enumerable.Range(0, _isUnderWay.Length).Where(i => _isUnderWay[i]).Select(i => (ushort)i)];
        return new VirtqueueState(Size, Addresses, IsEnabled, _isBroken, _nextAvailable, _used, underWay);
    }

    /// <exception cref="ArgumentException">The state can't be one of this queue and memory.</exception>
    internal void Restore(VirtqueueState state, ulong features)
    {
        Reset();
        if (!BitOperations.IsPow2(state.Size) || state.Size > MaxSize || state.UnderWay.Length > state.Size)
        {
            throw new ArgumentException("The state is that of a longer queue.", nameof(state));
        }

        (Size, Addresses) = (state.Size, state.Addresses);
        if (!state.IsEnabled)
        {
            return;
        }

        if (!TryOpen(features))
        {
            throw new ArgumentException("The state's queue lies where there is no memory.", nameof(state));
        }

        _isBroken = state.IsBroken;
        IsReady = !_isBroken;
        (_nextAvailable, _knownAvailable, _used, _published) = (state.NextAvailable, state.NextAvailable, state.Used, state.Used);
        _repeats = [.. state.UnderWay];
        _repeatCount = _repeats.Length;
        if (IsReady)
        {
            // Elements that were not published are now.
            _ring.WriteUsedIndex(_used);
            MarkRing();
        }
    }

    private bool TryOpen(ulong features)
    {
        if (_memory == null || !SplitRing.TryMake(_memory, Size, Addresses, out _ring))
        {
            return false;
        }

        _hasIndirect = (features & VirtioFeatures.IndirectDesc) != 0;
        _hasEventIdx = (features & VirtioFeatures.EventIdx) != 0;
        _isUnderWay = _isUnderWay.Length == Size ? _isUnderWay : new bool[Size];
        (IsEnabled, IsReady) = (true, true);
        return true;
    }

    private bool EnableNotify(ushort next)
    {
        if (!IsReady)
        {
            return false;
        }

        if (_hasEventIdx)
        {
            _ring.WriteAvailEvent(next);
        }
        else
        {
            _isNotifyOff = false;
            _ring.WriteNoNotify(false);
        }

        // A full barrier, as in Publish.
        MarkRing();
        return _ring.AvailableIndex != next;
    }

    private void Break()
    {
        _isBroken = true;
        IsReady = false;
        _device.FailUnderLock();
    }

    private void MarkRing() => _memory!.MarkWritten(_ring.UsedRange.Address, _ring.UsedRange.Length);

    private bool Forget(ushort head)
    {
        if (head >= _isUnderWay.Length || !_isUnderWay[head])
        {
            return false;
        }

        _isUnderWay[head] = false;
        UnderWay--;
        if (IsResetting && UnderWay == 0)
        {
            Reset();
        }

        return true;
    }

    /// <summary>Looks for new entries; false where there is none, or the index is none that the driver can have come to.</summary>
    private bool Refresh()
    {
        ushort index = _ring.AvailableIndex;
        if (index == _nextAvailable)
        {
            return false;
        }

        // Each chain has at least one descriptor of its own until the driver sees it used, and what was made available stays so.
        ushort open = (ushort)(index - _published);
        if (open > Size || open < (ushort)(_nextAvailable - _published))
        {
            Break();
            return false;
        }

        _knownAvailable = index;
        return true;
    }

    private bool TryWalk(ushort head, DescriptorChain chain)
    {
        chain.Begin(head);
        Span<byte> table = _ring.Descriptors.Span;
        int index = head;
        bool isIndirect = false;

        // A chain is at most as long as the queue can be, which ends loops too.
        for (int left = MaxSize; left > 0; left--)
        {
            VirtqDescriptor descriptor = SplitRing.ReadDescriptor(table, index);
            if ((descriptor.Flags & VirtqDescriptor.FlagIndirect) != 0)
            {
                if (!_hasIndirect || isIndirect || !TryGetTable(descriptor, out MemorySegment indirect))
                {
                    return false;
                }

                isIndirect = true;
                table = indirect.Span;
                index = 0;
                left++;
                continue;
            }

            if (!TryAdd(chain, descriptor))
            {
                return false;
            }

            if ((descriptor.Flags & VirtqDescriptor.FlagNext) == 0)
            {
                return true;
            }

            index = descriptor.Next;
            if (index >= table.Length / VirtqDescriptor.Size)
            {
                return false;
            }
        }

        return false;
    }

    private bool TryGetTable(in VirtqDescriptor descriptor, out MemorySegment table)
    {
        table = default;
        return (descriptor.Flags & VirtqDescriptor.FlagNext) == 0
            && descriptor.Length is not 0 and <= (ushort.MaxValue + 1) * VirtqDescriptor.Size
            && descriptor.Length % VirtqDescriptor.Size == 0
            && _memory!.TryGetSegment(descriptor.Address, (int)descriptor.Length, out table);
    }

    private bool TryAdd(DescriptorChain chain, in VirtqDescriptor descriptor)
    {
        if (descriptor.Length == 0)
        {
            return true;
        }

        bool isWritable = (descriptor.Flags & VirtqDescriptor.FlagWrite) != 0;
        if ((!isWritable && chain.WritableCount != 0)
            || descriptor.Length > int.MaxValue
            || chain.ReadableLength + chain.WritableLength + descriptor.Length > uint.MaxValue
            || !_memory!.TryGetSegment(descriptor.Address, (int)descriptor.Length, out MemorySegment segment))
        {
            return false;
        }

        chain.Add(segment, descriptor.Address, isWritable);
        return true;
    }
}
