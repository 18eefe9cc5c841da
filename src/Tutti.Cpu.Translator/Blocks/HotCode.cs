namespace Tutti.Cpu.Translator;

/// <summary>What is known of the guest's code from looking now and then where it runs: pieces that are worth a better translation.</summary>
internal sealed class HotCode
{
    /// <summary>Bytes of a piece.</summary>
    public const int PieceSize = 1024;

    /// <summary>Pieces and instructions that are remembered; one more, and all are forgotten.</summary>
    private const int MaxRemembered = 1 << 14;

    private readonly HashSet<ulong> _hot = [];
    private readonly HashSet<ulong> _spread = [];
    private readonly int[] _nextSite = new int[2];

    /// <summary>All code counts as hot: for tests.</summary>
    public bool IsEverything { get; set; }

    public long PieceCount => _hot.Count;

    public long SpreadCount => _spread.Count;

    /// <summary>Takes note that the instruction at a guest physical address was found running; true when its piece becomes hot by that.</summary>
    public bool Note(ulong physical) => Add(_hot, physical / PieceSize);

    public bool IsHot(ulong physical) => IsEverything || _hot.Contains(physical / PieceSize);

    /// <summary>The accesses of an instruction go from page to page: they are looked up in the TLB's tables, hot or not.</summary>
    public void NoteSpread(ulong physical) => Add(_spread, physical);

    public bool IsSpread(ulong physical) => _spread.Contains(physical);

    /// <summary>The record of one more access site, from the first one in bytes. When all are in use they are shared: such accesses take each other's page away.</summary>
    public int TakeSite(bool write)
    {
        int kind = write ? 1 : 0;
        int site = _nextSite[kind];
        _nextSite[kind] = (site + 1) % StateLayout.SiteCount;
        return ((kind * StateLayout.SiteCount) + site) * StateLayout.SiteSize;
    }

    private static bool Add(HashSet<ulong> set, ulong value)
    {
        if (set.Count == MaxRemembered && !set.Contains(value))
        {
            set.Clear();
        }

        return set.Add(value);
    }
}
