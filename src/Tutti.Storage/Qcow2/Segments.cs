using Tutti.Memory;

namespace Tutti.Storage.Qcow2;

/// <summary>Segments as one run of bytes.</summary>
internal static class Segments
{
    internal static void Clear(ReadOnlySpan<MemorySegment> segments, long skip, long length)
    {
        foreach (MemorySegment segment in segments)
        {
            if (length <= 0)
            {
                return;
            }

            if (skip >= segment.Length)
            {
                skip -= segment.Length;
                continue;
            }

            int take = (int)Math.Min(segment.Length - skip, length);
            segment.Span.Slice((int)skip, take).Clear();
            length -= take;
            skip = 0;
        }
    }

    internal static void Copy(ReadOnlySpan<byte> from, ReadOnlySpan<MemorySegment> segments, long skip)
    {
        foreach (MemorySegment segment in segments)
        {
            if (from.IsEmpty)
            {
                return;
            }

            if (skip >= segment.Length)
            {
                skip -= segment.Length;
                continue;
            }

            int take = (int)Math.Min(segment.Length - skip, from.Length);
            from[..take].CopyTo(segment.Span[(int)skip..]);
            from = from[take..];
            skip = 0;
        }
    }
}
