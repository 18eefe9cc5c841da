namespace Tutti.Cpu.Translator;

/// <summary>A translated block: where it came from and where it runs. A boot makes tens of thousands: each byte here counts.</summary>
internal class TranslatedBlock(ulong physical, TlbSet set, int byteLength, long farEntry, long nearEntry)
{
    private readonly ushort _byteLength = checked((ushort)byteLength);
    private readonly byte _set = (byte)set;
    private readonly byte _nearDistance = checked((byte)(nearEntry - farEntry));

    /// <summary>Guest physical address of the first instruction.</summary>
    public ulong Physical { get; } = physical;

    public TlbSet Set => (TlbSet)_set;

    /// <summary>Bytes of guest code from the first instruction on.</summary>
    public int ByteLength => _byteLength;

    /// <summary>Bytes before the first instruction, where a jump has led back.</summary>
    public ushort BytesBefore { get; init; }

    public long FarEntry { get; } = farEntry;

    public long NearEntry => FarEntry + _nearDistance;

    /// <summary>No code, only the knowledge that the instruction here crosses the end of its page.</summary>
    public bool IsCrossing { get; init; }

    /// <summary>Guest physical address of the next page, where an instruction that crosses the page's end goes on; else 0.</summary>
    public virtual ulong NextPage => 0;

    /// <summary>The first of the jumps that lead here, to be led back to their stubs when the block goes: the others are found from its stub. Bytes from the region's start to the stub; 0 for none.</summary>
    public int Incoming { get; set; }

    /// <summary>The next block of the same page.</summary>
    public TranslatedBlock? NextInPage { get; set; }

    /// <summary>The next block of the same hash.</summary>
    public TranslatedBlock? NextInBucket { get; set; }
}

/// <summary>An instruction that crosses the end of its page. Each of the two pages has one for itself.</summary>
internal sealed class CrossingBlock(ulong physical, ulong nextPage, TlbSet set, int byteLength, long farEntry, long nearEntry)
    : TranslatedBlock(physical, set, byteLength, farEntry, nearEntry)
{
    public override ulong NextPage { get; } = nextPage;
}
