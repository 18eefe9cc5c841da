using System.Runtime.InteropServices;
using Tutti.Memory;

namespace Tutti.Storage.Tests;

/// <summary>Bytes that do not move, as guest memory does not.</summary>
internal sealed unsafe class NativeBytes : IDisposable
{
    private readonly byte* _start;

    public NativeBytes(int length, byte fill = 0)
    {
        Length = length;
        _start = (byte*)NativeMemory.AlignedAlloc((nuint)length, 4096);
        Span.Fill(fill);
    }

    public int Length { get; }

    public Span<byte> Span => new(_start, Length);

    public MemorySegment Segment => new((nint)_start, Length);

    public MemorySegment Part(int start, int length) => Segment.Slice(start, length);

    public void Dispose() => NativeMemory.AlignedFree(_start);
}
