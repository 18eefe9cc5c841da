using System.Globalization;
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
internal sealed unsafe class BlockCache : ICodeHolder, IDisposable
{
    private const long ArenaSize = 64 << 20;
    private const int BucketCount = 1 << 16;
    private const int MaxInstructionLength = 15;

    private readonly CpuState* _state;
    private readonly GuestMemory _memory;
    private readonly Tlb _tlb;
    private readonly CodeWatch _watch;
    private readonly CodeFetch _fetch;
    private readonly LoadStoreUnit _loadStore;
    private readonly AttentionWord _attention;
    private readonly IBlockBuilder _builder;

    /// <summary>The blocks of each page, as a list that begins with a <see cref="Block"/> pointer.</summary>
    private readonly Dictionary<long, nint> _pages = [];

    private readonly HostMapping _arena = new(ArenaSize);
    private readonly HostMapping _table = new(BucketCount * sizeof(long));
    private readonly Block** _buckets;

    /// <summary>One instruction at a time: single-stepping and instructions that cross a page.</summary>
    private readonly Op* _single;

    private long _arenaUsed;

    public BlockCache(SoftwareProcessor processor, IBlockBuilder builder)
    {
        _builder = builder;
        _state = processor.State;
        _memory = processor.Memory;
        _tlb = processor.Tlb;
        _watch = processor.Watch;
        _fetch = processor.Fetch;
        _loadStore = processor.LoadStore;
        _attention = processor.AttentionWord;

        // SAFETY: the table has that many pointers, null at first. All is freed in Dispose.
        _buckets = (Block**)_table.Address;
        _single = (Op*)NativeMemory.AlignedAlloc((nuint)(2 * sizeof(Op)), 64);
        ProcessorTrace trace = processor.Trace;
        if (trace.Traces(TraceKinds.Blocks))
        {
            _builder.OnBuilt = (rip, mode, bytes, count) => trace.Tell(
                TraceKinds.Blocks,
                rip,
                string.Create(CultureInfo.InvariantCulture, $"decoded {count} instructions, {bytes} bytes, mode {mode:x}"));
        }
    }

    /// <inheritdoc/>
    public long ByteCount => Volatile.Read(ref _arenaUsed);

    /// <summary>Blocks dropped because their bytes were written.</summary>
    public long DroppedCount { get; private set; }

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
        CpuState* state = _state;
        if (!_fetch.TryGetPhysical(out ulong physical))
        {
            return null;
        }

        var key = new BlockKey(physical, BlockMode.Of(state));
        Block* block = Lookup(key);
        if (block == null)
        {
            block = Build(key);
            if (block == null)
            {
                return FindSingle();
            }
        }

        if (!_fetch.FitsCodeSegment(block->ByteLength))
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
        CpuState* state = _state;
        if (!_fetch.TryGetPhysical(out ulong physical))
        {
            return null;
        }

        var key = new BlockKey(physical, BlockMode.Of(state).Single);
        Block* block = Lookup(key);
        if (block == null)
        {
            block = Build(key);
        }

        return block == null ? FindSingle() : Block.Ops(block);
    }

    /// <summary>The one instruction at RIP, decoded anew, followed by a return to the run loop; null when the fetch faulted.</summary>
    public Op* FindSingle()
    {
        CpuState* state = _state;
        ulong* words = stackalloc ulong[2];
        byte* bytes = (byte*)words;
        if (!_fetch.TryGetPhysical(out ulong physical))
        {
            return null;
        }

        int inPage = Math.Min(MaxInstructionLength, 4096 - (int)(physical & 0xFFF));
        _loadStore.MovePhysical(physical, bytes, inPage, Access.Read);
        _builder.Build(bytes, inPage, state->Mode, state->Rip, 1);
        if (_builder.ByteLength == 0 && inPage < MaxInstructionLength)
        {
            ulong next = _fetch.Linear + (ulong)inPage;
            bool is64 = (state->Mode & CodeMode.BitnessMask) == CodeMode.Bits64;
            next = is64 ? next : (uint)next;
            if (is64 && !CpuState.IsCanonical(state, next))
            {
                Faults.Raise(state, ExceptionVector.GeneralProtection, 0);
                return null;
            }

            if (!_tlb.TryTranslateFetch(next, out physical))
            {
                return null;
            }

            _loadStore.MovePhysical(physical, bytes + inPage, MaxInstructionLength - inPage, Access.Read);
            _builder.Build(bytes, MaxInstructionLength, state->Mode, state->Rip, 1);
        }

        if (_builder.ByteLength == 0 || !_fetch.FitsCodeSegment(_builder.ByteLength))
        {
            // Longer than 15 bytes, or past the limit of CS.
            Faults.Raise(state, ExceptionVector.GeneralProtection, 0);
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

    public IEnumerable<EngineCounter> ReadCounters() =>
    [
        new("blocks", "decoded", _builder.BlockCount),
        new("blocks", "instructions decoded", _builder.InstructionCount),
        new("blocks", "dropped, their bytes were written", DroppedCount),
        new("blocks", "emptied caches", _watch.FlushCount),
        new("blocks", "decoded code", ByteCount, "bytes"),
    ];

    /// <inheritdoc/>
    public void DropAll()
    {
        new Span<nint>(_buckets, BucketCount).Clear();
        _pages.Clear();
        _arenaUsed = 0;
    }

    /// <inheritdoc/>
    public void ReleaseMemory()
    {
        _arena.Release();
        _table.Release();
        _pages.TrimExcess();
    }

    /// <inheritdoc/>
    public bool HasCode(long page) => _pages.ContainsKey(page);

    /// <inheritdoc/>
    public bool Invalidate(long page, ulong address, int length)
    {
        if (!_pages.TryGetValue(page, out nint first))
        {
            return false;
        }

        bool hit = false;
        Block* kept = null;
        Block* next;
        for (Block* block = (Block*)first; block != null; block = next)
        {
            next = block->NextInPage;
            if (block->Key.Physical < address + (ulong)length && address < block->Key.Physical + block->ByteLength)
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

        if (kept == null)
        {
            _pages.Remove(page);
        }
        else
        {
            _pages[page] = (nint)kept;
        }

        if (hit)
        {
            // Links lead to blocks of the same page only; one to a dropped block would go by way of the run loop for good.
            Unlink(kept);
        }

        return hit;
    }

    /// <inheritdoc/>
    public void DropPage(long page)
    {
        if (_pages.Remove(page, out nint first))
        {
            for (Block* block = (Block*)first; block != null; block = block->NextInPage)
            {
                Remove(block);
            }
        }
    }

    /// <summary>Runs in place of an op whose bytes were changed: control goes back to the run loop, which decodes anew.</summary>
    private static Op* Stale(CpuState* state, Op* op)
    {
        JumpCacheEntry* entry = state->JumpCache + JumpCacheEntry.IndexOf(state->Rip);
        entry->Rip = ulong.MaxValue;
        return Flow.Again(state, op);
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

    /// <summary>Takes a block out of its bucket and turns all its ops into exits, for whoever still holds one.</summary>
    private void Remove(Block* block)
    {
        Block** link = Bucket(block->Key);
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

    private Block** Bucket(BlockKey key) => _buckets + (int)(key.Hash & (BucketCount - 1));

    private Block* Lookup(BlockKey key)
    {
        for (Block* block = *Bucket(key); block != null; block = block->NextInBucket)
        {
            if (block->Key == key)
            {
                return block;
            }
        }

        return null;
    }

    /// <summary>Decodes a block; null when not one instruction lies wholly in the page, in RAM, or no room is left.</summary>
    private Block* Build(BlockKey key)
    {
        CpuState* state = _state;
        ulong physical = key.Physical;
        byte* code = _memory.GetPointer(physical);
        if (code == null)
        {
            return null;
        }

        // The claim comes before the bytes are read: a write in between is then noticed.
        long page = _watch.Claim(physical);
        _builder.Build(code, 4096 - (int)(physical & 0xFFF), state->Mode, state->Rip, key.Mode.MaxInstructions);
        if (_builder.ByteLength == 0)
        {
            return null;
        }

        long size = sizeof(Block) + ((long)_builder.OpCount * sizeof(Op));
        if (size > ArenaSize - _arenaUsed)
        {
            // Ops of the running block lie in the arena, so it is emptied between blocks.
            _attention.Signal(Attention.FlushCode);
            return null;
        }

        // SAFETY: within the arena, as the bytes left show.
        Block* block = (Block*)((byte*)_arena.Address + _arenaUsed);
        _arenaUsed += (size + 63) & ~63L;
        ref nint first = ref CollectionsMarshal.GetValueRefOrAddDefault(_pages, page, out _);
        Block** bucket = Bucket(key);
        *block = new Block
        {
            Key = key,
            ByteLength = (ushort)_builder.ByteLength,
            OpCount = (ushort)_builder.OpCount,
            Mnemonic = (ushort)_builder.FirstMnemonic,
            NextInPage = (Block*)first,
            NextInBucket = *bucket,
        };
        first = (nint)block;
        *bucket = block;
        new ReadOnlySpan<Op>(_builder.Ops, _builder.OpCount).CopyTo(new Span<Op>(Block.Ops(block), _builder.OpCount));
        return block;
    }
}
