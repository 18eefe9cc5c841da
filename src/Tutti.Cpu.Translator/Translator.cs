using System.Globalization;
using Tutti.Cpu.Interpreter;
using Tutti.Host;
using Tutti.X86;

namespace Tutti.Cpu.Translator;

/// <summary>
/// The main tier of one vCPU: 64-bit code is translated when it is first met and runs as host code; what comes back from
/// there is mended, linked, or interpreted one instruction at a time.
/// </summary>
internal sealed unsafe class Translator : ITranslationTier
{
    /// <summary>Linear pages of code that are remembered.</summary>
    private const int MaxJumpPages = 1 << 16;

    private const uint AllSseMasked = 0x1F80;
    private const int AllX87Masked = 0x3F;

    private readonly SoftwareProcessor _processor;
    private readonly CpuState* _state;
    private readonly HotState* _hot;
    private readonly ExitState* _exit;
    private readonly TranslationCache _cache = new();
    private readonly TranslatorTables _tables;
    private readonly HostMapping _nowhere = new(4096);
    private readonly delegate* unmanaged<HotState*, long, void> _enter;
    private readonly bool _tracesBlocks;
    private readonly bool _tracesExits;

    /// <summary>Linear addresses of pages that the jump cache leads into.</summary>
    private readonly HashSet<ulong> _jumpPages = [];

    /// <summary>The instruction that has missed the TLB last, and for which page.</summary>
    private ulong _missRip = 1;
    private ulong _missPage;

    /// <summary>When the running code was looked at last, in milliseconds.</summary>
    private long _lastNote;

    public Translator(SoftwareProcessor processor, bool everythingIsHot)
    {
        _cache.Hot.IsEverything = everythingIsHot;
        _processor = processor;
        _tracesBlocks = processor.Traces(TraceKinds.Blocks);
        _tracesExits = processor.Traces(TraceKinds.Exits);
        _state = processor.State;
        _hot = (HotState*)((byte*)_state - StateLayout.Cpu);
        _exit = (ExitState*)((byte*)_hot + StateLayout.Exit);
        _tables = new TranslatorTables(_hot, _nowhere.Address, _cache.Common.Leave);
        _state->PollMasks = &_hot->JumpMask;
        _state->PollMaskCount = 1 + StateLayout.PageMaskCount;

        // SAFETY: Enter is a function of this shape, and its code is never overwritten.
        _enter = (delegate* unmanaged<HotState*, long, void>)_cache.Common.Enter;
    }

    public TranslatorCounters Counters { get; } = new();

    public TranslationCache Cache => _cache;

    public bool CanRun => (_state->Mode & CodeMode.BitnessMask) == CodeMode.Bits64 && Set is not null;

    /// <summary>The tables of the current privilege and RFLAGS.AC; null while alignment checks are armed.</summary>
    private TlbSet? Set
    {
        get
        {
            bool alignmentCheck = (_state->Flags & Rflags.AlignmentCheck) != 0;
            if (_state->Cpl != 3)
            {
                return alignmentCheck ? TlbSet.SupervisorOpen : TlbSet.Supervisor;
            }

            return alignmentCheck && (_state->Cr0 & Cr0.AlignmentMask) != 0 ? null : TlbSet.User;
        }
    }

    public void Run()
    {
        while (Volatile.Read(ref _state->Attention) == 0 && _state->FaultVector < 0 && CanRun)
        {
            TranslatedBlock? block = Find(Set!.Value);
            if (block != null)
            {
                _exit->SseMissing = _exit->AvxMissing = _exit->X87Missing = 1;
                Enter(block.NearEntry);
            }
            else if (_state->FaultVector < 0)
            {
                _processor.RunOne();
            }
        }

        if (_state->Cpl == 3 && CanRun)
        {
            NoteRunning();
        }
    }

    /// <summary>
    /// Whatever asked for attention, the guest's timer most of all, came while this code ran: what is met so is translated anew, as hot
    /// code. Seldom enough to cost nothing.
    /// </summary>
    private void NoteRunning()
    {
        long now = Environment.TickCount64;
        if (now == _lastNote || _state->FaultVector >= 0)
        {
            return;
        }

        _lastNote = now;
        ulong cr2 = _state->Cr2;
        if (!_processor.Code.TryFindCode(out ulong physical, out _))
        {
            // Nobody has asked for this instruction yet: what came is first.
            _state->FaultVector = -1;
            _state->Cr2 = cr2;
        }
        else if (_cache.Hot.Note(physical))
        {
            Invalidate(_processor.Memory.GetPageIndex(physical), physical & ~(HotCode.PieceSize - 1UL), HotCode.PieceSize);
        }
    }

    public void FlushTlb(bool keepsGlobal)
    {
        _tables.Flush(keepsGlobal);

        // All code is looked up anew from here, so that the mark comes back where it must.
        ForgetJumps(!keepsGlobal || _processor.HasFetchedLocalCode);
        _processor.HasFetchedLocalCode = false;
    }

    public void InvalidatePage(ulong linear)
    {
        _tables.Invalidate(linear);
        if (_jumpPages.Contains(linear >> 12) || _tables.IsInLargePage(linear))
        {
            ForgetJumps(true);
        }
    }

    public void DropWriteTags(ulong host) => _tables.DropWriteTags(host);

    public bool HasCode(long page) => _cache.HasBlocks(page);

    public bool Invalidate(long page, ulong address, int length)
    {
        bool hit = _cache.Invalidate(page, address, length);
        if (hit)
        {
            Counters.Invalidations++;
            ForgetDropped();
        }

        return hit;
    }

    public void DropPage(long page)
    {
        if (_cache.HasBlocks(page))
        {
            _cache.DropPage(page);
            ForgetDropped();
        }
    }

    public void DropAll()
    {
        _cache.Clear();
        ForgetJumps(true);
    }

    public long ByteCount => _cache.UsedBytes;

    public void ReleaseMemory()
    {
        _cache.ReleaseMemory();
        _jumpPages.TrimExcess();
    }

    public IEnumerable<EngineCounter> ReadCounters() => Counters.Read(_cache);

    public void Dispose()
    {
        _cache.Dispose();
        _tables.Dispose();
        _nowhere.Dispose();
    }

    /// <summary>The block at RIP, translated when there is none; null after a fault, or where the code cannot be translated.</summary>
    private TranslatedBlock? Find(TlbSet set)
    {
        if (!_processor.Code.TryFindCode(out ulong physical, out byte* page))
        {
            return null;
        }

        TranslatedBlock? block = FindAt(page, physical, set);
        if (block is { IsCrossing: true })
        {
            block = FindCrossing(page, physical, set);
        }

        if (block != null)
        {
            ulong rip = _state->Rip;
            _hot->CodePage = rip & ~0xFFFUL;
            _tables.SetJump(set, rip, block.FarEntry);
            if (_jumpPages.Count >= MaxJumpPages)
            {
                // One page of RAM may be code at any number of linear ones.
                ForgetJumps(true);
                _tables.SetJump(set, rip, block.FarEntry);
            }

            _jumpPages.Add(rip >> 12);
        }

        return block;
    }

    private TranslatedBlock FindAt(byte* page, ulong physical, TlbSet set)
    {
        TranslatedBlock? block = _cache.Find(physical, set);
        if (block != null)
        {
            return block;
        }

        if (_cache.IsFull)
        {
            // Nothing of it runs now, and whoever waits to go on looks its code up anew.
            _processor.Code.Flush();
            Counters.Flushes++;
        }

        long index = _processor.Code.Claim(physical);
        TranslatedBlock made = _cache.Translate(page, index, physical, set);
        if (_tracesBlocks)
        {
            _processor.Tell(TraceKinds.Blocks, _state->Rip, string.Create(CultureInfo.InvariantCulture, $"translated {made.ByteLength} bytes at {physical:x}, {set}"));
        }

        return made;
    }

    /// <summary>The block of an instruction that goes on in the next page, wherever that lies; null after a fault, or where it is not in RAM.</summary>
    private TranslatedBlock? FindCrossing(byte* page, ulong physical, TlbSet set)
    {
        ulong next = (_state->Rip & ~0xFFFUL) + 4096;
        if ((ulong)((long)next << 16 >> 16) != next || !_processor.TryTranslateFetch(next, out ulong nextPhysical))
        {
            return null;
        }

        byte* nextPage = _processor.Memory.GetPointer(nextPhysical);
        if (nextPage == null)
        {
            return null;
        }

        TranslatedBlock? block = _cache.FindCrossing(physical, nextPhysical, set);
        if (block == null)
        {
            if (_cache.IsFull)
            {
                _processor.Code.Flush();
                Counters.Flushes++;
            }

            (long, long) pages = (_processor.Code.Claim(physical), _processor.Code.Claim(nextPhysical));
            // SAFETY: 15 bytes: those to the end of the one page, the rest from the start of the other.
            byte* bytes = stackalloc byte[15];
            int offset = (int)(physical & 0xFFF);
            for (int i = 0; i < 15; i++)
            {
                bytes[i] = offset + i < 4096 ? page[offset + i] : nextPage[offset + i - 4096];
            }

            block = _cache.TranslateCrossing(bytes, pages, physical, nextPhysical, set);
        }

        _jumpPages.Add(next >> 12);
        return block;
    }

    /// <summary>Runs translated code until it needs more than can be mended here.</summary>
    private void Enter(long target)
    {
        while (true)
        {
            PrepareUnits();
            LazyFlags.Materialize(_state);
            _exit->Flags = (uint)(_state->Flags & Rflags.Arithmetic);

            // RF lives for one instruction, and counts only with breakpoints, when single instructions are interpreted.
            _state->Flags &= ~(Rflags.Arithmetic | Rflags.Resume);
            _exit->EventWaits = _processor.HasWaitingEvent ? 1 : 0;
            _exit->GoesDown = (_state->Flags & Rflags.Direction) != 0 ? 1 : 0;
            _exit->Privilege = (int)PrivilegeChange.None;
            _tables.ArmLookups();
            Interlocked.MemoryBarrier();
            if (_state->Attention != 0)
            {
                // Whoever asked may have done so before the lookups were armed.
                _tables.DisarmLookups();
            }

            _enter(_hot, target);
            ulong flags = ((_exit->Flags >> 8) & 0xD5) | ((_exit->Flags & 1) << 11);
            _state->Flags = (_state->Flags & ~Rflags.Arithmetic) | flags;
            if (_exit->Privilege != (int)PrivilegeChange.None)
            {
                _processor.SetFlatPrivilege(_exit->Privilege == (int)PrivilegeChange.ToSupervisor ? 0 : 3);
            }
            else
            {
                _processor.UpdateTlbSet();
            }

            var info = new ExitInfo(_exit->Info);
            _state->Rip = _hot->CodePage + (ulong)info.Offset;
            Counters.Exits[(int)info.Kind]++;
            if (_tracesExits)
            {
                _processor.Tell(TraceKinds.Exits, _state->Rip, string.Create(CultureInfo.InvariantCulture, $"{info.Kind}, {info.Size} bytes{(info.IsWrite ? " to write" : string.Empty)}"));
            }

            target = info.Kind switch
            {
                ExitKind.TlbMiss => FillTlb(info),
                ExitKind.Link => Link(info),
                ExitKind.Jump => Jump(info),
                ExitKind.Interpret => Interpret(),
                _ => 0,
            };
            if (target == 0)
            {
                return;
            }
        }
    }

    private long Interpret()
    {
        _processor.RunOne();
        return 0;
    }

    /// <summary>Ends a jump whose target the jump cache does not hold; who runs next looks it up.</summary>
    private long Jump(ExitInfo info)
    {
        ulong target = _exit->Address;
        if ((ulong)((long)target << 16 >> 16) != target)
        {
            return Interpret();
        }

        _state->Gpr[4] += (ulong)(long)info.StackChange;
        _state->Rip = target;
        return 0;
    }

    /// <summary>Brings a page into the TLB; gives where to try again, or has the instruction interpreted.</summary>
    private long FillTlb(ExitInfo info)
    {
        ulong linear = _exit->Address;
        TlbSet? set = Set;
        bool crosses = ((linear ^ (linear + (ulong)info.Size - 1)) & ~0xFFFUL) != 0;
        bool canonical = (ulong)((long)linear << 16 >> 16) == linear;
        bool isMisaligned = info.NeedsAlignment && (linear & (info.IsGroup ? 15UL : (ulong)(info.Size - 1))) != 0;
        if (info.IsGroup && crosses)
        {
            return Ungroup();
        }

        if (info.IsSite && _exit->CountedSite >= 0)
        {
            return CountSite();
        }

        if (set is not { } tables || crosses || isMisaligned || !canonical || _tables.Holds(tables, linear, info.IsWrite))
        {
            // It holds the page: then the operand is not aligned, which faults before its page does.
            return Interpret();
        }

        TlbEntry* entry = _state->Tlb + ((linear >> 12) & (TlbEntry.Count - 1));
        ulong page = linear & ~0xFFFUL;
        if ((info.IsWrite ? entry->WriteTag : entry->ReadTag) != page)
        {
            Counters.Walks++;
            ulong cr2 = _state->Cr2;
            if (!_processor.TryTranslate(linear, info.IsWrite ? Access.Write : Access.Read, out _))
            {
                if (!info.IsGroup)
                {
                    return 0;
                }

                // The instruction's own access is somewhere in the group: interpreted, it faults there.
                _state->FaultVector = -1;
                _state->Cr2 = cr2;
                return Interpret();
            }

            if ((info.IsWrite ? entry->WriteTag : entry->ReadTag) != page)
            {
                // A device, a page with code, a watched address.
                Counters.SlowAccesses++;
                return Interpret();
            }
        }

        // Two operands of one instruction whose pages share an entry would take it from each other for ever.
        bool shares = ((page ^ _missPage) >> 12 & (StateLayout.TlbCount - 1)) == 0 && page != _missPage;
        if (shares && _state->Rip == _missRip)
        {
            _missRip = 1;
            return Interpret();
        }

        _missRip = _state->Rip;
        _missPage = page;
        _tables.Fill(tables, entry, info.IsWrite);
        return (long)_exit->Site;
    }

    /// <summary>An access has left its page some number of times: too often, and it is translated anew, to be looked up in the tables.</summary>
    private long CountSite()
    {
        long record = _exit->CountedSite;
        _exit->CountedSite = -1;
        if (_tables.Sites.IsSpread(record) && _processor.Code.TryFindCode(out ulong physical, out _))
        {
            _cache.Hot.NoteSpread(physical);
            Invalidate(_processor.Memory.GetPageIndex(physical), physical, 1);
            return 0;
        }

        return (long)_exit->Site;
    }

    /// <summary>A group of accesses crosses a page's end: its first instruction is translated anew, without it.</summary>
    private long Ungroup()
    {
        if (_processor.Code.TryFindCode(out ulong physical, out _))
        {
            _cache.Ungroup(physical);
            Invalidate(_processor.Memory.GetPageIndex(physical), physical, 1);
        }

        return 0;
    }

    /// <summary>Gives a jump within the page its target.</summary>
    private long Link(ExitInfo info)
    {
        long before = Counters.Flushes;
        if (_state->Attention != 0 || Set is not { } set || !_processor.Code.TryFindCode(out ulong physical, out byte* page))
        {
            return 0;
        }

        TranslatedBlock block = FindAt(page, physical, set);
        if (block.IsCrossing)
        {
            // Found by linear address only.
            return 0;
        }

        if (before == Counters.Flushes)
        {
            _cache.Link(_cache.JumpAt((long)_exit->Site, info.Offset, set), block);
        }

        _exit->SseMissing = _exit->AvxMissing = _exit->X87Missing = 1;
        return block.NearEntry;
    }

    private void ForgetDropped()
    {
        foreach (TranslatedBlock block in _cache.Dropped)
        {
            _tables.ForgetJump(block.Set, block.FarEntry);
        }
    }

    private void ForgetJumps(bool all)
    {
        _tables.ForgetJumps(all);
        if (all)
        {
            _jumpPages.Clear();
        }
    }

    /// <summary>Says which units translated code may load: those whose instructions do not trap and whose exceptions are all masked.</summary>
    private void PrepareUnits()
    {
        bool traps = _state->FpuTraps != 0;
        uint mxcsr = *(uint*)(_state->FxArea + CpuState.FxMxcsr);
        bool sse = !traps && (mxcsr & AllSseMasked) == AllSseMasked;
        ushort control = *(ushort*)_state->FxArea;
        ushort status = *(ushort*)(_state->FxArea + 2);
        const ulong Masked = Rflags.Trap | Rflags.Direction | Rflags.AlignmentCheck | Rflags.NestedTask;
        bool syscall = (_state->Efer & Efer.SyscallEnable) != 0 && (_state->Sfmask & Masked) == Masked;
        _exit->SyscallForbidden = syscall ? 0 : 1;
        _exit->SseForbidden = sse ? 0 : 1;
        _exit->AvxForbidden = sse && (_state->Cr4 & Cr4.OsXsave) != 0 && (_state->Xcr0 & 6) == 6 ? 0 : 1;
        _exit->X87Forbidden = sse && (control & AllX87Masked) == AllX87Masked && (status & 0x80) == 0 ? 0 : 1;
    }
}
