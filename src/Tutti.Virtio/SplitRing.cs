using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Tutti.Memory;

namespace Tutti.Virtio;

/// <summary>A descriptor as it lies in guest memory. Source: Virtual I/O Device 1.2, 2.7.5.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly struct VirtqDescriptor
{
    internal const int Size = 16;
    internal const ushort FlagNext = 1;
    internal const ushort FlagWrite = 2;
    internal const ushort FlagIndirect = 4;

    internal readonly ulong Address;
    internal readonly uint Length;
    internal readonly ushort Flags;
    internal readonly ushort Next;
}

/// <summary>
/// The three areas of a split virtqueue in guest memory, whose bounds and alignment were checked when it was made. The driver writes them at
/// any time: each read is one load. Source: Virtual I/O Device 1.2, 2.7.
/// </summary>
internal readonly struct SplitRing
{
    private const int FlagsWord = 0;
    private const int IndexWord = 1;
    private const int FirstWord = 2;
    private const int WordSize = 2;
    private const int UsedHeader = 4;
    private const int UsedElementSize = 8;
    private const ushort AvailNoInterrupt = 1;
    private const ushort UsedNoNotify = 1;

    private readonly MemorySegment _available;
    private readonly MemorySegment _used;
    private readonly int _size;

    private SplitRing(int size, MemorySegment descriptors, MemorySegment available, MemorySegment used, ulong usedAddress)
    {
        (_size, Descriptors, _available, _used) = (size, descriptors, available, used);
        UsedRange = new GuestRange(usedAddress, used.Length);
    }

    internal MemorySegment Descriptors { get; }

    /// <summary>The used area: all that the device writes of the ring.</summary>
    internal GuestRange UsedRange { get; }

    internal ushort AvailableIndex => Volatile.Read(ref Available[IndexWord]);

    internal bool WantsNoInterrupt => (Volatile.Read(ref Available[FlagsWord]) & AvailNoInterrupt) != 0;

    internal ushort UsedEvent => Volatile.Read(ref Available[FirstWord + _size]);

    private Span<ushort> Available => MemoryMarshal.Cast<byte, ushort>(_available.Span);

    private Span<ushort> Used => MemoryMarshal.Cast<byte, ushort>(_used.Span);

    /// <summary>Finds the areas; false where one is misaligned or not in RAM.</summary>
    /// <param name="size">Entries, a power of two.</param>
    internal static bool TryMake(GuestMemory memory, int size, in VirtqueueAddresses addresses, out SplitRing ring)
    {
        ring = default;
        if ((addresses.Descriptors & 15) != 0 || (addresses.Available & 1) != 0 || (addresses.Used & 3) != 0
            || !memory.TryGetSegment(addresses.Descriptors, size * VirtqDescriptor.Size, out MemorySegment descriptors)
            || !memory.TryGetSegment(addresses.Available, (FirstWord + size + 1) * WordSize, out MemorySegment available)
            || !memory.TryGetSegment(addresses.Used, UsedHeader + (size * UsedElementSize) + WordSize, out MemorySegment used))
        {
            return false;
        }

        ring = new SplitRing(size, descriptors, available, used, addresses.Used);
        return true;
    }

    /// <summary>Reads a descriptor of a table, once.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static VirtqDescriptor ReadDescriptor(Span<byte> table, int index) =>
        Unsafe.ReadUnaligned<VirtqDescriptor>(ref MemoryMarshal.GetReference(table.Slice(index * VirtqDescriptor.Size, VirtqDescriptor.Size)));

    internal ushort ReadAvailable(ushort position) => Volatile.Read(ref Available[FirstWord + (position & (_size - 1))]);

    internal void WriteUsed(ushort position, ushort head, uint written)
    {
        Span<uint> element = MemoryMarshal.Cast<byte, uint>(_used.Span.Slice(UsedHeader + ((position & (_size - 1)) * UsedElementSize), UsedElementSize));
        element[0] = head;
        element[1] = written;
    }

    /// <summary>Makes the elements before it visible.</summary>
    internal void WriteUsedIndex(ushort index) => Volatile.Write(ref Used[IndexWord], index);

    internal void WriteNoNotify(bool isSet) => Volatile.Write(ref Used[FlagsWord], isSet ? UsedNoNotify : (ushort)0);

    internal void WriteAvailEvent(ushort index) => Volatile.Write(ref Used[FirstWord + (_size * UsedElementSize / WordSize)], index);
}

/// <summary>Guest physical addresses of a queue's areas.</summary>
/// <param name="Descriptors">The descriptor area.</param>
/// <param name="Available">The driver area.</param>
/// <param name="Used">The device area.</param>
public readonly record struct VirtqueueAddresses(ulong Descriptors, ulong Available, ulong Used);
