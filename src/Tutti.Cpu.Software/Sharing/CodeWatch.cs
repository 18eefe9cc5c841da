using Tutti.Memory;

namespace Tutti.Cpu.Software;

/// <summary>
/// Which pages of guest memory a vCPU holds code of. Writes into them, its own and those of others, drop exactly the code that they
/// hit; others that decode a page make it give up its write tags of that.
/// </summary>
public sealed class CodeWatch : ICodeWriteObserver, IDisposable
{
    /// <summary>Writes into a page that hit none of its code before the page stops being treated as code.</summary>
    private const int HarmlessWritesPerPage = 64;

    /// <summary>Requests of others that are kept one by one; what comes on top costs all code and write tags.</summary>
    private const int MaxPending = 1024;

    private const long NoPage = -1;

    private readonly GuestMemory _memory;
    private readonly Tlb _tlb;
    private readonly JumpCache _jumpCache;
    private readonly AttentionWord _attention;
    private readonly CodePages _codePages;
    private readonly Dictionary<long, CodePage> _pages = [];
    private readonly Lock _pendingLock = new();

    /// <summary>Writes by others; a length of 0 asks to give up the write tags of the page.</summary>
    private readonly List<(ulong Address, int Length)> _pending = [];

    private bool _isPendingLost;

    /// <summary>The page that is being claimed: it stays claimed although there is no code of it yet.</summary>
    private long _building = NoPage;

    private long _asked;
    private long _taken;
    private int _ownerThread;

    internal CodeWatch(int index, GuestMemory memory, Tlb tlb, JumpCache jumpCache, AttentionWord attention, CodePages codePages)
    {
        Index = index;
        _memory = memory;
        _tlb = tlb;
        _jumpCache = jumpCache;
        _attention = attention;
        _codePages = codePages;
        _memory.AddCodeWriteObserver(this);
    }

    private sealed class CodePage
    {
        public int HarmlessWrites;
    }

    /// <summary>The vCPU's number.</summary>
    internal int Index { get; }

    /// <summary>Whether the vCPU is in guest code; set once, before it runs.</summary>
    internal GuestPresence? Presence { get; set; }

    /// <summary>Who holds code, the fastest first; set once, before the vCPU runs.</summary>
    internal ICodeHolder[] Holders { get; set; } = [];

    /// <summary>How often all code was dropped at once.</summary>
    public long FlushCount { get; private set; }

    /// <summary>Bytes of host memory that the code takes. Safe from any thread.</summary>
    internal long ByteCount => Holders.Sum(holder => holder.ByteCount);

    /// <summary>How many requests of others are kept.</summary>
    internal int PendingCount
    {
        get
        {
            lock (_pendingLock)
            {
                return _pending.Count;
            }
        }
    }

    public void Dispose() => _memory.RemoveCodeWriteObserver(this);

    /// <summary>The calling thread is the vCPU's: its own writes take effect at once.</summary>
    internal void NoteThread() => _ownerThread = Environment.CurrentManagedThreadId;

    /// <summary>Sees to it that writes to a page are noticed, before its bytes are decoded; gives the page's index.</summary>
    public long Claim(ulong physical)
    {
        long page = _memory.GetPageIndex(physical);
        if (!_pages.ContainsKey(page))
        {
            // While it waits for others, this vCPU serves their requests: those for this page must not take the claim back.
            _building = page;
            _codePages.Claim(physical, this);
            _building = NoPage;
            _pages[page] = new CodePage();
        }

        return page;
    }

    /// <summary>Drops all code; called between blocks.</summary>
    public void Flush()
    {
        FlushCount++;
        foreach (long page in _pages.Keys)
        {
            _codePages.Release(page, Index);
        }

        _pages.Clear();
        foreach (ICodeHolder holder in Holders)
        {
            holder.DropAll();
        }

        _jumpCache.Flush();
    }

    /// <summary>Drops all code and gives the host its memory back; called between blocks.</summary>
    internal void ReleaseMemory()
    {
        Flush();
        _pages.TrimExcess();
        foreach (ICodeHolder holder in Holders)
        {
            holder.ReleaseMemory();
        }
    }

    /// <summary>Takes write tags away from every alias of a page of this vCPU.</summary>
    internal void DropWriteTags(ulong physicalPage) => _tlb.DropWriteTags(physicalPage);

    /// <summary>Drops the code that others' writes have hit; called between blocks.</summary>
    internal void TakePendingInvalidations(bool flush)
    {
        if (flush)
        {
            Flush();
        }

        lock (_pendingLock)
        {
            if (_isPendingLost)
            {
                _isPendingLost = false;
                _pending.Clear();
                DropAllPages();
                _tlb.Flush();
            }

            foreach ((ulong address, int length) in _pending)
            {
                if (length == 0)
                {
                    _tlb.DropWriteTags(address);
                }
                else
                {
                    Invalidate(address, length);
                }
            }

            _pending.Clear();
            Volatile.Write(ref _taken, _asked);
        }
    }

    /// <summary>
    /// Called by another vCPU: makes this one give up its write tags of a page, and waits until it has, or is not in
    /// guest code. Serves the caller's own queue meanwhile, so that two that wait for each other go on.
    /// </summary>
    internal void DropWriteTagsFor(CodeWatch caller, ulong physicalPage)
    {
        long ticket;
        lock (_pendingLock)
        {
            AddPending(physicalPage, 0);
            ticket = ++_asked;
        }

        _attention.Signal(Attention.CodeWritten);
        var spin = default(SpinWait);
        while (Volatile.Read(ref _taken) < ticket && Presence!.IsInGuest)
        {
            caller.TakePendingInvalidations(false);
            spin.SpinOnce(sleep1Threshold: -1);
        }
    }

    /// <inheritdoc/>
    public void OnCodeWritten(ulong address, int length)
    {
        if (Environment.CurrentManagedThreadId == _ownerThread)
        {
            Invalidate(address, length);
            return;
        }

        lock (_pendingLock)
        {
            AddPending(address, length);
            _asked++;
        }

        _attention.Signal(Attention.CodeWritten);
    }

    // This vCPU may wait for a slow console while the others go on: what they ask for must not pile up without bound.
    private void AddPending(ulong address, int length)
    {
        if (_pending.Count < MaxPending)
        {
            _pending.Add((address, length));
        }
        else
        {
            _isPendingLost = true;
        }
    }

    private void Invalidate(ulong address, int length)
    {
        long page = _memory.GetPageIndex(address);
        if (!_pages.TryGetValue(page, out CodePage? codePage))
        {
            if (page != _building)
            {
                _codePages.Release(page, Index);
            }

            return;
        }

        bool hit = false;
        bool isEmpty = true;
        foreach (ICodeHolder holder in Holders)
        {
            hit |= holder.Invalidate(page, address, length);
            isEmpty &= !holder.HasCode(page);
        }

        if (isEmpty || (!hit && ++codePage.HarmlessWrites > HarmlessWritesPerPage))
        {
            DropPage(page);
        }
    }

    /// <summary>Forgets a page, so that writes to it take the fast path again.</summary>
    private void DropPage(long page)
    {
        foreach (ICodeHolder holder in Holders)
        {
            holder.DropPage(page);
        }

        _pages.Remove(page);
        if (page != _building)
        {
            _codePages.Release(page, Index);
        }
    }

    /// <summary>Drops all code but keeps its memory, so that it can be done while some of it runs.</summary>
    private void DropAllPages()
    {
        foreach (long page in _pages.Keys.ToArray())
        {
            DropPage(page);
        }
    }
}
