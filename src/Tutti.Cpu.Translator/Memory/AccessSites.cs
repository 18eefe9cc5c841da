using System.Runtime.Intrinsics;

namespace Tutti.Cpu.Translator;

/// <summary>What becomes of an access that has left its page.</summary>
internal enum SiteVerdict
{
    /// <summary>Its record is filled, as after any miss.</summary>
    Stays,

    /// <summary>It is on trial: this execution goes on without its record, so that the next one is seen, too.</summary>
    Trial,

    /// <summary>Most executions that missed had an operand that is not aligned.</summary>
    Uneven,

    /// <summary>It goes from page to page: a lookup in the TLB's tables costs less.</summary>
    Spread,
}

/// <summary>
/// Memory accesses of hot user code, each with the page that it reached last: where an access stays in its page, its address is
/// compared with that, and nothing must be looked up before the access itself can begin.
/// </summary>
/// <remarks>
/// A miss costs several lookups, so a site is worth having where it misses seldom, and what counts is the share: hits are not counted, which
/// would cost each of them. So once in a while, after a number of misses, a site is put on trial: its record stays empty for some executions,
/// each of which comes here, and the share of those that would have missed decides. The number grows with each trial that is passed.
/// SAFETY: <see cref="StateLayout"/> says where the records lie and the vCPU has allocated them; emitted code fills them from the TLB's tables.
/// </remarks>
internal sealed unsafe class AccessSites
{
    /// <summary>Misses before the first trial, and before one at most.</summary>
    private const int FirstMisses = 64;

    private const int MaxMisses = 1 << 18;

    /// <summary>Executions that a trial sees, and how many of them may leave their page.</summary>
    private const int TrialLength = 32;

    private const int MaxChanges = 3;

    private readonly byte* _base;
    private readonly HotCode _code;
    private readonly ulong _noTag;
    private readonly ulong _distance;
    private readonly ulong _nowhere;
    private readonly Trial[] _trials = new Trial[3 * StateLayout.SiteCount];

    /// <param name="hot">The state that the host's RSP points to.</param>
    /// <param name="code">Says which records are in use.</param>
    /// <param name="noTag">A tag that no canonical address has.</param>
    /// <param name="distance">The distance from there to <paramref name="nowhere"/>.</param>
    /// <param name="nowhere">A page of nobody's.</param>
    public AccessSites(HotState* hot, HotCode code, ulong noTag, ulong distance, ulong nowhere)
    {
        _base = (byte*)hot;
        _code = code;
        _noTag = noTag;
        _distance = distance;
        _nowhere = nowhere;
        for (int kind = 0; kind < 3; kind++)
        {
            Empty(kind * StateLayout.SiteCount, StateLayout.SiteCount);
        }

        Forget();
    }

    /// <summary>Forgets all pages.</summary>
    public void Clear()
    {
        int* used = (int*)(_base + StateLayout.SitesUsed);
        if (*used == 0)
        {
            return;
        }

        *used = 0;
        for (int kind = 0; kind < 3; kind++)
        {
            Empty(kind * StateLayout.SiteCount, _code.TakenOf(kind));
        }
    }

    /// <summary>Forgets how often records have missed: they are to be given out anew.</summary>
    public void Forget()
    {
        Array.Clear(_trials);
        for (int i = 0; i < _trials.Length; i++)
        {
            *Count(i) = FirstMisses;
            _trials[i].Misses = FirstMisses;
        }
    }

    /// <summary>
    /// An empty site has a page that no canonical address lies in. So has an empty frame an RSP; a guest may set its RSP to any number, and reaches the
    /// page of nobody's with that one.
    /// </summary>
    private void Empty(int first, int count) =>
        new Span<Vector128<ulong>>(Record(first), count).Fill(Vector128.Create(_noTag, IsFrameAt(first) ? _nowhere : _distance));

    /// <summary>Whether a record is a frame's.</summary>
    /// <param name="offset">From the first record, in bytes.</param>
    public static bool IsFrame(long offset) => IsFrameAt((int)(offset / StateLayout.SiteSize));

    /// <summary>A site's count of misses has run out: it is or goes on trial, or is judged by one.</summary>
    /// <param name="offset">Of its record, in bytes.</param>
    /// <param name="place">What its record would say of this execution.</param>
    /// <param name="isUneven">The operand is not aligned, and the site compares with aligned ones only.</param>
    public SiteVerdict Note(long offset, ulong place, bool isUneven)
    {
        int site = (int)(offset / StateLayout.SiteSize);
        ref Trial trial = ref _trials[site];
        if (trial.Left == 0)
        {
            trial.Left = TrialLength;
            trial.Changes = trial.Uneven = 0;
            trial.Place = place;
        }

        trial.Changes += place != trial.Place && !isUneven ? 1 : 0;
        trial.Uneven += isUneven ? 1 : 0;
        trial.Place = place;
        if (--trial.Left > 0)
        {
            *Count(site) = 1;
            Empty(site, 1);
            return SiteVerdict.Trial;
        }

        if (trial.Changes + trial.Uneven > MaxChanges)
        {
            *Count(site) = trial.Misses = FirstMisses;
            return trial.Uneven > trial.Changes ? SiteVerdict.Uneven : SiteVerdict.Spread;
        }

        *Count(site) = trial.Misses = Math.Min(4 * trial.Misses, MaxMisses);
        return SiteVerdict.Stays;
    }

    private static bool IsFrameAt(int site) => site >= 2 * StateLayout.SiteCount;

    private ulong* Record(int site) => (ulong*)(_base + StateLayout.Sites + (site * StateLayout.SiteSize));

    private long* Count(int site) => (long*)(_base + StateLayout.SiteMisses + (site * StateLayout.SiteSize));

    private struct Trial
    {
        /// <summary>What the last execution's record would have said.</summary>
        public ulong Place;

        /// <summary>Misses before this trial, or the next one.</summary>
        public int Misses;

        /// <summary>Executions to see; 0 while it is not on trial.</summary>
        public int Left;

        public int Changes;
        public int Uneven;
    }
}
