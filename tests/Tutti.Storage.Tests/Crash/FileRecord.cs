using Tutti.Storage.Files;

namespace Tutti.Storage.Tests.Crash;

/// <summary>All that was done to a file, and the guest's requests that it was done for, in their order.</summary>
internal sealed class FileRecord : IBlockFileWatch
{
    private readonly List<Event> _events = [];

    public void OnWrite(ReadOnlySpan<byte> bytes, long offset) => _events.Add(new Event { Offset = offset, Bytes = bytes.ToArray() });

    public void OnZero(long offset, long length) => _events.Add(new Event { Offset = offset, Bytes = new byte[length], IsHole = true });

    public void OnFlushed() => _events.Add(new Event { IsFlush = true });

    public void Begin(CrashRequest request) => _events.Add(new Event { Begun = request });

    public void End(CrashRequest request) => _events.Add(new Event { Ended = request });

    /// <summary>The disk has this size from now on.</summary>
    public void Grown(long size) => _events.Add(new Event { Size = size });

    /// <summary>When the power goes: at any moment, or shortly before an fdatasync ends, when most is unstable.</summary>
    /// <returns>Events before it.</returns>
    public int Choose(Random random)
    {
        int moment = random.Next(_events.Count + 1);
        if (random.Next(2) == 0)
        {
            int flush = _events.FindIndex(moment, e => e.IsFlush);
            moment = flush < 0 ? moment : Math.Max(flush - random.Next(3), 0);
        }

        return moment;
    }

    /// <summary>The file as it may be when the power goes at a moment.</summary>
    /// <param name="before">The file before all of it.</param>
    /// <param name="moment">Events that happened.</param>
    /// <param name="random">Chooses what of the unstable writes is there.</param>
    /// <param name="model">Gets the requests.</param>
    /// <param name="left">The file.</param>
    /// <returns>The disk's size at least, or 0.</returns>
    public long Replay(byte[] before, int moment, Random random, CrashModel model, out byte[] left)
    {
        MemoryStream file = new();
        file.Write(before);
        List<Event> unstable = [];
        long size = 0;
        foreach (Event step in _events.Take(moment))
        {
            if (step.Bytes != null)
            {
                unstable.Add(step);
            }
            else if (step.IsFlush)
            {
                unstable.ForEach(e => Put(file, e, 0, e.Bytes!.Length));
                unstable.Clear();
            }
            else if (step.Begun is CrashRequest begun)
            {
                model.Submit(begun);
            }
            else if (step.Ended is CrashRequest ended)
            {
                model.Complete(ended.Id);
            }
            else
            {
                size = step.Size;
            }
        }

        // Of some all, of some nothing, of some every sector by itself; in their order, or not.
        foreach (Event step in random.Next(2) == 0 ? unstable : [.. unstable.OrderBy(_ => random.Next())])
        {
            int chance = random.Next(3) * 50;
            bool isWhole = random.Next(2) == 0;
            bool isThere = random.Next(100) < chance;
            for (int at = 0; at < step.Bytes!.Length;)
            {
                int length = (int)Math.Min(SectorStamp.Size - ((step.Offset + at) % SectorStamp.Size), step.Bytes.Length - at);
                if (isWhole ? isThere : random.Next(100) < chance)
                {
                    Put(file, step, at, length);
                }

                at += length;
            }
        }

        left = file.ToArray();
        return size;
    }

    private static void Put(MemoryStream file, Event step, int start, int length)
    {
        // A hole does not make a file longer.
        long at = step.Offset + start;
        int count = step.IsHole ? (int)Math.Clamp(file.Length - at, 0, length) : length;
        if (count > 0)
        {
            file.Position = at;
            file.Write(step.Bytes!, start, count);
        }
    }

    private sealed class Event
    {
        public long Offset { get; init; }

        public byte[]? Bytes { get; init; }

        public bool IsHole { get; init; }

        public bool IsFlush { get; init; }

        public CrashRequest? Begun { get; init; }

        public CrashRequest? Ended { get; init; }

        public long Size { get; init; }
    }
}
