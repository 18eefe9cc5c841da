using System.Globalization;
using Tutti.Cpu.Interpreter;
using Tutti.Host;
using Tutti.X86;

namespace Tutti.Cpu.Translator;

/// <summary>
/// The main tier of one vCPU: 64-bit code is translated when it is first met and runs as host code; what comes back from
/// there is mended, linked, or interpreted one instruction at a time.
/// </summary>
internal sealed unsafe partial class Translator : ITranslationTier
{
    private const uint AllSseMasked = 0x1F80;
    private const int AllX87Masked = 0x3F;

    /// <summary>
    /// Jumps to other pages by way of the jump cache, for each that is led straight to its target: that costs a microsecond, and saves some
    /// nanoseconds each time until the guest changes its address space.
    /// </summary>
    private const uint JumpsPerLink = 128;

    /// <summary>No page-fault error code.</summary>
    private const long NoError = -1;

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

    /// <summary>The instruction that has missed the TLB last, and for which page.</summary>
    private ulong _missRip = 1;
    private ulong _missPage;

    /// <summary>The page-fault error code of the miss that could not be mended, or <see cref="NoError"/>.</summary>
    private long _missError = NoError;

    private readonly UserWindows _windows;
    private CounterClock? _counter;

    /// <summary>The access for which a page fault was raised that its window did not show; RIP 0 for none.</summary>
    private (ulong Rip, ulong Linear, bool Write) _awaited;

    /// <summary>The access that has faulted last: see <see cref="WindowBlock.Accesses"/>.</summary>
    private ulong _faulted;

    /// <summary>The guest has come to RIP by a jump.</summary>
    private bool _hasJumped;

    /// <summary>The limit of the GDT in which the descriptors of <see cref="ExitState.Returns"/> stood.</summary>
    private uint _returnLimit;

    public Translator(SoftwareProcessor processor, bool everythingIsHot, bool everythingHasWindow, bool runsDirectly)
    {
        _direct = runsDirectly && processor.ProcessorCount == 1 ? new DirectExecution(processor, isAlways: false) : null;
        _cache.Hot.IsEverything = everythingIsHot;
        _processor = processor;
        _tracesBlocks = processor.Trace.Traces(TraceKinds.Blocks);
        _tracesExits = processor.Trace.Traces(TraceKinds.Exits);
        _state = processor.State;
        _hot = (HotState*)((byte*)_state - StateLayout.Cpu);
        _exit = (ExitState*)((byte*)_hot + StateLayout.Exit);
        _tables = new TranslatorTables(_hot, _cache.Hot, _nowhere.Address, _cache.Common.Leave, _cache.Common.Land);
        _spaces = new AddressSpaces(_tables);
        _exit->FaultExit = (ulong)_cache.Common.Fault;
        bool canFault = processor.Memory.HostFile >= 0 && _direct == null && FaultHandler.TryAdd(_cache.Range.Start, _cache.Range.Length);
        _windows = new UserWindows(_hot, _state, processor.Memory, canFault, everythingHasWindow, processor.ProcessorCount);
        _exit->LinkCountdown = JumpsPerLink;
        ForgetReturns();
        _state->PollMasks = &_hot->JumpMask;
        _state->PollMaskCount = StateLayout.PollMaskCount;

        // SAFETY: Enter is a function of this shape, and its code is never overwritten.
        _enter = (delegate* unmanaged<HotState*, long, void>)_cache.Common.Enter;
    }

    public TranslatorCounters Counters { get; } = new();

    public TranslationCache Cache => _cache;

    public UserWindows Windows => _windows;

    public bool CanRun => (_state->Mode & CodeMode.BitnessMask) == CodeMode.Bits64 && Set is not null;

    /// <summary>
    /// The tables of the current privilege and RFLAGS.AC; null while alignment checks are armed, and at levels 1 and 2, which have a
    /// supervisor's pages but not its instructions: a supervisor's blocks ask nobody for the level.
    /// </summary>
    private TlbSet? Set
    {
        get
        {
            bool alignmentCheck = (_state->Flags & Rflags.AlignmentCheck) != 0;
            return _state->Cpl switch
            {
                0 => alignmentCheck ? TlbSet.SupervisorOpen : TlbSet.Supervisor,
                3 => alignmentCheck && (_state->Cr0 & Cr0.AlignmentMask) != 0 ? null : _windows.TryEnter() ? TlbSet.UserWindow : TlbSet.User,
                _ => null,
            };
        }
    }

    public void Run()
    {
        FollowClock();
        _direct?.Relax();
        while (Volatile.Read(ref _state->Attention) == 0 && _state->FaultVector < 0 && CanRun)
        {
            _keepsJumps = false;
            if (_state->Cpl == 3 && _awaited.Rip != 0)
            {
                ShowAwaited();
            }

            if (_state->Cpl == 3 && _direct != null && _direct.TryRun(out _keepsJumps))
            {
                continue;
            }

            long entry = Find(Set!.Value);
            if (entry != 0)
            {
                _exit->SseLoaded = _exit->AvxLoaded = _exit->X87Loaded = 0;
                Enter(entry);
            }
            else if (_state->FaultVector < 0)
            {
                _processor.RunOne();
            }
        }

        if (_state->Cpl == 3 && _state->FaultVector < 0 && CanRun)
        {
            NoteRunning();
        }
    }

    public void NoteReturn(ushort code, ushort stack, Descriptor codeDescriptor, Descriptor stackDescriptor)
    {
        if (_returnLimit != _state->Gdtr.Limit)
        {
            ForgetReturns();
            _returnLimit = _state->Gdtr.Limit;
        }

        int number = (code & 3) == 3 ? ReturnTarget.User : (stack & 0xFFFC) == 0 ? ReturnTarget.SupervisorNullStack : ReturnTarget.Supervisor;
        ulong* target = _exit->Returns + (3 * number);
        target[0] = code | ((ulong)stack << 16);
        target[1] = codeDescriptor.Raw;
        target[2] = stackDescriptor.Raw;
    }

    private void ForgetReturns()
    {
        for (int target = 0; target < ReturnTarget.Count; target++)
        {
            _exit->Returns[3 * target] = ReturnTarget.None;
        }
    }

    public void DropWriteTags(ulong host)
    {
        _tables.DropWriteTags(host);
        _windows.DropWrites(host);
        _direct?.DropWrites(host);
    }

    public bool HasCode(long page) => _cache.HasBlocks(page);

    public bool Invalidate(long page, ulong address, int length)
    {
        bool hit = _cache.Invalidate(page, address, length);
        if (hit)
        {
            Counters.Invalidations++;
        }

        return hit;
    }

    public void DropPage(long page)
    {
        if (_cache.HasBlocks(page))
        {
            _cache.DropPage(page);
        }
    }

    public void DropAll()
    {
        _tables.Sites.Clear();
        _tables.Sites.Forget();
        _cache.Clear();
        ForgetUserJumps(ofAll: true);
        ForgetSupervisorJumps();
    }

    public long ByteCount => _cache.UsedBytes;

    public void ReleaseMemory()
    {
        _windows.Clear();
        _direct?.Clear();
        ForgetUserJumps(ofAll: true);
        ForgetSupervisorJumps();
        _cache.ReleaseMemory();
        _userPages.TrimExcess();
        _supervisorPages.TrimExcess();
    }

    public IEnumerable<EngineCounter> ReadCounters() => [.. Counters.Read(_cache, _windows), .. _direct?.ReadCounters() ?? []];

    public void Dispose()
    {
        FaultHandler.Remove(_cache.Range.Start);
        _windows.Dispose();
        _direct?.Dispose();
        _cache.Dispose();
        _tables.Dispose();
        _nowhere.Dispose();
    }

    /// <summary>Where the code at RIP runs, translated when it is new; 0 after a fault, or where the code cannot be translated.</summary>
    private long Find(TlbSet set)
    {
        long known = _tables.FindJump(set.Tables(), _state->Rip);
        return known != 0 ? known : FindBlock(set)?.FarEntry ?? 0;
    }

    private TranslatedBlock? FindBlock(TlbSet set)
    {
        if (!_processor.Fetch.TryFindCode(out ulong physical, out byte* page))
        {
            return null;
        }

        TranslatedBlock? block = FindAt(page, physical, set);
        if (block is { IsCrossing: true })
        {
            block = FindCrossing(page, physical, set);
        }

        if (block is { FarEntry: 0 })
        {
            if (_cache.IsFull)
            {
                Flush();
                block = FindAt(page, physical, set);
            }
            else
            {
                _cache.AddFarEntry(block);
            }
        }

        if (block != null && !KeepsJumps)
        {
            SetJump(set, block);
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
            Flush();
        }

        long index = _processor.Watch.Claim(physical);
        TranslatedBlock made = _cache.Translate(page, index, physical, set, isResumed: !_hasJumped);
        if (_tracesBlocks)
        {
            _processor.Trace.Tell(TraceKinds.Blocks, _state->Rip, string.Create(CultureInfo.InvariantCulture, $"translated {made.ByteLength} bytes at {physical:x}, {set}"));
        }

        return made;
    }

    /// <summary>Empties the region. Nothing of it runs now, and whoever waits to go on looks its code up anew.</summary>
    private void Flush()
    {
        _processor.Watch.Flush();
        Counters.Flushes++;
    }

    /// <summary>The block of an instruction that goes on in the next page, wherever that lies; null after a fault, or where it is not in RAM.</summary>
    private TranslatedBlock? FindCrossing(byte* page, ulong physical, TlbSet set)
    {
        ulong next = (_state->Rip & ~0xFFFUL) + 4096;
        if (!CpuState.IsCanonical(_state, next) || !_processor.Tlb.TryTranslateFetch(next, out ulong nextPhysical))
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
                Flush();
            }

            (long, long) pages = (_processor.Watch.Claim(physical), _processor.Watch.Claim(nextPhysical));
            // The last words of the one page, the first ones of the other. SAFETY: both pages are whole, and 15 bytes of code are among these.
            ulong* words = stackalloc ulong[4];
            for (int i = 0; i < 4; i++)
            {
                words[i] = Volatile.Read(ref i < 2 ? ref ((ulong*)(page + 4080))[i] : ref ((ulong*)nextPage)[i - 2]);
            }

            byte* bytes = (byte*)words + (int)(physical & 0xFFF) - 4080;
            block = _cache.TranslateCrossing(bytes, pages, physical, nextPhysical, set);
        }

        AddJumpPage(next);
        return block;
    }

    /// <summary>Runs translated code until it needs more than can be mended here.</summary>
    private void Enter(long target)
    {
        while (target != 0)
        {
            Prepare();
            ExitInfo info;
            do
            {
                _enter(_hot, target);
                info = new ExitInfo(_exit->Info);
                Counters.Exits[(int)info.Kind]++;

                // LAHF and SETO have left AH and AL.
                _exit->Flags = ((_exit->Flags >> 8) & 0xD5) | ((_exit->Flags & 1) << 11);
                TakePrivilege();
                target = _tracesExits ? 0 : info.Kind switch
                {
                    ExitKind.TlbMiss => FillTlb(info),
                    ExitKind.Fault => Show(),
                    _ => 0,
                };
            }
            while (target != 0);

            target = Leave(info);
        }
    }

    /// <summary>Brings the state up to date after an exit, and sees to the cause; gives where to go on at once, or 0.</summary>
    private long Leave(ExitInfo info)
    {
        _state->Flags = (_state->Flags & ~Rflags.Arithmetic) | _exit->Flags;
        _state->Rip = _hot->CodePage + (ulong)info.Offset;
        if (_tracesExits)
        {
            _processor.Trace.Tell(TraceKinds.Exits, _state->Rip, string.Create(CultureInfo.InvariantCulture, $"{info.Kind}, {info.Size} bytes{(info.IsWrite ? " to write" : string.Empty)}"));
        }

        _hasJumped = info.Kind is ExitKind.Link or ExitKind.Jump || (info.Kind == ExitKind.Landed && info.IsStale);
        return info.Kind switch
        {
            ExitKind.TlbMiss => AfterMiss(info),
            ExitKind.Fault => AfterFault(),
            ExitKind.Link => info.IsFar ? LinkFar(info) : Link(info),
            ExitKind.Jump => Jump(info),
            ExitKind.Landed => Land(info),
            ExitKind.Interpret => Interpret(),
            ExitKind.InvalidatePage => InvalidateAddressed(),
            _ => 0,
        };
    }

    /// <summary>Makes the state what translated code asks and relies on.</summary>
    private void Prepare()
    {
        PrepareUnits();
        PrepareSystem();
        LazyFlags.Materialize(_state);
        _exit->Flags = (uint)(_state->Flags & Rflags.Arithmetic);
        _exit->Address = _state->Rip;

        // RF lives for one instruction, and counts only with breakpoints, when single instructions are interpreted.
        _state->Flags &= ~(Rflags.Arithmetic | Rflags.Resume);
        _exit->EventWaits = _processor.Pending.IsAny ? 1 : 0;
        _exit->GoesDown = (_state->Flags & Rflags.Direction) != 0 ? 1 : 0;
        _exit->Privilege = (int)PrivilegeChange.None;
        if (!_tables.AreLookupsArmed)
        {
            _tables.ArmLookups();
            Interlocked.MemoryBarrier();
            if (_state->Attention != 0)
            {
                // Whoever asked may have done so before the lookups were armed.
                _tables.DisarmLookups();
            }
        }
    }

    /// <summary>CS, SS, CPL and what comes from them, as translated code has left them.</summary>
    private void TakePrivilege()
    {
        switch ((PrivilegeChange)_exit->Privilege)
        {
            case PrivilegeChange.None:
                _processor.Tlb.SelectSet();
                return;
            case PrivilegeChange.Return:
                ulong* target = _exit->Returns + (3 * _exit->Returned);
                _processor.InterruptReturns.SetReturned((ushort)*target, (ushort)(*target >> 16), new Descriptor(target[1]), new Descriptor(target[2]));
                break;
            default:
                _processor.SystemCalls.SetFlatPrivilege(_exit->Privilege == (int)PrivilegeChange.ToSupervisor ? 0 : 3);
                break;
        }

        _exit->Privilege = (int)PrivilegeChange.None;
    }

    private long InvalidateAddressed()
    {
        _processor.Tlb.InvalidatePage(_exit->Address);
        return 0;
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
        if (!CpuState.IsCanonical(_state, target))
        {
            _state->Gpr[4] -= (ulong)(long)info.StackChange;
            return Interpret();
        }

        _state->Rip = target;
        return 0;
    }

    /// <summary>After SYSCALL, SYSRET or IRETQ, or where a block was that is gone: all is done, and a target that is not canonical faults where it is fetched.</summary>
    private long Land(ExitInfo info)
    {
        _state->Rip = _exit->Address;
        if (info.IsStale)
        {
            // Whether of user or supervisor code: the other one has no such entry, or looks it up anew.
            _tables.ForgetJump(TlbSet.User, _state->Rip);
            _tables.ForgetJump(TlbSet.Supervisor, _state->Rip);
        }

        return 0;
    }

    /// <summary>
    /// Brings a page into the TLB; gives where to try again. 0 where that is not all, and nothing has happened but that accessed and
    /// dirty bits are set as the access would, or a fault is known that it raises.
    /// </summary>
    private long FillTlb(ExitInfo info)
    {
        _missError = NoError;
        ulong linear = _exit->Address;
        ulong page = linear & ~0xFFFUL;
        bool crosses = ((linear + (ulong)info.Size - 1) & ~0xFFFUL) != page;
        bool isMisaligned = info.NeedsAlignment && (linear & (info.IsGroup ? 15UL : (ulong)(info.Size - 1))) != 0;
        bool counts = info.IsSite && _exit->CountedSite >= 0;
        if (Set?.Tables() is not { } tables || crosses || isMisaligned || counts || !CpuState.IsCanonical(_state, linear) || !_tables.AreLookupsArmed
            || _tables.Holds(tables, linear, info.IsWrite))
        {
            // It holds the page: then the operand is not aligned, which faults before its page does.
            return 0;
        }

        TlbEntry* entry = _state->Tlb + ((linear >> 12) & (TlbEntry.Count - 1));
        if ((info.IsWrite ? entry->WriteTag : entry->ReadTag) != page)
        {
            Counters.Walks++;
            if (!_processor.Tlb.TryFillTlb(linear, info.IsWrite ? Access.Write : Access.Read, out _missError))
            {
                return 0;
            }
        }

        // Two operands of one instruction whose pages share an entry would take it from each other for ever.
        ulong rip = _hot->CodePage + (ulong)info.Offset;
        bool shares = ((page ^ _missPage) >> 12 & (StateLayout.TlbCount - 1)) == 0 && page != _missPage;
        if (shares && rip == _missRip)
        {
            _missRip = 1;
            return 0;
        }

        _missRip = rip;
        _missPage = page;
        _tables.Fill(tables, entry, info.IsWrite);
        _tables.FillOther(tables, entry, !info.IsWrite);
        return (long)_exit->Site;
    }

    /// <summary>Shows the page that an access has not found in its window; gives where to try again, or 0 where that is not all.</summary>
    private long Show()
    {
        _missError = NoError;
        WindowBlock block = _cache.FindFaulted((long)_exit->FaultRip);
        ulong access = block.AccessAt((long)_exit->FaultRip);
        _faulted = access;
        if (_exit->FaultVector == ExceptionVector.PageFault)
        {
            bool write = (_exit->FaultError & PageFaultError.Write) != 0;
            if (!_windows.TryFindLinear(_exit->FaultAddress, out ulong linear))
            {
                return 0;
            }

            if (!_processor.Tlb.TryFillTlb(linear, write ? Access.Write : Access.Read, out _missError))
            {
                _exit->FaultAddress = linear;
                return 0;
            }

            if (!_windows.TryShow(linear, write))
            {
                return 0;
            }

            if (_windows.TryRetire())
            {
                ForgetUserJumps(ofAll: false);
                return 0;
            }
        }
        else if (!_windows.TryOpenRegions())
        {
            if (_windows.TryRetire())
            {
                ForgetUserJumps(ofAll: false);
            }

            return 0;
        }

        int cached = WindowBlock.CachedOf(access);
        int region = WindowBlock.RegionOf(access);
        _exit->Address = cached < 0 ? 0 : _state->Gpr[cached];
        _exit->Distance = region < 0 ? 0 : _windows.DistanceOf(_state->Gpr[region]);
        return block.FarEntry + WindowBlock.DistanceOf(access);
    }

    /// <summary>Shows the page for which a page fault was raised, when the guest comes back to the access: its second fault on the host would cost more than all of this.</summary>
    private void ShowAwaited()
    {
        (ulong rip, ulong linear, bool write) = _awaited;
        _awaited = default;
        if (rip == _state->Rip && Set == TlbSet.UserWindow && _processor.Tlb.TryFillTlb(linear, write ? Access.Write : Access.Read))
        {
            _windows.TryShow(linear, write);
        }
    }

    /// <summary>An access that its window cannot show: raises its fault, or has the instruction interpreted. One that comes often goes by the tables from then on.</summary>
    private long AfterFault()
    {
        if (_tracesExits && Show() is not 0 and long site)
        {
            return site;
        }

        _state->Rip = _hot->CodePage + (ulong)WindowBlock.OffsetOf(_faulted);
        if (_missError != NoError)
        {
            _awaited = (_state->Rip, _exit->FaultAddress, (_exit->FaultError & PageFaultError.Write) != 0);
            _processor.Tlb.RaisePageFault(_exit->FaultAddress, (uint)_missError);
            return 0;
        }

        if (_processor.Fetch.TryFindCode(out ulong physical, out _) && _cache.NoteCrossing(physical))
        {
            _cache.Hot.NoteHidden(physical);
            Invalidate(_processor.Memory.GetPageIndex(physical), physical, 1);
            return 0;
        }

        Counters.SlowAccesses++;
        return _state->FaultVector < 0 ? Interpret() : 0;
    }

    /// <summary>
    /// An access has missed its page some number of times, or is on trial for that; gives where it goes on. 0 where that is not all, or where it
    /// is to be translated anew: to have both ends compared where that may help, else to be looked up in the tables.
    /// </summary>
    private long CountSite(ExitInfo info)
    {
        long record = _exit->CountedSite;
        _exit->CountedSite = -1;
        if (!_processor.Fetch.TryFindCode(out ulong physical, out _))
        {
            return 0;
        }

        ulong linear = _exit->Address;
        bool isMisaligned = !info.IsGroup && (linear & (ulong)(info.Size - 1)) != 0;
        bool isUneven = isMisaligned && !_cache.Hot.IsUneven(physical);
        SiteVerdict verdict = _tables.Sites.Note(record, AccessSites.IsFrame(record) ? linear : linear & ~0xFFFUL, isUneven);
        switch (verdict)
        {
            case SiteVerdict.Stays:
                return (long)_exit->Site;
            case SiteVerdict.Spread or SiteVerdict.Uneven:
                DropPiece(physical, _cache.Hot.NoteLeft(physical, verdict == SiteVerdict.Uneven));
                return 0;
        }

        bool isWhole = ((linear ^ (linear + (ulong)info.Size - 1)) & ~0xFFFUL) == 0 && !(isMisaligned && info.NeedsAlignment);
        if (isWhole && Set == TlbSet.User && _tables.AreLookupsArmed && _tables.Holds(TlbSet.User, linear, info.IsWrite))
        {
            ulong distance = _tables.DistanceOf(TlbSet.User, linear, info.IsWrite);
            _exit->TrialAddress = linear;
            _exit->TrialDistance = AccessSites.IsFrame(record) ? linear + distance : distance;
            _exit->TrialResume = (long)_exit->Site - CommonCode.SiteRetry;
            return _cache.Common.ResumeSite;
        }

        return FillTlb(info) is not 0 and long site ? site : AfterMiss(info);
    }

    /// <summary>Has an instruction translated anew, or all of its piece.</summary>
    private void DropPiece(ulong physical, bool isWhole) => Invalidate(
        _processor.Memory.GetPageIndex(physical),
        isWhole ? physical & ~(HotCode.PieceSize - 1UL) : physical,
        isWhole ? HotCode.PieceSize : 1);

    /// <summary>A miss that has not been mended: raises its fault, or has the instruction interpreted, which then says what is wrong.</summary>
    private long AfterMiss(ExitInfo info)
    {
        if (info.IsSite && _exit->CountedSite >= 0)
        {
            return CountSite(info);
        }

        if (_tracesExits && FillTlb(info) is not 0 and long site)
        {
            return site;
        }

        ulong linear = _exit->Address;
        if (info.IsGroup && ((linear ^ (linear + (ulong)info.Size - 1)) & ~0xFFFUL) != 0)
        {
            return AfterCrossing();
        }

        // The access of a group's instruction is somewhere in the group; interpreted, it faults there.
        if (_missError == NoError || info.IsGroup || info.IsProbe)
        {
            Counters.SlowAccesses++;
            return Interpret();
        }

        _processor.Tlb.RaisePageFault(linear, (uint)_missError);
        return 0;
    }

    /// <summary>A group of accesses crosses a page's end: its first instruction is interpreted, or translated anew without it.</summary>
    private long AfterCrossing()
    {
        if (!_processor.Fetch.TryFindCode(out ulong physical, out _))
        {
            return 0;
        }

        if (!_cache.NoteCrossing(physical))
        {
            Counters.SlowAccesses++;
            return Interpret();
        }

        Invalidate(_processor.Memory.GetPageIndex(physical), physical, 1);
        return 0;
    }

    /// <summary>Gives a jump within the page its target.</summary>
    private long Link(ExitInfo info)
    {
        long before = Counters.Flushes;
        if (_state->Attention != 0 || Set is not { } set || !_processor.Fetch.TryFindCode(out ulong physical, out byte* page))
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

        _exit->SseLoaded = _exit->AvxLoaded = _exit->X87Loaded = 0;
        return block.NearEntry;
    }

    /// <summary>Gives a jump to another page its target.</summary>
    private long LinkFar(ExitInfo info)
    {
        ulong target = _exit->Address;
        long site = (long)_exit->Site;
        bool links = _exit->LinkCountdown == 0;
        _exit->LinkCountdown = links ? JumpsPerLink : _exit->LinkCountdown;
        if (!CpuState.IsCanonical(_state, target))
        {
            _state->Gpr[4] += info.IsCall ? 8UL : 0;
            return Interpret();
        }

        _state->Rip = target;
        long before = Counters.Flushes;
        if (_state->Attention != 0 || KeepsJumps || Set is not { } set || FindBlock(set) is not { } block)
        {
            return 0;
        }

        if (links && before == Counters.Flushes)
        {
            _cache.LinkFar(site, block);
        }

        _exit->SseLoaded = _exit->AvxLoaded = _exit->X87Loaded = 0;
        return block.FarEntry;
    }
}
