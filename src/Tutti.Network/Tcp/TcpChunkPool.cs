namespace Tutti.Network.Tcp;

/// <summary>Bytes from the guest that wait: for the host's socket, or for the bytes before them.</summary>
internal sealed class TcpChunk
{
    internal const int Size = 16384;

    internal byte[] Data { get; } = GC.AllocateUninitializedArray<byte>(Size);

    internal TcpChunk? Next { get; set; }

    /// <summary>Sequence number of the byte at <see cref="Start"/>.</summary>
    internal uint Sequence { get; set; }

    internal int Start { get; set; }

    internal int Length { get; set; }

    internal uint End => Sequence + (uint)Length;

    internal ReadOnlySpan<byte> Span => Data.AsSpan(Start, Length);

    /// <summary>Adds what there is room for at the end; gives how many bytes.</summary>
    internal int Append(ReadOnlySpan<byte> data)
    {
        int count = Math.Min(data.Length, Size - Start - Length);
        data[..count].CopyTo(Data.AsSpan(Start + Length));
        Length += count;
        return count;
    }

    internal void Skip(int count)
    {
        Start += count;
        Sequence += (uint)count;
        Length -= count;
    }
}

/// <summary>Chunks for all connections together, so that no number of slow ones takes the host's memory.</summary>
internal sealed class TcpChunkPool
{
    private const int KeptFree = 256;
    private readonly int _capacity;
    private TcpChunk? _free;
    private int _freeCount;

    /// <param name="capacity">Most chunks in use at a time.</param>
    internal TcpChunkPool(int capacity) => _capacity = capacity;

    internal int InUse { get; private set; }

    /// <summary>Most in use at a time so far.</summary>
    internal int Most { get; private set; }

    internal TcpChunk? TryRent(uint sequence)
    {
        if (InUse >= _capacity)
        {
            return null;
        }

        Most = Math.Max(Most, ++InUse);
        TcpChunk chunk;
        if (_free != null)
        {
            chunk = _free;
            _free = chunk.Next;
            _freeCount--;
        }
        else
        {
            chunk = new TcpChunk();
        }

        chunk.Next = null;
        chunk.Sequence = sequence;
        chunk.Start = 0;
        chunk.Length = 0;
        return chunk;
    }

    internal void Return(TcpChunk chunk)
    {
        InUse--;
        if (_freeCount < KeptFree)
        {
            chunk.Next = _free;
            _free = chunk;
            _freeCount++;
        }
    }

    internal void ReturnAll(TcpChunk? chunk)
    {
        while (chunk != null)
        {
            TcpChunk? next = chunk.Next;
            Return(chunk);
            chunk = next;
        }
    }
}
