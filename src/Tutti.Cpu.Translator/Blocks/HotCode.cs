using System.Runtime.InteropServices;

namespace Tutti.Cpu.Translator;

/// <summary>What is known of the guest's code from looking now and then where it runs: pieces that are worth a better translation.</summary>
internal sealed class HotCode
{
    /// <summary>Bytes of a piece.</summary>
    public const int PieceSize = 1024;

    private const int Frames = 2;

    /// <summary>Pieces and instructions that are remembered; one more, and all are forgotten.</summary>
    private const int MaxRemembered = 1 << 14;

    /// <summary>
    /// Instructions of a piece whose accesses have left their page, before all of it is left alone: each of them is a new translation of what is around
    /// it, and a big program that runs a little everywhere has more of them than are remembered.
    /// </summary>
    private const int MaxLeft = 6;

    private readonly HashSet<ulong> _met = [];
    private readonly HashSet<ulong> _hot = [];
    private readonly HashSet<ulong> _spread = [];
    private readonly HashSet<ulong> _uneven = [];
    private readonly HashSet<ulong> _cold = [];
    private readonly Dictionary<ulong, int> _left = [];
    private readonly HashSet<ulong> _hidden = [];
    private readonly int[] _nextSite = new int[2];
    private readonly int[] _taken = new int[3];

    /// <summary>All code counts as hot: for tests.</summary>
    public bool IsEverything { get; set; }

    public long PieceCount => _hot.Count;

    public long ColdCount => _cold.Count;

    public long SpreadCount => _spread.Count;

    /// <summary>
    /// Takes note that the instruction at a guest physical address was found running; true when its piece becomes hot by that, which is the
    /// second time: of a big program that runs a little everywhere, most pieces are met once.
    /// </summary>
    public bool Note(ulong physical) => !Add(_met, physical / PieceSize) && Add(_hot, physical / PieceSize);

    public bool IsHot(ulong physical) => IsEverything || _hot.Contains(physical / PieceSize);

    /// <summary>
    /// The accesses of an instruction leave their page too often: they are looked up in the TLB's tables from now on, hot or not; or, where they are
    /// often not aligned to their size and that has not been seen before, have both ends compared.
    /// </summary>
    /// <returns>Whether that has come to so many instructions of the piece that all of it is translated as code that is not hot.</returns>
    public bool NoteLeft(ulong physical, bool isUneven)
    {
        if (isUneven && Add(_uneven, physical))
        {
            return false;
        }

        Add(_spread, physical);
        if (_left.Count == MaxRemembered)
        {
            _left.Clear();
        }

        ref int left = ref CollectionsMarshal.GetValueRefOrAddDefault(_left, physical / PieceSize, out _);
        return ++left >= MaxLeft && Add(_cold, physical / PieceSize);
    }

    public bool IsSpread(ulong physical) => _spread.Contains(physical) || _cold.Contains(physical / PieceSize);

    /// <summary>The accesses of an instruction often reach what the host's page tables cannot show: a device, or decoded code that it writes.</summary>
    public void NoteHidden(ulong physical) => Add(_hidden, physical);

    public bool IsHidden(ulong physical) => _hidden.Contains(physical);

    /// <summary>The operand of an instruction is often not aligned to its size.</summary>
    public bool IsUneven(ulong physical) => _uneven.Contains(physical);

    /// <summary>The record of one more access site, from the first one in bytes. When all are in use they are shared: such accesses take each other's page away.</summary>
    public int TakeSite(bool write)
    {
        int kind = write ? 1 : 0;
        int site = _nextSite[kind];
        _nextSite[kind] = (site + 1) % StateLayout.SiteCount;
        _taken[kind] = Math.Max(_taken[kind], site + 1);
        return ((kind * StateLayout.SiteCount) + site) * StateLayout.SiteSize;
    }

    /// <summary>
    /// The record of one more frame, from the first site's in bytes; -1 when all are in use. They are never shared: what a frame has been looked up
    /// for is not in its record.
    /// </summary>
    public int TakeFrame() =>
        _taken[Frames] == StateLayout.SiteCount ? -1 : ((Frames * StateLayout.SiteCount) + _taken[Frames]++) * StateLayout.SiteSize;

    /// <summary>How many records have been taken, from the first of their kind on: sites for reads (0), for writes (1), frames (2).</summary>
    public int TakenOf(int kind) => _taken[kind];

    /// <summary>No code uses records any more, and they are empty.</summary>
    public void ForgetSites()
    {
        Array.Clear(_nextSite);
        Array.Clear(_taken);
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
