using System.Runtime.InteropServices;
using Iced.Intel;
using Tutti.Host;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>
/// The decoded blocks of one processor, found by guest physical address and mode, dropped exactly when a byte of
/// theirs is written.
/// </summary>
internal sealed unsafe class BlockCache : ICodeWriteObserver, IDisposable
{
    private const long ArenaSize = 64 << 20;
    private const int BucketCount = 1 << 16;
    private const int MaxInstructionLength = 15;

    /// <summary>Writes into a page that hit none of its blocks before the page stops being treated as code.</summary>
    private const int HarmlessWritesPerPage = 64;

    /// <summary>Requests of others that are kept one by one; what comes on top costs all blocks and write tags.</summary>
    private const int MaxPending = 1024;

    private const long NoPage = -1;

    private readonly SoftwareProcessor _processor;
    private readonly GuestMemory _memory;
    private readonly BlockBuilder _builder = new();
    private readonly Dictionary<long, CodePage> _pages = [];
    private readonly Lock _pendingLock = new();

    /// <summary>Writes by others; a length of 0 asks to give up the write tags of the page.</summary>
    private readonly List<(ulong Address, int Length)> _pending = [];

    private readonly CodePages _codePages;
    private readonly HostMapping _arena = new(ArenaSize);
    private readonly HostMapping _table = new(BucketCount * sizeof(long));
    private readonly Block** _buckets;

    /// <summary>One instruction at a time: single-stepping and instructions that cross a page.</summary>
    private readonly Op* _single;

    private bool _isPendingLost;

    /// <summary>The page that is being claimed or decoded: it stays claimed although no block of it may be left.</summary>
    private long _building = NoPage;

    private long _arenaUsed;
    private long _asked;
    private long _taken;
    private int _ownerThread;

    public BlockCache(SoftwareProcessor processor, CodePages codePages)
    {
        _processor = processor;
        _codePages = codePages;
        _memory = processor.Memory;

        // SAFETY: the table has that many pointers, null at first. All is freed in Dispose.
        _buckets = (Block**)_table.Address;
        _single = (Op*)NativeMemory.AlignedAlloc((nuint)(2 * sizeof(Op)), 64);
        _memory.AddCodeWriteObserver(this);
    }

    private sealed class CodePage
    {
        public Block* Blocks;
        public int HarmlessWrites;
    }

    /// <summary>What decodes the blocks, and counts them.</summary>
    public BlockBuilder Builder => _builder;

    /// <summary>Bytes that decoded blocks take.</summary>
    public long ByteCount => Volatile.Read(ref _arenaUsed);

    /// <summary>Blocks dropped because their bytes were written.</summary>
    public long DroppedCount { get; private set; }

    /// <summary>How often the whole cache was emptied.</summary>
    public long FlushCount { get; private set; }

    public void Dispose()
    {
        _builder.Dispose();
        _arena.Dispose();
        _table.Dispose();
        NativeMemory.AlignedFree(_single);
    }

    /// <summary>The ops at RIP; null when the fetch faulted.</summary>
    public Op* Find()
    {
        CpuState* state = _processor.State;
        _ownerThread = Environment.CurrentManagedThreadId;
        if (!TryFetchAddress(out ulong physical))
        {
            return null;
        }

        Block* block = Lookup(physical, state->Mode);
        if (block == null)
        {
            block = Build(physical, state->Mode, BlockBuilder.MaxInstructions);
            if (block == null)
            {
                return FindSingle();
            }
        }

        if (!FitsCodeSegment(state, block->ByteLength))
        {
            return FindSingle();
        }

        Op* ops = Block.Ops(block);
        if ((state->Mode & CodeMode.FlatCode) != 0)
        {
            JumpCacheEntry* entry = state->JumpCache + JumpCacheEntry.IndexOf(state->Rip);
            entry->Rip = state->Rip;
            entry->Tag = state->JumpTag;
            entry->Ops = ops;
        }

        return ops;
    }

    /// <summary>The op of the one instruction at RIP, for a caller that runs no more than it; null when the fetch faulted.</summary>
    public Op* FindOne()
    {
        CpuState* state = _processor.State;
        _ownerThread = Environment.CurrentManagedThreadId;
        if (!TryFetchAddress(out ulong physical))
        {
            return null;
        }

        Block* block = Lookup(physical, state->Mode | CodeMode.Single);
        if (block == null)
        {
            block = Build(physical, state->Mode | CodeMode.Single, 1);
        }

        return block == null ? FindSingle() : Block.Ops(block);
    }

    /// <summary>Where the instruction at RIP lies and the host's address of its page; false when the fetch faulted or the code is not in RAM.</summary>
    public bool TryFindCode(out ulong physical, out byte* page)
    {
        page = null;
        _ownerThread = Environment.CurrentManagedThreadId;
        if (!TryFetchAddress(out physical))
        {
            return false;
        }

        page = _memory.GetPointer(physical & ~0xFFFUL);
        return page != null;
    }

    /// <summary>Sees to it that writes to a page are noticed, before its bytes are translated.</summary>
    public long Claim(ulong physical)
    {
        long page = _memory.GetPageIndex(physical);
        if (!_pages.ContainsKey(page))
        {
            // While it waits for others, this vCPU serves their requests: those for this page must not take the claim back.
            _building = page;
            _codePages.Claim(physical, _processor);
            _building = NoPage;
            _pages[page] = new CodePage();
        }

        return page;
    }

    /// <summary>The one instruction at RIP, decoded anew, followed by a return to the run loop; null when the fetch faulted.</summary>
    public Op* FindSingle()
    {
        CpuState* state = _processor.State;
        _ownerThread = Environment.CurrentManagedThreadId;
        ulong* words = stackalloc ulong[2];
        byte* bytes = (byte*)words;
        if (!TryFetchAddress(out ulong physical))
        {
            return null;
        }

        int inPage = Math.Min(MaxInstructionLength, 4096 - (int)(physical & 0xFFF));
        _processor.MovePhysical(physical, bytes, inPage, Access.Read);
        _builder.Build(bytes, inPage, state->Mode, state->Rip, 1);
        if (_builder.ByteLength == 0 && inPage < MaxInstructionLength)
        {
            ulong next = Linear(state) + (ulong)inPage;
            bool is64 = (state->Mode & CodeMode.BitnessMask) == CodeMode.Bits64;
            next = is64 ? next : (uint)next;
            if (is64 && !_processor.IsCanonical(next))
            {
                SoftwareProcessor.RaiseFault(state, ExceptionVector.GeneralProtection, 0);
                return null;
            }

            if (!_processor.TryTranslateFetch(next, out physical))
            {
                return null;
            }

            _processor.MovePhysical(physical, bytes + inPage, MaxInstructionLength - inPage, Access.Read);
            _builder.Build(bytes, MaxInstructionLength, state->Mode, state->Rip, 1);
        }

        if (_builder.ByteLength == 0 || !FitsCodeSegment(state, _builder.ByteLength))
        {
            // Longer than 15 bytes, or past the limit of CS.
            SoftwareProcessor.RaiseFault(state, ExceptionVector.GeneralProtection, 0);
            return null;
        }

        for (int i = 0; i < _builder.OpCount; i++)
        {
            _single[i] = _builder.Ops[i];
        }

        return _single;
    }

    /// <summary>What the op of <see cref="FindOne"/> or <see cref="FindSingle"/> is that was found last.</summary>
    public Mnemonic NameOf(Op* op) => IsTemporary(op) ? _builder.FirstMnemonic : (Mnemonic)((Block*)op - 1)->Mnemonic;

    /// <summary>Whether ops are those of <see cref="FindSingle"/>, which the next call overwrites.</summary>
    public bool IsTemporary(Op* ops) => ops == _single;

    /// <summary>Whether ops are those of a block that has been dropped.</summary>
    public static bool IsStale(Op* ops) => (ops->Flags & OpFlags.Dropped) != 0;

    /// <summary>Empties the cache.</summary>
    public void Flush()
    {
        FlushCount++;
        new Span<nint>(_buckets, BucketCount).Clear();
        foreach (long page in _pages.Keys)
        {
            _codePages.Release(page, _processor.Index);
        }

        _pages.Clear();
        _processor.Tier?.DropAll();
        _arenaUsed = 0;
        _processor.FlushJumpCache();
    }

    /// <summary>Empties the cache and gives the host its memory back; called between blocks.</summary>
    public void ReleaseMemory()
    {
        Flush();
        _arena.Release();
        _table.Release();
        _pages.TrimExcess();
        _processor.Tier?.ReleaseMemory();
    }

    /// <summary>Drops the blocks that others' writes have hit; called between blocks.</summary>
    public void TakePendingInvalidations(bool flush)
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
                _processor.FlushTlb();
            }

            foreach ((ulong address, int length) in _pending)
            {
                if (length == 0)
                {
                    _processor.DropWriteTags(address);
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
    public void DropWriteTagsFor(SoftwareProcessor caller, ulong physicalPage)
    {
        long ticket;
        lock (_pendingLock)
        {
            AddPending(physicalPage, 0);
            ticket = ++_asked;
        }

        _processor.Signal(Attention.CodeWritten);
        var spin = default(SpinWait);
        while (Volatile.Read(ref _taken) < ticket && _processor.IsInGuest)
        {
            caller.Code.TakePendingInvalidations(false);
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

        _processor.Signal(Attention.CodeWritten);
    }

    /// <summary>How many requests of others are kept.</summary>
    public int PendingCount
    {
        get
        {
            lock (_pendingLock)
            {
                return _pending.Count;
            }
        }
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

    /// <summary>Runs in place of an op whose bytes were changed: control goes back to the run loop, which decodes anew.</summary>
    private static Op* Stale(CpuState* state, Op* op)
    {
        JumpCacheEntry* entry = state->JumpCache + JumpCacheEntry.IndexOf(state->Rip);
        entry->Rip = ulong.MaxValue;
        return Flow.Again(state, op);
    }

    private void Invalidate(ulong address, int length)
    {
        long page = _memory.GetPageIndex(address);
        if (!_pages.TryGetValue(page, out CodePage? codePage))
        {
            if (page != _building)
            {
                _codePages.Release(page, _processor.Index);
            }

            return;
        }

        ITranslationTier? tier = _processor.Tier;
        bool hit = tier != null && tier.Invalidate(page, address, length);
        Block* kept = null;
        Block* next;
        for (Block* block = codePage.Blocks; block != null; block = next)
        {
            next = block->NextInPage;
            if (block->Physical < address + (ulong)length && address < block->Physical + block->ByteLength)
            {
                hit = true;
                DroppedCount++;
                Remove(block);
            }
            else
            {
                block->NextInPage = kept;
                kept = block;
            }
        }

        codePage.Blocks = kept;
        if (hit)
        {
            // Links lead to blocks of the same page only; one to a dropped block would go by way of the run loop for good.
            Unlink(kept);
        }

        bool isEmpty = kept == null && !(tier?.HasCode(page) ?? false);
        if (isEmpty || (!hit && ++codePage.HarmlessWrites > HarmlessWritesPerPage))
        {
            DropPage(page, codePage);
        }
    }

    private static void Unlink(Block* block)
    {
        for (; block != null; block = block->NextInPage)
        {
            Op* ops = Block.Ops(block);
            for (int i = 0; i < block->OpCount; i++)
            {
                ops[i].Link = null;
            }
        }
    }

    /// <summary>Forgets a page, so that writes to it take the fast path again.</summary>
    private void DropPage(long page, CodePage codePage)
    {
        for (Block* block = codePage.Blocks; block != null; block = block->NextInPage)
        {
            Remove(block);
        }

        _processor.Tier?.DropPage(page);
        _pages.Remove(page);
        if (page != _building)
        {
            _codePages.Release(page, _processor.Index);
        }
    }

    /// <summary>Drops all blocks but keeps their memory, so that it can be done while one of them runs.</summary>
    private void DropAllPages()
    {
        foreach (long page in _pages.Keys.ToArray())
        {
            DropPage(page, _pages[page]);
        }
    }

    /// <summary>Takes a block out of its bucket and turns all its ops into exits, for whoever still holds one.</summary>
    private void Remove(Block* block)
    {
        Block** link = Bucket(block->Physical, block->Mode);
        while (*link != block)
        {
            link = &(*link)->NextInBucket;
        }

        *link = block->NextInBucket;
        Op* ops = Block.Ops(block);
        for (int i = 0; i < block->OpCount; i++)
        {
            ops[i].Handler = &Stale;
            ops[i].Flags |= OpFlags.Dropped;
        }
    }

    private Block** Bucket(ulong physical, uint mode) =>
        _buckets + (int)(((uint)physical ^ (uint)(physical >> 16) ^ (mode << 9)) & (BucketCount - 1));

    private Block* Lookup(ulong physical, uint mode)
    {
        for (Block* block = *Bucket(physical, mode); block != null; block = block->NextInBucket)
        {
            if (block->Physical == physical && block->Mode == mode)
            {
                return block;
            }
        }

        return null;
    }

    /// <summary>Decodes a block; null when not one instruction lies wholly in the page, in RAM, or no room is left.</summary>
    private Block* Build(ulong physical, uint mode, int maxInstructions)
    {
        CpuState* state = _processor.State;
        byte* code = _memory.GetPointer(physical);
        if (code == null)
        {
            return null;
        }

        // The claim comes before the bytes are read: a write in between is then noticed.
        long page = Claim(physical);
        _builder.Build(code, 4096 - (int)(physical & 0xFFF), state->Mode, state->Rip, maxInstructions);
        if (_builder.ByteLength == 0)
        {
            return null;
        }

        long size = sizeof(Block) + ((long)_builder.OpCount * sizeof(Op));
        if (size > ArenaSize - _arenaUsed)
        {
            // Ops of the running block lie in the arena, so it is emptied between blocks.
            _processor.Signal(Attention.FlushCode);
            return null;
        }

        // SAFETY: within the arena, as the bytes left show.
        Block* block = (Block*)((byte*)_arena.Address + _arenaUsed);
        _arenaUsed += (size + 63) & ~63L;
        ref CodePage? codePage = ref CollectionsMarshal.GetValueRefOrAddDefault(_pages, page, out _);
        codePage ??= new CodePage();
        Block** bucket = Bucket(physical, mode);
        *block = new Block
        {
            Physical = physical,
            Mode = mode,
            ByteLength = (ushort)_builder.ByteLength,
            OpCount = (ushort)_builder.OpCount,
            Mnemonic = (ushort)_builder.FirstMnemonic,
            NextInPage = codePage.Blocks,
            NextInBucket = *bucket,
        };
        codePage.Blocks = block;
        *bucket = block;
        new ReadOnlySpan<Op>(_builder.Ops, _builder.OpCount).CopyTo(new Span<Op>(Block.Ops(block), _builder.OpCount));
        return block;
    }

    private bool TryFetchAddress(out ulong physical)
    {
        CpuState* state = _processor.State;
        ulong linear = Linear(state);
        if ((state->Mode & CodeMode.BitnessMask) == CodeMode.Bits64)
        {
            if (!_processor.IsCanonical(linear))
            {
                physical = 0;
                SoftwareProcessor.RaiseFault(state, ExceptionVector.GeneralProtection, 0);
                return false;
            }
        }
        else if (state->Rip > state->Cs.Limit)
        {
            physical = 0;
            SoftwareProcessor.RaiseFault(state, ExceptionVector.GeneralProtection, 0);
            return false;
        }

        return _processor.TryTranslateFetch(linear, out physical);
    }

    private static ulong Linear(CpuState* state) =>
        (state->Mode & CodeMode.BitnessMask) == CodeMode.Bits64 ? state->Rip : (uint)(state->Cs.Base + state->Rip);

    private static bool FitsCodeSegment(CpuState* state, int length) =>
        (state->Mode & CodeMode.BitnessMask) == CodeMode.Bits64 || state->Rip + (ulong)length - 1 <= state->Cs.Limit;
}
