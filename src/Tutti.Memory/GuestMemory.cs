using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Tutti.Memory;

/// <summary>Told when bytes that a processor may have decoded are about to be, or were, changed.</summary>
public interface ICodeWriteObserver
{
    /// <summary>Guest physical bytes [address, address+length), all in one page, have been written.</summary>
    void OnCodeWritten(ulong address, int length);
}

/// <summary>
/// Guest physical memory: a few regions over one host mapping. Every access checks its bounds once;
/// a value the guest can change is read once and handed over by value.
/// Whoever made the host mapping owns it and must keep it alive longer than this object.
/// </summary>
public sealed unsafe class GuestMemory
{
    private readonly GuestMemoryRegion[] _regions;
    private readonly byte* _host;
    private readonly ulong _lowSize;
    private readonly ulong _highStart;
    private readonly ulong _highSize;
    private const int ChunkShift = 21;
    private readonly bool[] _isPopulated;
    private ICodeWriteObserver[] _observers = [];

    /// <param name="regions">One or two regions; the first starts at 0, both sorted. See <see cref="GuestMemoryLayout.Pc"/>.</param>
    /// <param name="hostAddress">Start of a readable and writable host mapping that holds all regions one behind the other.</param>
    public GuestMemory(IReadOnlyList<GuestMemoryRegion> regions, nint hostAddress)
    {
        ArgumentNullException.ThrowIfNull(regions);
        if (regions.Count is < 1 or > 2 || regions[0].Start != 0)
        {
            throw new ArgumentException("Guest memory is one or two regions, the first at address 0.", nameof(regions));
        }

        ulong free = 0;
        foreach (GuestMemoryRegion region in regions)
        {
            // One bad region would make every later bounds check wrong.
            if (region.Size == 0 || (region.Start | region.Size) % GuestMemoryLayout.PageSize != 0 || region.Start < free || region.End <= region.Start)
            {
                throw new ArgumentException("Guest memory regions are whole pages, in rising order, without overlap.", nameof(regions));
            }

            free = region.End;
        }

        _regions = [.. regions];
        // SAFETY: the caller vouches for the mapping's length, which is the sum of the region sizes.
        _host = (byte*)hostAddress;
        _lowSize = regions[0].Size;
        _highStart = regions.Count > 1 ? regions[1].Start : ulong.MaxValue;
        _highSize = regions.Count > 1 ? regions[1].Size : 0;
        Size = _lowSize + _highSize;
        Pages = new PageTracker(this);
        _isPopulated = new bool[(Size >> ChunkShift) + 1];
    }

    /// <summary>Bytes of RAM in all regions.</summary>
    public ulong Size { get; }

    /// <summary>First physical address behind the last region.</summary>
    public ulong End => _regions[^1].End;

    /// <summary>The RAM regions in rising order.</summary>
    public IReadOnlyList<GuestMemoryRegion> Regions => _regions;

    /// <summary>What is known of each page: dirty, has decoded code.</summary>
    public PageTracker Pages { get; }

    /// <summary>Host address of the first byte of region 0; region 1 follows it without a gap.</summary>
    public nint HostAddress => (nint)_host;

    /// <summary>The descriptor of the file whose bytes the host mapping shows, from the first one on; -1 where it is private memory.</summary>
    public int HostFile { get; init; } = -1;

    /// <summary>Bytes that are populated together.</summary>
    public const int ChunkSize = 1 << ChunkShift;

    /// <summary>Called with the host mapping's offset of a chunk that is about to be used first, from any thread, also more than once; null for nobody.</summary>
    public Action<long>? Populate { get; init; }

    /// <summary>A page of RAM, by its index in the host mapping, is about to be used.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void NoteUse(long page)
    {
        if (!_isPopulated[page >> (ChunkShift - 12)])
        {
            PopulateChunk(page >> (ChunkShift - 12));
        }
    }

    private void PopulateChunk(long chunk)
    {
        _isPopulated[chunk] = true;
        if (((ulong)chunk + 1) << ChunkShift <= Size)
        {
            Populate?.Invoke(chunk << ChunkShift);
        }
    }

    /// <summary>Adds an observer of writes to pages that hold decoded code. Not for use while processors run.</summary>
    public void AddCodeWriteObserver(ICodeWriteObserver observer) => _observers = [.. _observers, observer];

    /// <summary>Takes an observer out again. Not for use while processors run.</summary>
    public void RemoveCodeWriteObserver(ICodeWriteObserver observer) => _observers = [.. _observers.Where(o => o != observer)];

    /// <summary>Index of the page in the host mapping, or -1 where the address is not RAM.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public long GetPageIndex(ulong address)
    {
        if (address < _lowSize)
        {
            return (long)(address >> 12);
        }

        ulong high = address - _highStart;
        return high < _highSize && address >= _highStart ? (long)((_lowSize + high) >> 12) : -1;
    }

    /// <summary>Host address of a guest physical byte, or null where it is not RAM. Valid to the end of its 4 KiB page.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public byte* GetPointer(ulong address)
    {
        if (address < _lowSize)
        {
            return _host + address;
        }

        ulong high = address - _highStart;
        return high < _highSize && address >= _highStart ? _host + _lowSize + high : null;
    }

    /// <summary>Gives the bytes [address, address+length) when they all lie in one region.</summary>
    /// <remarks>Who writes through the span must tell <see cref="MarkWritten(ulong, int)"/> afterwards.</remarks>
    public bool TryGetSpan(ulong address, int length, out Span<byte> span)
    {
        byte* pointer = GetPointer(address);
        if (pointer == null || length < 0 || !Fits(address, (ulong)length))
        {
            span = default;
            return false;
        }

        NoteUse(pointer);

        // SAFETY: Fits has shown that the whole range lies in the region that pointer points into.
        span = new Span<byte>(pointer, length);
        return true;
    }

    /// <summary>Gives the bytes [address, address+length), when they all lie in one region, for device work that goes on later.</summary>
    /// <remarks>Who writes through the segment must tell <see cref="MarkWritten(ulong, int)"/> afterwards.</remarks>
    public bool TryGetSegment(ulong address, int length, out MemorySegment segment)
    {
        byte* pointer = GetPointer(address);
        if (pointer == null || length < 0 || !Fits(address, (ulong)length))
        {
            segment = default;
            return false;
        }

        NoteUse(pointer);
        segment = new MemorySegment((nint)pointer, length);
        return true;
    }

    private void NoteUse(byte* pointer) => NoteUse((pointer - _host) >> 12);

    /// <summary>Reads a value that lies wholly in one region; false where it does not.</summary>
    public bool TryRead<T>(ulong address, out T value)
        where T : unmanaged
    {
        if (!TryGetSpan(address, sizeof(T), out Span<byte> span))
        {
            value = default;
            return false;
        }

        value = MemoryMarshal.Read<T>(span);
        return true;
    }

    /// <summary>Writes a value that lies wholly in one region; false, and nothing written, where it does not.</summary>
    public bool TryWrite<T>(ulong address, in T value)
        where T : unmanaged
    {
        if (!TryGetSpan(address, sizeof(T), out Span<byte> span))
        {
            return false;
        }

        MemoryMarshal.Write(span, in value);
        MarkWritten(address, sizeof(T));
        return true;
    }

    /// <summary>Copies bytes into guest memory; false, and nothing written, where they do not fit in one region.</summary>
    public bool TryWrite(ulong address, ReadOnlySpan<byte> bytes)
    {
        if (!TryGetSpan(address, bytes.Length, out Span<byte> span))
        {
            return false;
        }

        bytes.CopyTo(span);
        MarkWritten(address, bytes.Length);
        return true;
    }

    /// <summary>Copies guest memory out; false where the range does not lie in one region.</summary>
    public bool TryRead(ulong address, Span<byte> bytes)
    {
        if (!TryGetSpan(address, bytes.Length, out Span<byte> span))
        {
            return false;
        }

        span.CopyTo(bytes);
        return true;
    }

    /// <summary>Notes that bytes in RAM have changed: sets dirty marks and tells the observers of pages with decoded code. A full memory barrier.</summary>
    public void MarkWritten(ulong address, int length)
    {
        // A processor marks a page before it decodes from it, and we have written before we look at the mark. Without the
        // barrier both could miss each other, and old code would stay decoded for good.
        Interlocked.MemoryBarrier();
        Mark(address, length);
    }

    /// <summary>The same for many ranges with one barrier: only their first <paramref name="length"/> bytes count.</summary>
    public void MarkWritten(ReadOnlySpan<GuestRange> ranges, long length)
    {
        Interlocked.MemoryBarrier();
        foreach (ref readonly GuestRange range in ranges)
        {
            if (length <= 0)
            {
                return;
            }

            Mark(range.Address, (int)Math.Min(range.Length, length));
            length -= range.Length;
        }
    }

    /// <summary>Tells all observers of a write into a page with decoded code; the bytes must lie in one page.</summary>
    public void NotifyCodeWritten(ulong address, int length)
    {
        foreach (ICodeWriteObserver observer in _observers)
        {
            observer.OnCodeWritten(address, length);
        }
    }

    private void Mark(ulong address, int length)
    {
        while (length > 0)
        {
            int inPage = Math.Min(length, GuestMemoryLayout.PageSize - (int)(address & 0xFFF));
            long page = GetPageIndex(address);
            if (page >= 0)
            {
                Pages.SetDirty(page);
                if (Pages.HasCode(page))
                {
                    NotifyCodeWritten(address, inPage);
                }
            }

            address += (ulong)inPage;
            length -= inPage;
        }
    }

    private bool Fits(ulong address, ulong length) => address < _lowSize
        ? length <= _lowSize - address
        : length <= _highSize - (address - _highStart);
}
