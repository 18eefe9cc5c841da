using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Tutti.Memory;

namespace Tutti.Boot.Tests;

/// <summary>Guest memory for a test, filled with a pattern so that nothing passes because memory happened to be zero.</summary>
internal sealed unsafe class TestMemory : IDisposable
{
    public const ulong MiB = 1 << 20;
    public const byte Pattern = 0xA5;
    private readonly void* _pages;

    public TestMemory(ulong lowMiB, ulong highMiB = 0)
    {
        ulong size = (lowMiB + highMiB) * MiB;
        // SAFETY: as long as the regions; freed in Dispose.
        _pages = NativeMemory.AlignedAlloc((nuint)size, 4096);
        NativeMemory.Fill(_pages, (nuint)size, Pattern);
        List<GuestMemoryRegion> regions = [new(0, lowMiB * MiB)];
        if (highMiB > 0)
        {
            regions.Add(new(GuestMemoryLayout.HighMemoryStart, highMiB * MiB));
        }

        Guest = new GuestMemory(regions, (nint)_pages);
    }

    public GuestMemory Guest { get; }

    public byte[] Bytes(ulong address, int length)
    {
        byte[] bytes = new byte[length];
        Assert.True(Guest.TryRead(address, bytes), $"0x{address:x} is not memory");
        return bytes;
    }

    public byte U8(ulong address) => Bytes(address, 1)[0];

    public ushort U16(ulong address) => BinaryPrimitives.ReadUInt16LittleEndian(Bytes(address, 2));

    public uint U32(ulong address) => BinaryPrimitives.ReadUInt32LittleEndian(Bytes(address, 4));

    public ulong U64(ulong address) => BinaryPrimitives.ReadUInt64LittleEndian(Bytes(address, 8));

    // SAFETY: allocated in the constructor, and tests keep no pointers.
    public void Dispose() => NativeMemory.AlignedFree(_pages);
}
