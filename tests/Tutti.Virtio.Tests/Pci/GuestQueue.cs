using System.Buffers.Binary;

namespace Tutti.Virtio.Tests.Pci;

/// <summary>A buffer as a driver describes it.</summary>
internal readonly record struct Buffer(ulong Address, uint Length, bool IsWritable = false);

/// <summary>The driver's side of a split virtqueue, written from the specification.</summary>
internal sealed class GuestQueue
{
    private readonly PciBed _bed;
    private readonly PciDriver _driver;
    private readonly int _index;
    private readonly int _size;
    private readonly bool _hasEventIdx;
    private readonly Stack<ushort> _free = [];
    private readonly Dictionary<ushort, ushort[]> _chains = [];
    private ushort _nextAvailable;
    private ushort _notified;
    private ushort _lastUsed;

    internal GuestQueue(PciBed bed, PciDriver driver, int index, int size, ulong address, ulong features)
    {
        (_bed, _driver, _index, _size) = (bed, driver, index, size);
        Descriptors = address;
        Available = address + (ulong)(size * 16);
        Used = (Available + (ulong)(6 + (2 * size)) + 3) & ~3UL;
        _hasEventIdx = (features & VirtioFeatures.EventIdx) != 0;
        _bed.Ram(address, (int)(Used - address) + 6 + (8 * size)).Clear();
        for (int i = size - 1; i >= 0; i--)
        {
            _free.Push((ushort)i);
        }
    }

    internal ulong Descriptors { get; }

    internal ulong Available { get; }

    internal ulong Used { get; }

    internal ushort UsedIndex => Word(Used + 2);

    internal ushort AvailEvent => Word(Used + 4 + (ulong)(8 * _size));

    internal ushort UsedFlags => Word(Used);

    /// <summary>Writes a descriptor.</summary>
    internal void Describe(int index, ulong address, uint length, ushort flags, ushort next) =>
        Describe(Descriptors + (ulong)(index * 16), address, length, flags, next);

    internal void Describe(ulong at, ulong address, uint length, ushort flags, ushort next)
    {
        Span<byte> descriptor = _bed.Ram(at, 16);
        BinaryPrimitives.WriteUInt64LittleEndian(descriptor, address);
        BinaryPrimitives.WriteUInt32LittleEndian(descriptor[8..], length);
        BinaryPrimitives.WriteUInt16LittleEndian(descriptor[12..], flags);
        BinaryPrimitives.WriteUInt16LittleEndian(descriptor[14..], next);
    }

    /// <summary>Adds a chain of descriptors of the ring, and returns its head.</summary>
    internal ushort Add(params ReadOnlySpan<Buffer> buffers)
    {
        ushort[] indices = new ushort[buffers.Length];
        for (int i = 0; i < indices.Length; i++)
        {
            indices[i] = _free.Pop();
        }

        for (int i = 0; i < indices.Length; i++)
        {
            bool isLast = i == indices.Length - 1;
            ushort flags = (ushort)((isLast ? 0 : 1) | (buffers[i].IsWritable ? 2 : 0));
            Describe(indices[i], buffers[i].Address, buffers[i].Length, flags, isLast ? (ushort)0 : indices[i + 1]);
        }

        _chains.Add(indices[0], indices);
        Offer(indices[0]);
        return indices[0];
    }

    /// <summary>Adds a chain that lies in a table of its own.</summary>
    internal ushort AddIndirect(ulong table, params ReadOnlySpan<Buffer> buffers)
    {
        for (int i = 0; i < buffers.Length; i++)
        {
            bool isLast = i == buffers.Length - 1;
            ushort flags = (ushort)((isLast ? 0 : 1) | (buffers[i].IsWritable ? 2 : 0));
            Describe(table + (ulong)(16 * i), buffers[i].Address, buffers[i].Length, flags, (ushort)(i + 1));
        }

        ushort head = _free.Pop();
        Describe(head, table, (uint)buffers.Length * 16, 4, 0);
        _chains.Add(head, [head]);
        Offer(head);
        return head;
    }

    /// <summary>Puts a head into the available ring, whatever it is.</summary>
    internal void Offer(ushort head)
    {
        Set(Available + 4 + (ulong)(2 * (_nextAvailable % _size)), head);
        _nextAvailable++;
        Set(Available + 2, _nextAvailable);
    }

    internal void SetAvailableIndex(ushort index) => Set(Available + 2, index);

    internal void SetUsedEvent(ushort index) => Set(Available + 4 + (ulong)(2 * _size), index);

    internal void SetNoInterrupt(bool isSet) => Set(Available, isSet ? (ushort)1 : (ushort)0);

    /// <summary>Rings when the device wants to hear of what came since the last time; whether it did.</summary>
    internal bool Kick()
    {
        bool wanted = _hasEventIdx
            ? (ushort)(_nextAvailable - AvailEvent - 1) < (ushort)(_nextAvailable - _notified)
            : (UsedFlags & 1) == 0;
        _notified = _nextAvailable;
        if (wanted)
        {
            _driver.Notify(_index);
        }

        return wanted;
    }

    /// <summary>Takes the next used element; false when there is none.</summary>
    internal bool TryTake(out ushort head, out uint written)
    {
        (head, written) = (0, 0);
        if (UsedIndex == _lastUsed)
        {
            return false;
        }

        ReadOnlySpan<byte> element = _bed.Ram(Used + 4 + (ulong)(8 * (_lastUsed % _size)), 8);
        head = (ushort)BinaryPrimitives.ReadUInt32LittleEndian(element);
        written = BinaryPrimitives.ReadUInt32LittleEndian(element[4..]);
        _lastUsed++;
        Assert.True(_chains.Remove(head, out ushort[]? indices), $"Chain {head} came back that was not lent.");
        foreach (ushort index in indices)
        {
            _free.Push(index);
        }

        if (_hasEventIdx)
        {
            SetUsedEvent(_lastUsed);
        }

        return true;
    }

    private ushort Word(ulong address) => BinaryPrimitives.ReadUInt16LittleEndian(_bed.Ram(address, 2));

    private void Set(ulong address, ushort value) => BinaryPrimitives.WriteUInt16LittleEndian(_bed.Ram(address, 2), value);
}
