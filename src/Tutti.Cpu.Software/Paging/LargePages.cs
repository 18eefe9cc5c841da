namespace Tutti.Cpu.Software;

/// <summary>
/// Which linear addresses may lie in a large page that a TLB holds parts of: to drop one of those costs a look at all entries, to drop
/// a small page does not.
/// </summary>
public sealed class LargePages
{
    /// <summary>Pages that are remembered; one more, and every address may lie in one.</summary>
    private const int MaxPages = 4096;

    private readonly HashSet<ulong> _pages = [];

    /// <summary>The sizes among them, as the bits of an address inside a page.</summary>
    private ulong _sizes;

    private bool _isFull;

    /// <summary>What has been added last: misses come in swarms.</summary>
    private ulong _last;

    /// <param name="linear">An address in the page.</param>
    /// <param name="inPage">The bits of an address inside the page: more than 0xFFF.</param>
    public void Add(ulong linear, ulong inPage)
    {
        // The lowest bits of a page's address are free to tell its size.
        ulong page = (linear & ~inPage) | (inPage >> 12);
        if (page == _last)
        {
            return;
        }

        if (_pages.Count == MaxPages)
        {
            _isFull = true;
            return;
        }

        _sizes |= inPage + 1;
        _pages.Add(page);
        _last = page;
    }

    /// <summary>Whether an address may lie in one of the pages; false is certain.</summary>
    public bool MayHold(ulong linear)
    {
        if (_isFull)
        {
            return true;
        }

        for (ulong sizes = _sizes; sizes != 0; sizes &= sizes - 1)
        {
            ulong inPage = (sizes & (0 - sizes)) - 1;
            if (_pages.Contains((linear & ~inPage) | (inPage >> 12)))
            {
                return true;
            }
        }

        return false;
    }

    public void Clear()
    {
        _pages.Clear();
        _sizes = 0;
        _last = 0;
        _isFull = false;
    }
}
