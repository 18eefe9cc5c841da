using Tutti.Memory;

namespace Tutti.Cpu.Software;

/// <summary>
/// Which vCPUs hold decoded blocks of a page. While any does, the page is marked in guest memory and no TLB holds a
/// write tag for it, so that every write is seen.
/// </summary>
internal sealed class CodePages(GuestMemory memory)
{
    private readonly Lock _lock = new();
    private readonly Dictionary<long, ulong> _users = [];

    /// <summary>Not 0 while a vCPU claims a page.</summary>
    private int _isClaiming;

    /// <summary>The vCPUs of the partition; set once before any of them runs.</summary>
    public CodeWatch[] Processors { get; set; } = [];

    /// <summary>
    /// Called by a vCPU before it reads bytes to decode them. When the page was not marked yet, all vCPUs have given up
    /// their write tags when this returns: a write that this decoding does not see is then noticed.
    /// </summary>
    public void Claim(ulong physical, CodeWatch claimant)
    {
        // One at a time: a page that another vCPU has marked, but not yet taken from all, must not count as claimed.
        var spin = default(SpinWait);
        while (Interlocked.CompareExchange(ref _isClaiming, 1, 0) != 0)
        {
            claimant.TakePendingInvalidations(false);
            spin.SpinOnce(sleep1Threshold: -1);
        }

        try
        {
            ClaimAlone(physical, claimant);
        }
        finally
        {
            Volatile.Write(ref _isClaiming, 0);
        }
    }

    private void ClaimAlone(ulong physical, CodeWatch claimant)
    {
        long page = memory.GetPageIndex(physical);
        lock (_lock)
        {
            _users.TryGetValue(page, out ulong users);
            _users[page] = users | (1UL << claimant.Index);
            if (!memory.Pages.SetCode(page) || !memory.Pages.TakeWritable(page))
            {
                return;
            }
        }

        claimant.DropWriteTags(physical & ~0xFFFUL);
        foreach (CodeWatch other in Processors)
        {
            if (other != claimant)
            {
                other.DropWriteTagsFor(claimant, physical & ~0xFFFUL);
            }
        }
    }

    /// <summary>A vCPU has dropped all its blocks of a page.</summary>
    public void Release(long page, int processor)
    {
        lock (_lock)
        {
            _users.TryGetValue(page, out ulong users);
            users &= ~(1UL << processor);
            if (users != 0)
            {
                _users[page] = users;
                return;
            }

            _users.Remove(page);
            memory.Pages.ClearCode(page);
        }
    }
}
