using System.Runtime.InteropServices;

namespace Tutti.Memory.Tests;

public sealed unsafe class GuestMemoryTests : IDisposable
{
    private const ulong LowSize = 0x4000;
    private const ulong HighStart = 0x1_0000_0000;
    private const ulong HighSize = 0x3000;
    private readonly byte* _pages;
    private readonly GuestMemory _memory;

    public GuestMemoryTests()
    {
        // SAFETY: as long as both regions and a guard page on each side; freed in Dispose.
        _pages = (byte*)NativeMemory.AlignedAlloc((nuint)(LowSize + HighSize + 0x2000), 4096);
        NativeMemory.Fill(_pages, (nuint)(LowSize + HighSize + 0x2000), 0xEE);
        _memory = new GuestMemory([new(0, LowSize), new(HighStart, HighSize)], (nint)_pages + 0x1000);
    }

    [Theory]
    [InlineData(0, 0)]
    [InlineData(LowSize - 1, LowSize - 1)]
    [InlineData(HighStart, LowSize)]
    [InlineData(HighStart + HighSize - 1, LowSize + HighSize - 1)]
    public void An_address_in_ram_has_its_place_in_the_mapping(ulong address, ulong offset)
    {
        Assert.Equal((nint)_pages + 0x1000 + (nint)offset, (nint)_memory.GetPointer(address));
        Assert.Equal((long)(offset >> 12), _memory.GetPageIndex(address));
    }

    [Theory]
    [InlineData(LowSize)]
    [InlineData(HighStart - 1)]
    [InlineData(HighStart + HighSize)]
    [InlineData(0x8000_0000_0000_0000)]
    [InlineData(ulong.MaxValue)]
    public void An_address_outside_has_none(ulong address)
    {
        Assert.True(_memory.GetPointer(address) == null);
        Assert.Equal(-1, _memory.GetPageIndex(address));
        Assert.False(_memory.TryRead(address, out byte _));
        Assert.False(_memory.TryWrite(address, (byte)1));
    }

    [Theory]
    [InlineData(0, (int)LowSize, true)]
    [InlineData(0, (int)LowSize + 1, false)]
    [InlineData(1, (int)LowSize, false)]
    [InlineData(LowSize - 8, 8, true)]
    [InlineData(LowSize - 7, 8, false)]
    [InlineData(HighStart - 4, 8, false)]
    [InlineData(HighStart, (int)HighSize, true)]
    [InlineData(HighStart, (int)HighSize + 1, false)]
    [InlineData(HighStart + HighSize - 1, 1, true)]
    [InlineData(HighStart + HighSize - 1, 2, false)]
    [InlineData(ulong.MaxValue, 2, false)]
    [InlineData(0, int.MaxValue, false)]
    [InlineData(0, -1, false)]
    [InlineData(0, 0, true)]
    public void A_span_is_given_exactly_when_it_lies_in_one_region(ulong address, int length, bool expected)
    {
        Assert.Equal(expected, _memory.TryGetSpan(address, length, out Span<byte> span));
        Assert.Equal(expected ? length : 0, span.Length);
    }

    [Fact]
    public void What_is_written_is_read_back_and_nothing_beside_it_changes()
    {
        Assert.True(_memory.TryWrite(0xFFC, 0x1122_3344_5566_7788UL));
        Assert.True(_memory.TryRead(0xFFC, out ulong value));
        Assert.Equal(0x1122_3344_5566_7788UL, value);
        Assert.True(_memory.TryRead(0xFFB, out byte before));
        Assert.True(_memory.TryRead(0x1004, out byte after));
        Assert.Equal((0xEE, 0xEE), (before, after));
    }

    [Fact]
    public void A_refused_write_writes_nothing()
    {
        Assert.False(_memory.TryWrite(LowSize - 4, 0UL));
        Assert.False(_memory.TryWrite(LowSize - 4, new byte[8]));
        Assert.True(_memory.TryRead(LowSize - 4, out uint value));
        Assert.Equal(0xEEEE_EEEEU, value);
        Assert.False(_memory.Pages.IsDirty(3));
    }

    [Fact]
    public void Random_accesses_never_leave_the_mapping()
    {
        Random random = new(7);
        ulong[] bases = [0, LowSize, HighStart, HighStart + HighSize, ulong.MaxValue];
        byte[] buffer = new byte[0x5000];
        for (int i = 0; i < 20_000; i++)
        {
            ulong address = bases[random.Next(bases.Length)] + (ulong)random.NextInt64(-0x5000, 0x5000);
            int length = random.Next(buffer.Length);
            bool expected = length > 0 && IsRam(address) && IsRam(address + (ulong)length - 1) && address >> 32 == (address + (ulong)length - 1) >> 32;
            if (length > 0)
            {
                Assert.Equal(expected, _memory.TryWrite(address, buffer.AsSpan(0, length)));
                Assert.Equal(expected, _memory.TryRead(address, buffer.AsSpan(0, length)));
            }
        }

        // SAFETY: the guard pages around the regions, allocated in the constructor.
        Assert.Equal(-1, new Span<byte>(_pages, 0x1000).IndexOfAnyExcept((byte)0xEE));
        Assert.Equal(-1, new Span<byte>(_pages + 0x1000 + LowSize + HighSize, 0x1000).IndexOfAnyExcept((byte)0xEE));

        static bool IsRam(ulong address) => address < LowSize || address is >= HighStart and < HighStart + HighSize;
    }

    [Fact]
    public void Writes_set_the_dirty_mark_of_every_page_they_touch_and_reads_none()
    {
        Assert.True(_memory.TryRead(0, out ulong _));
        _memory.TryWrite(0x1FFF, (ushort)0);
        _memory.TryWrite(HighStart + 0x2000, (byte)0);
        Assert.Equal([1L, 2L, 6L], Enumerable.Range(0, (int)_memory.Pages.Count).Select(i => (long)i).Where(_memory.Pages.IsDirty));
    }

    [Fact]
    public void Observers_are_told_only_of_pages_with_code_and_page_by_page()
    {
        Recorder recorder = new();
        _memory.AddCodeWriteObserver(recorder);
        _memory.Pages.SetCode(1);
        _memory.Pages.SetCode(2);
        _memory.TryWrite(0x800, new byte[0x2000]);
        Assert.Equal([(0x1000UL, 0x1000), (0x2000UL, 0x800)], recorder.Writes);

        _memory.Pages.ClearCode(1);
        _memory.TryWrite(0x1000, (byte)1);
        Assert.Equal(2, recorder.Writes.Count);

        _memory.RemoveCodeWriteObserver(recorder);
        _memory.TryWrite(0x2000, (byte)1);
        Assert.Equal(2, recorder.Writes.Count);
    }

    [Fact]
    public void Observers_see_the_new_bytes()
    {
        Recorder recorder = new() { Memory = _memory };
        _memory.AddCodeWriteObserver(recorder);
        _memory.Pages.SetCode(0);
        _memory.TryWrite(0x10, (byte)0x42);
        Assert.Equal(0x42, recorder.LastSeen);
    }

    [Fact]
    public void Marking_bytes_outside_ram_is_harmless()
    {
        _memory.MarkWritten(LowSize - 1, 0x2000);
        _memory.MarkWritten(ulong.MaxValue - 10, 100);
        Assert.True(_memory.Pages.IsDirty(3));
    }

    [Fact]
    public void Regions_that_overlap_or_are_no_whole_pages_are_refused()
    {
        GuestMemoryRegion[][] bad =
        [
            [],
            [new(0x1000, 0x1000)],
            [new(0, 0)],
            [new(0, 0x1001)],
            [new(0, 0x2000), new(0x1000, 0x1000)],
            [new(0, 0x1000), new(0x2001, 0x1000)],
            [new(0, 0x1000), new(0xFFFF_FFFF_FFFF_F000, 0x2000)],
            [new(0, 0x1000), new(0x2000, 0x1000), new(0x4000, 0x1000)],
        ];
        Assert.All(bad, regions => Assert.Throws<ArgumentException>(() => new GuestMemory(regions, (nint)_pages)));
    }

    // SAFETY: allocated in the constructor, and no test keeps a pointer.
    public void Dispose() => NativeMemory.AlignedFree(_pages);

    private sealed class Recorder : ICodeWriteObserver
    {
        public List<(ulong Address, int Length)> Writes { get; } = [];

        public GuestMemory? Memory { get; init; }

        public byte LastSeen { get; private set; }

        public void OnCodeWritten(ulong address, int length)
        {
            Writes.Add((address, length));
            if (Memory is not null && Memory.TryRead(address, out byte value))
            {
                LastSeen = value;
            }
        }
    }
}
