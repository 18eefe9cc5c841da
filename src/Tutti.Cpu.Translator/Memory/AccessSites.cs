using System.Diagnostics;
using System.Runtime.Intrinsics;

namespace Tutti.Cpu.Translator;

/// <summary>
/// Memory accesses of hot user code, each with the page that it reached last: where an access stays in its page, its address is
/// compared with that, and nothing must be looked up before the access itself can begin.
/// </summary>
/// <remarks>SAFETY: <see cref="StateLayout"/> says where the records lie and the vCPU has allocated them; emitted code fills them from the TLB's tables.</remarks>
internal sealed unsafe class AccessSites
{
    /// <summary>Accesses that leave their page so often that a lookup in the TLB's tables would cost less: this many times in this long.</summary>
    private const int CountedMisses = 256;

    private static readonly long s_shortest = Stopwatch.Frequency * 40 / 1_000_000;

    private readonly byte* _base;
    private readonly HotCode _code;
    private readonly ulong _noTag;
    private readonly ulong _distance;
    private readonly ulong _nowhere;
    private readonly long[] _counted = new long[3 * StateLayout.SiteCount];

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
            Empty(kind, StateLayout.SiteCount);
        }

        for (int i = 0; i < 3 * StateLayout.SiteCount; i++)
        {
            *Count(i) = CountedMisses;
        }
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
            Empty(kind, _code.TakenOf(kind));
        }
    }

    /// <summary>
    /// An empty site has a page that no canonical address lies in. So has an empty frame an RSP; a guest may set its RSP to any number, and reaches the
    /// page of nobody's with that one.
    /// </summary>
    private void Empty(int kind, int count) =>
        new Span<Vector128<ulong>>(Record(kind * StateLayout.SiteCount), count).Fill(Vector128.Create(_noTag, kind == 2 ? _nowhere : _distance));

    /// <summary>Whether a site has left its page too often since it was counted last; begins to count anew.</summary>
    /// <param name="offset">Of its record, in bytes.</param>
    public bool IsSpread(long offset)
    {
        int site = (int)(offset / StateLayout.SiteSize);
        long now = Stopwatch.GetTimestamp();
        long passed = now - _counted[site];
        _counted[site] = now;
        *Count(site) = CountedMisses;
        return passed < s_shortest;
    }

    private ulong* Record(int site) => (ulong*)(_base + StateLayout.Sites + (site * StateLayout.SiteSize));

    private long* Count(int site) => (long*)(_base + StateLayout.SiteMisses + (site * StateLayout.SiteSize));
}
