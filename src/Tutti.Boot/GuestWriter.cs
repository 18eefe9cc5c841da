using Tutti.Memory;

namespace Tutti.Boot;

/// <summary>Writes to ranges that the loader has already checked, so that a miss is a fault of ours, not of the user's file.</summary>
internal static class GuestWriter
{
    public static void Write(GuestMemory memory, ulong address, ReadOnlySpan<byte> bytes)
    {
        if (!memory.TryWrite(address, bytes))
        {
            throw new InvalidOperationException($"Boot data at 0x{address:x} lies outside guest memory.");
        }
    }

    /// <summary>Sets bytes to zero; any length.</summary>
    public static void Clear(GuestMemory memory, ulong address, ulong length)
    {
        const int Step = 1 << 20;
        while (length > 0)
        {
            int count = (int)Math.Min(length, Step);
            if (!memory.TryGetSpan(address, count, out Span<byte> span))
            {
                throw new InvalidOperationException($"Boot data at 0x{address:x} lies outside guest memory.");
            }

            span.Clear();
            memory.MarkWritten(address, count);
            address += (ulong)count;
            length -= (ulong)count;
        }
    }
}
