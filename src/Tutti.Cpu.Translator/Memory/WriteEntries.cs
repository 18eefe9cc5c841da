using Tutti.Host;

namespace Tutti.Cpu.Translator;

/// <summary>
/// The TLB's entries for writes by the host page that they reach: a page that comes to hold code has its writes taken away, and a JIT compiler makes
/// many such pages while the tables are full. Entries that have gone since stay listed until another page has their place.
/// </summary>
/// <remarks>SAFETY: the lists have room for all entries, whose numbers the caller gives; a bucket's number is masked.</remarks>
internal sealed unsafe class WriteEntries : IDisposable
{
    private const int BucketCount = 1 << 12;

    private readonly HostMapping _memory;

    /// <summary>The first entry of each bucket, plus 1; 0 for none.</summary>
    private readonly int* _heads;

    /// <summary>The next one of each entry, plus 1.</summary>
    private readonly int* _next;

    /// <summary>The bucket of each entry, plus 1; 0 for none.</summary>
    private readonly ushort* _buckets;

    /// <param name="count">Entries that there are, numbered from 0.</param>
    public WriteEntries(int count)
    {
        _memory = new HostMapping((BucketCount * sizeof(int)) + ((long)count * (sizeof(int) + sizeof(ushort))));
        _heads = (int*)_memory.Address;
        _next = _heads + BucketCount;
        _buckets = (ushort*)(_next + count);
    }

    public void Dispose() => _memory.Dispose();

    /// <summary>An entry reaches a page, given by its host address.</summary>
    public void Set(int entry, ulong host)
    {
        int bucket = BucketOf(host);
        int before = _buckets[entry] - 1;
        if (before == bucket)
        {
            return;
        }

        if (before >= 0)
        {
            int* link = _heads + before;
            while (*link != entry + 1)
            {
                link = _next + (*link - 1);
            }

            *link = _next[entry];
        }

        _buckets[entry] = (ushort)(bucket + 1);
        _next[entry] = _heads[bucket];
        _heads[bucket] = entry + 1;
    }

    /// <summary>The first entry that may reach a page; -1 for none.</summary>
    public int First(ulong host) => _heads[BucketOf(host)] - 1;

    /// <summary>The next one; -1 for none.</summary>
    public int Next(int entry) => _next[entry] - 1;

    private static int BucketOf(ulong host) => (int)((host >> 12) ^ (host >> 24)) & (BucketCount - 1);
}
