using System.Runtime.InteropServices;
using Tutti.Host;

namespace Tutti.Cpu.Translator;

/// <summary>
/// The translated blocks of one vCPU in their code region, by guest physical address and TLB set. Only the vCPU's own thread
/// uses it, and never while translated code runs on it.
/// </summary>
internal sealed unsafe class TranslationCache : IDisposable
{
    /// <summary>Bytes of host code for one vCPU; untouched pages cost nothing.</summary>
    private const long Capacity = 128 << 20;

    /// <summary>Blocks, dropped ones among them, before all go: some of them take no host code, but all take memory. A boot has 50,000.</summary>
    private const int MaxBlocks = 1 << 19;

    /// <summary>Instructions that are remembered as better left alone.</summary>
    private const int MaxUngrouped = 1 << 14;

    /// <summary>
    /// Times that a group may cross a page's end. A function's frame does so at some depths of the stack, and others serve it well; one that is in a
    /// loop at such a depth is soon found out.
    /// </summary>
    private const int MaxCrossings = 16;

    private const int BucketCount = 1 << 17;

    /// <summary>Log2 of the bits by which most places that no block begins at are told.</summary>
    private const int KnownBits = 21;

    /// <summary>In the stub of a jump within the page, where the distance from there back to the jump stands.</summary>
    private const int StubDistance = 9;

    /// <summary>The same of a jump to another page.</summary>
    private const int FarStubDistance = StubDistance + Emitter.JumpTableLength;

    /// <summary>Behind that: the next jump with the same target.</summary>
    private const int NextJump = 2;

    private readonly ExecutableMapping _region = new(Capacity);
    private readonly Emitter _emit = new();
    private readonly BlockTranslator _translator;

    /// <summary>Blocks by the hash of their address and set.</summary>
    private readonly TranslatedBlock?[] _buckets = new TranslatedBlock?[BucketCount];

    /// <summary>A bit for where blocks begin or may be entered, or have once: each decoded instruction asks, and most are told no.</summary>
    private readonly ulong[] _known = new ulong[1 << (KnownBits - 6)];

    private readonly Func<int, bool> _isKnown;

    /// <summary>The page whose code is being translated, and for which set.</summary>
    private (ulong Page, TlbSet Set) _translated;

    /// <summary>Instructions that cross the end of their page, by their address and that of the next page.</summary>
    private readonly Dictionary<(ulong Physical, ulong NextPage), TranslatedBlock> _crossings = [];

    /// <summary>The first block of each page, by page index.</summary>
    private readonly Dictionary<long, TranslatedBlock> _pages = [];

    /// <summary>How often groups have crossed a page's end, by the address of their first instruction.</summary>
    private readonly Dictionary<ulong, int> _groupCrossings = [];

    /// <summary>Blocks that jumps of other pages lead straight to, or have led.</summary>
    private readonly List<TranslatedBlock> _userTargets = [];

    private readonly List<TranslatedBlock> _supervisorTargets = [];

    /// <summary>Blocks that may fault, in the order of their host addresses; dropped ones, which may still run, among them.</summary>
    private readonly List<WindowBlock> _windowBlocks = [];

    private readonly long _firstBlock;
    private int _blockCount;
    private long _used;

    /// <summary>Bytes of the region for which a huge page has been asked.</summary>
    private long _prepared;

    public TranslationCache()
    {
        BeginEmission();
        Common = new CommonCode(_emit);
        _translator = new BlockTranslator(_emit, Common);
        _isKnown = IsKnown;
        _firstBlock = (_emit.Here - _region.ExecuteAddress + 63) & ~63L;
        _used = _firstBlock;
    }

    public CommonCode Common { get; }

    /// <summary>Where the block that was translated last may be entered besides its start.</summary>
    public IReadOnlyList<BlockEntry> Entries => _translator.Entries;

    /// <summary>Where the code that was emitted last ends.</summary>
    public long End => _emit.Here;

    /// <summary>Bytes of host code.</summary>
    public long UsedBytes => Volatile.Read(ref _used) - _firstBlock;

    public long BlocksTranslated { get; private set; }

    public long InstructionsTranslated { get; private set; }

    public HotCode Hot => _translator.Hot;

    /// <summary>Whether another block may not fit: then everything must go first.</summary>
    public bool IsFull => _used + BlockTranslator.MaxBytes > Capacity || _blockCount >= MaxBlocks;

    public TranslatedBlock? Find(ulong physical, TlbSet set)
    {
        int bit = KnownBit(physical, set);
        if ((_known[bit >> 6] >> (bit & 63) & 1) == 0)
        {
            return null;
        }

        TranslatedBlock? block = Bucket(physical, set);
        while (block != null && (block.Physical != physical || block.Set != set))
        {
            block = block.NextInBucket;
        }

        return block;
    }

    /// <summary>Translates and enters a block; the page has been claimed and there is room.</summary>
    /// <param name="page">The page of code, as the host sees it.</param>
    /// <param name="isResumed">See <see cref="TranslatedBlock.IsResumed"/>.</param>
    public TranslatedBlock Translate(byte* page, long pageIndex, ulong physical, TlbSet set, bool isResumed = false)
    {
        BeginEmission();
        _translated = (physical & ~0xFFFUL, set);
        bool isCrossing = !_translator.TryTranslate(page, physical, set, _isKnown);
        int length = isCrossing ? 4096 - (int)(physical & 0xFFF) : _translator.ByteLength;
        (long far, long near) = isCrossing ? (0, 0) : (_translator.FarEntry, _translator.NearEntry);
        ushort before = (ushort)_translator.BytesBefore;
        TranslatedBlock block = isCrossing || _translator.Accesses.Count == 0
            ? new TranslatedBlock(physical, set, length, far, near) { IsCrossing = isCrossing, IsResumed = isResumed, BytesBefore = before }
            : new WindowBlock(physical, set, length, far, near) { IsResumed = isResumed, BytesBefore = before, Accesses = [.. _translator.Accesses] };
        if (block is WindowBlock window)
        {
            _windowBlocks.Add(window);
        }

        _blockCount++;
        AddToBucket(block);
        AddToPage(pageIndex, block);
        if (!isCrossing)
        {
            AddEntries(block, pageIndex);
            EndEmission(block);
        }

        return block;
    }

    /// <summary>Enters the places inside a block that jumps may lead to. Each goes when a byte of the whole block does.</summary>
    private void AddEntries(TranslatedBlock block, long pageIndex)
    {
        int low = (int)(block.Physical & 0xFFF) - block.BytesBefore;
        int high = (int)(block.Physical & 0xFFF) + block.ByteLength;
        foreach (BlockEntry entry in _translator.Entries)
        {
            ulong physical = (block.Physical & ~0xFFFUL) | (uint)entry.Offset;
            if (Find(physical, block.Set) == null)
            {
                _blockCount++;
                TranslatedBlock inner = new(physical, block.Set, high - entry.Offset, 0, entry.Host) { BytesBefore = (ushort)(entry.Offset - low) };
                AddToBucket(inner);
                AddToPage(pageIndex, inner);
            }
        }
    }

    /// <summary>Gives a block an entry by linear address; there is room.</summary>
    public void AddFarEntry(TranslatedBlock block)
    {
        BeginEmission();
        block.FarEntry = _emit.Here;
        _translator.EmitFarEntry((int)(block.Physical & 0xFFF));
        _emit.Jump(block.NearEntry);
        _used = _emit.Here - _region.ExecuteAddress;
    }

    public TranslatedBlock? FindCrossing(ulong physical, ulong nextPage, TlbSet set) =>
        _crossings.GetValueOrDefault((Key(physical, set), nextPage));

    /// <summary>Translates and enters an instruction that crosses the end of its page; both pages have been claimed and there is room.</summary>
    /// <param name="bytes">15 bytes from both pages.</param>
    public TranslatedBlock TranslateCrossing(byte* bytes, (long This, long Next) pages, ulong physical, ulong nextPage, TlbSet set)
    {
        BeginEmission();
        _translator.TranslateCrossing(bytes, physical, set);
        var block = new CrossingBlock(physical, nextPage, set, _translator.ByteLength, _translator.FarEntry, _translator.NearEntry);
        _blockCount++;
        _crossings.Add((Key(physical, set), nextPage), block);
        AddToPage(pages.This, block);
        if (pages.Next != pages.This)
        {
            AddToPage(pages.Next, new CrossingBlock(physical, nextPage, set, _translator.ByteLength, _translator.FarEntry, _translator.NearEntry));
        }

        EndEmission(block);
        return block;
    }

    private void BeginEmission()
    {
        if (_used + BlockTranslator.MaxBytes > _prepared && _prepared < Capacity)
        {
            _region.PreferHugePage(_prepared);
            _prepared += ExecutableMapping.HugePageSize;
        }

        _emit.Begin((byte*)_region.WriteAddress + _used, _region.ExecuteAddress + _used);
    }

    /// <summary>Keeps what has been emitted, and links the block's jumps whose targets are there.</summary>
    private void EndEmission(TranslatedBlock block)
    {
        _used = (_emit.Here - _region.ExecuteAddress + 15) & ~15L;
        BlocksTranslated++;
        InstructionsTranslated += _translator.InstructionCount;
        foreach (DirectJump jump in _translator.Jumps)
        {
            TlbSet set = jump.Set == TlbSet.User ? block.Set : jump.Set;
            TranslatedBlock? target = Find((block.Physical & ~0xFFFUL) | (uint)jump.TargetOffset, set);
            if (target is { IsCrossing: false })
            {
                Link(jump, target);
            }
        }
    }

    /// <summary>Whether there is a block that begins, or can be entered, at an offset in the page that is being translated.</summary>
    private bool IsKnown(int offset) => Find(_translated.Page | (uint)offset, _translated.Set) is { IsCrossing: false, IsResumed: false };

    /// <summary>The bits of a page lie together.</summary>
    private static int KnownBit(ulong physical, TlbSet set) =>
        (int)(((((physical >> 12 << 2) | (uint)set) * 0x9E37_79B9_7F4A_7C15) >> (64 - KnownBits)) ^ (physical & 0xFFF));

    private void AddToBucket(TranslatedBlock block)
    {
        int bit = KnownBit(block.Physical, block.Set);
        _known[bit >> 6] |= 1UL << (bit & 63);
        block.NextInBucket = Bucket(block.Physical, block.Set);
        Bucket(block.Physical, block.Set) = block;
    }

    private void AddToPage(long pageIndex, TranslatedBlock block)
    {
        ref TranslatedBlock? first = ref CollectionsMarshal.GetValueRefOrAddDefault(_pages, pageIndex, out _);
        block.NextInPage = first;
        first = block;
    }

    /// <summary>Lets a jump lead straight to its target. Its stub then holds the next jump that leads there.</summary>
    public void Link(DirectJump jump, TranslatedBlock target)
    {
        _emit.Patch(jump.Site, target.NearEntry);
        *(int*)Written(jump.Stub + StubDistance + NextJump) = target.Incoming;
        target.Incoming = (int)(jump.Stub - _region.ExecuteAddress);
    }

    /// <summary>Lets a jump to another page lead straight to its target, until <see cref="ForgetFarLinks"/>.</summary>
    /// <param name="site">Where its stub's call would have come back to.</param>
    public void LinkFar(long site, TranslatedBlock target)
    {
        long stub = site - FarStubDistance;
        if (target.IncomingFar == 0)
        {
            FarTargets(target.Set).Add(target);
        }

        _emit.Patch(SiteOf(site), target.FarEntry);
        *(int*)Written(site + NextJump) = target.IncomingFar;
        target.IncomingFar = (int)(stub - _region.ExecuteAddress);
    }

    /// <summary>Leads user mode's jumps to other pages, or the supervisor's, back to their stubs.</summary>
    public void ForgetFarLinks(TlbSet set)
    {
        List<TranslatedBlock> targets = FarTargets(set);
        foreach (TranslatedBlock target in targets)
        {
            LeadBack(target.IncomingFar, FarStubDistance);
            target.IncomingFar = 0;
        }

        targets.Clear();
    }

    private List<TranslatedBlock> FarTargets(TlbSet set) => set.Tables() == TlbSet.User ? _userTargets : _supervisorTargets;

    /// <summary>Leads jumps back to their stubs, from one on.</summary>
    /// <param name="distance">Where in their stubs it stands how far away they are.</param>
    private void LeadBack(int jump, int distance)
    {
        while (jump != 0)
        {
            long stub = _region.ExecuteAddress + jump;
            _emit.Patch(SiteOf(stub + distance), stub);
            jump = *(int*)Written(stub + distance + NextJump);
        }
    }

    /// <summary>The jump that has left by its stub; <paramref name="site"/> is where the stub's call would have come back to.</summary>
    public DirectJump JumpAt(long site, int targetOffset, TlbSet set)
    {
        long stub = site - StubDistance;
        return new DirectJump(SiteOf(site), stub, targetOffset, set);
    }

    /// <summary>The block whose host code has faulted, which begins at or before an address.</summary>
    public WindowBlock FindFaulted(long rip)
    {
        int low = 0;
        int high = _windowBlocks.Count;
        while (high - low > 1)
        {
            int middle = (low + high) / 2;
            (low, high) = _windowBlocks[middle].FarEntry <= rip ? (middle, high) : (low, middle);
        }

        return _windowBlocks[low];
    }

    /// <summary>Where the region's code begins, and its bytes.</summary>
    public (long Start, long Length) Range => (_region.ExecuteAddress, _region.Length);

    /// <summary>Whether the page has blocks.</summary>
    public bool HasBlocks(long page) => _pages.ContainsKey(page);

    /// <summary>Drops the blocks of a page that hold one of the bytes; true when there was one.</summary>
    public bool Invalidate(long page, ulong address, int length)
    {
        if (!_pages.TryGetValue(page, out TranslatedBlock? block))
        {
            return false;
        }

        bool hit = false;
        TranslatedBlock? kept = null;
        TranslatedBlock? next;
        for (; block != null; block = next)
        {
            next = block.NextInPage;
            if (Holds(block, address, (ulong)length))
            {
                hit = true;
                Drop(block);
            }
            else
            {
                block.NextInPage = kept;
                kept = block;
            }
        }

        if (kept == null)
        {
            _pages.Remove(page);
        }
        else
        {
            _pages[page] = kept;
        }

        return hit;
    }

    /// <summary>
    /// A group has crossed a page's end. True when that has become too often: the accesses of its first instruction are looked up alone from now on,
    /// and its blocks are to be dropped.
    /// </summary>
    public bool NoteCrossing(ulong physical)
    {
        if (_groupCrossings.Count >= MaxUngrouped)
        {
            _groupCrossings.Clear();
        }

        ref int crossings = ref CollectionsMarshal.GetValueRefOrAddDefault(_groupCrossings, physical, out _);
        if (++crossings < MaxCrossings)
        {
            return false;
        }

        _groupCrossings.Remove(physical);
        if (_translator.Ungrouped.Count == MaxUngrouped)
        {
            _translator.Ungrouped.Clear();
        }

        _translator.Ungrouped.Add(physical);
        return true;
    }

    /// <summary>Drops all blocks of a page.</summary>
    public void DropPage(long page)
    {
        _pages.Remove(page, out TranslatedBlock? block);
        for (; block != null; block = block.NextInPage)
        {
            Drop(block);
        }
    }

    /// <summary>Empties the region.</summary>
    public void Clear()
    {
        Array.Clear(_buckets);
        Array.Clear(_known);
        _crossings.Clear();
        _blockCount = 0;
        _pages.Clear();
        _windowBlocks.Clear();
        _userTargets.Clear();
        _supervisorTargets.Clear();
        _used = _firstBlock;
        Hot.ForgetSites();
    }

    /// <summary>Gives the host the memory of the empty region back.</summary>
    public void ReleaseMemory()
    {
        _region.Release(_used);
        _prepared = 0;
        _crossings.TrimExcess();
        _pages.TrimExcess();
    }

    public void Dispose() => _region.Dispose();

    private static bool Holds(TranslatedBlock block, ulong address, ulong length)
    {
        ulong end = block.Physical + (ulong)block.ByteLength;
        if (block.NextPage == 0)
        {
            return block.Physical - block.BytesBefore < address + length && address < end;
        }

        ulong pageEnd = (block.Physical & ~0xFFFUL) + 4096;
        return (block.Physical < address + length && address < pageEnd)
            || (block.NextPage < address + length && address < block.NextPage + (end - pageEnd));
    }

    // Who still runs the block leaves it at its next exit; nothing leads into it any more.
    private void Drop(TranslatedBlock block)
    {
        if (block.NextPage == 0)
        {
            RemoveFromBucket(block);
        }
        else
        {
            // The other page still lists it: dropping it there once more does nothing.
            _crossings.Remove((Key(block.Physical, block.Set), block.NextPage));
        }

        LeadBack(block.Incoming, StubDistance);
        LeadBack(block.IncomingFar, FarStubDistance);
        if (block.FarEntry != 0)
        {
            // Entries of the jump cache still lead here: whoever comes leaves, and the entry is forgotten then.
            _emit.WriteCall(block.FarEntry, Common.StaleEntry);
        }

        block.Incoming = block.IncomingFar = 0;
    }

    private void RemoveFromBucket(TranslatedBlock block)
    {
        ref TranslatedBlock? first = ref Bucket(block.Physical, block.Set);
        if (first == block)
        {
            first = block.NextInBucket;
            return;
        }

        TranslatedBlock? before = first;
        while (before != null && before.NextInBucket != block)
        {
            before = before.NextInBucket;
        }

        if (before != null)
        {
            before.NextInBucket = block.NextInBucket;
        }
    }

    private ref TranslatedBlock? Bucket(ulong physical, TlbSet set) =>
        ref _buckets[((uint)physical ^ (uint)(physical >> 15) ^ ((uint)set << 13)) & (BucketCount - 1)];

    /// <summary>Where a jump has its rel32, whose distance from there stands at a place in its stub.</summary>
    private long SiteOf(long place) => place - *(ushort*)Written(place);

    /// <summary>Where a byte of the region is written that runs at an address.</summary>
    // SAFETY: stubs are the translator's own, and lie in the region as long as their block does.
    private byte* Written(long execute) => (byte*)(execute - _region.ExecuteAddress + _region.WriteAddress);

    private static ulong Key(ulong physical, TlbSet set) => (physical << 2) | (uint)set;
}
