namespace Tutti.Host;

/// <summary>Fills a large range with one page, over and over, for the memory of <see cref="ChunkSize"/>.</summary>
public static unsafe class RepeatedPage
{
    /// <summary>Bytes of memory that all ranges share.</summary>
    public const int ChunkSize = 1 << 20;

    /// <summary>Makes a part of a mapping hold copies of one page. What is written there later has pages of its own.</summary>
    /// <param name="address">The first byte: of whole pages that the caller owns.</param>
    /// <param name="length">Bytes, a multiple of <see cref="ChunkSize"/>.</param>
    /// <exception cref="HostException">The kernel refuses; the bytes may be zeros.</exception>
    public static void Fill(nint address, long length, ReadOnlySpan<byte> page)
    {
        using FileDescriptor file = SharedFile.Create("tutti-page\0"u8, ChunkSize);
        using (MappedRange chunk = MappedRange.MapShared(file, ChunkSize))
        {
            // SAFETY: the mapping has ChunkSize bytes.
            var bytes = new Span<byte>((void*)chunk.Address, ChunkSize);
            for (int at = 0; at < ChunkSize; at += page.Length)
            {
                page.CopyTo(bytes[at..]);
            }
        }

        for (long at = 0; at < length; at += ChunkSize)
        {
            SharedFile.MapOver(address + (nint)at, ChunkSize, file, 0, LibC.PROT_READ | LibC.PROT_WRITE, LibC.MAP_PRIVATE | LibC.MAP_NORESERVE);
        }
    }
}
