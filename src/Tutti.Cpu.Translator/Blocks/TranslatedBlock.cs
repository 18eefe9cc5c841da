namespace Tutti.Cpu.Translator;

/// <summary>A translated block: where it came from and where it runs.</summary>
internal sealed class TranslatedBlock(ulong physical, TlbSet set, int byteLength, long farEntry, long nearEntry)
{
    /// <summary>Guest physical address of the first instruction.</summary>
    public ulong Physical { get; } = physical;

    public TlbSet Set { get; } = set;

    /// <summary>Bytes of guest code.</summary>
    public int ByteLength { get; } = byteLength;

    public long FarEntry { get; } = farEntry;

    public long NearEntry { get; } = nearEntry;

    /// <summary>No code, only the knowledge that the instruction here crosses the end of its page.</summary>
    public bool IsCrossing { get; init; }

    /// <summary>Guest physical address of the next page, where an instruction that crosses the page's end goes on; else 0.</summary>
    public ulong NextPage { get; init; }

    /// <summary>Jumps that lead here, to be led back to their stubs when the block goes.</summary>
    public List<DirectJump>? Incoming { get; set; }
}
