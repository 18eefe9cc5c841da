namespace Tutti.Cpu.Translator;

/// <summary>A translated block: where it came from and where it runs. A boot makes tens of thousands: each byte here counts.</summary>
internal class TranslatedBlock(ulong physical, TlbSet set, int byteLength, long farEntry, long nearEntry)
{
    private readonly ushort _byteLength = checked((ushort)byteLength);
    private readonly byte _set = (byte)set;

    /// <summary>Guest physical address of the first instruction.</summary>
    public ulong Physical { get; } = physical;

    public TlbSet Set => (TlbSet)_set;

    /// <summary>Bytes of guest code from the first instruction on.</summary>
    public int ByteLength => _byteLength;

    /// <summary>Bytes before the first instruction, where a jump has led back.</summary>
    public ushort BytesBefore { get; init; }

    /// <summary>Where jumps by linear address enter; 0 where there is no such code yet.</summary>
    public long FarEntry { get; set; } = farEntry;

    public long NearEntry { get; } = nearEntry;

    /// <summary>No code, only the knowledge that the instruction here crosses the end of its page.</summary>
    public bool IsCrossing { get; init; }

    /// <summary>
    /// Begins where the guest was interrupted or has faulted, which is in the middle of things: other blocks do not end before it, or each fault in a loop
    /// would cut that in two.
    /// </summary>
    public bool IsResumed { get; init; }

    /// <summary>Guest physical address of the next page, where an instruction that crosses the page's end goes on; else 0.</summary>
    public virtual ulong NextPage => 0;

    /// <summary>The first of the jumps that lead here, to be led back to their stubs when the block goes: the others are found from its stub. Bytes from the region's start to the stub; 0 for none.</summary>
    public int Incoming { get; set; }

    /// <summary>The same of jumps from other pages.</summary>
    public int IncomingFar { get; set; }

    /// <summary>The next block of the same page.</summary>
    public TranslatedBlock? NextInPage { get; set; }

    /// <summary>The next block of the same hash.</summary>
    public TranslatedBlock? NextInBucket { get; set; }
}

/// <summary>A block whose accesses go by the host's page tables, and may fault.</summary>
internal sealed class WindowBlock(ulong physical, TlbSet set, int byteLength, long farEntry, long nearEntry)
    : TranslatedBlock(physical, set, byteLength, farEntry, nearEntry)
{
    private static ReadOnlySpan<sbyte> Cached => [-1, 10, 11, 14, 15];

    /// <summary>
    /// The instructions that reach memory, in the order of their host code: bytes from <see cref="TranslatedBlock.FarEntry"/> to where it begins in
    /// bits 16 to 31, its offset in the guest's page in 0 to 11, in 12 to 14 which register R14 has there, by <see cref="CachedOf"/>, and in 32 to 36
    /// the number, plus 1, of a register of whose region R15 may have the distance, 0 where the instruction brings that itself.
    /// </summary>
    public required ulong[] Accesses { get; init; }

    public static ulong Pack(int distance, int offset, int cached, int region) =>
        ((ulong)(region + 1) << 32) | ((ulong)checked((ushort)distance) << 16) | (uint)offset | ((uint)Cached.IndexOf((sbyte)cached) << 12);

    public static int DistanceOf(ulong access) => (int)(access >> 16) & 0xFFFF;

    public static int OffsetOf(ulong access) => (int)(access & 0xFFF);

    /// <summary>The guest's register that R14 has where the instruction begins; less than 0 for none.</summary>
    public static int CachedOf(ulong access) => Cached[(int)(access >> 12) & 7];

    /// <summary>The guest's register of whose region R15 has the distance where the instruction begins; less than 0 for none.</summary>
    public static int RegionOf(ulong access) => (int)(access >> 32) - 1;

    /// <summary>The last one that begins at or before an address.</summary>
    public ulong AccessAt(long rip)
    {
        int low = 0;
        int high = Accesses.Length;
        while (high - low > 1)
        {
            int middle = (low + high) / 2;
            (low, high) = DistanceOf(Accesses[middle]) <= rip - FarEntry ? (middle, high) : (low, middle);
        }

        return Accesses[low];
    }
}

/// <summary>An instruction that crosses the end of its page. Each of the two pages has one for itself.</summary>
internal sealed class CrossingBlock(ulong physical, ulong nextPage, TlbSet set, int byteLength, long farEntry, long nearEntry)
    : TranslatedBlock(physical, set, byteLength, farEntry, nearEntry)
{
    public override ulong NextPage { get; } = nextPage;
}
