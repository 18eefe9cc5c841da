using System.Diagnostics;
using System.Runtime.InteropServices;
using Tutti.Cpu.Interpreter;
using Tutti.Host;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Cpu.Translator;

/// <summary>
/// Runs user code of address spaces that compute untranslated, each in a process of its own (docs/direct-execution.md): decides when, gives that
/// process the registers, and sees to what has stopped it. Belongs to one vCPU and its thread.
/// </summary>
internal sealed unsafe partial class DirectExecution : IDisposable
{
    /// <summary>Address spaces at a time.</summary>
    private const int MaxSpaces = 6;

    /// <summary>How often, a millisecond apart at least, an address space must be found in user mode.</summary>
    private const int HotNotes = 2;

    private const int MaxNoted = 256;

    /// <summary>Exits after which it is asked whether the process runs long enough between them, how long in nanoseconds, and how long it rests otherwise.</summary>
    private const int JudgedExits = 512;

    /// <summary>Turns between direct and translated code after which it is translated for a while.</summary>
    private const int MostTurns = 100;

    private const long LeastNanoseconds = 14_000;
    private const long RestMilliseconds = 40;
    private const int MaxRestShift = 5;

    /// <summary>Milliseconds after which the thread may move to another processor.</summary>
    private const long StayMilliseconds = 50;

    /// <summary>Flags that user code on the host cannot have as the guest has them, but for IF, which is always set there.</summary>
    private const ulong UnusualFlags = Rflags.Trap | Rflags.NestedTask | Rflags.AlignmentCheck | Rflags.Identification | Rflags.Iopl
        | Rflags.Virtual8086 | Rflags.VirtualInterrupt | Rflags.VirtualInterruptPending;

    private readonly SoftwareProcessor _processor;
    private readonly CpuState* _state;
    private readonly GuestMemory _memory;
    private readonly List<DirectSpace> _spaces = [];
    private readonly Dictionary<ulong, int> _notes = [];
    private readonly byte[] _places = ThreadPlace.CreateMask();
    private DirectSpace? _current;
    private bool _isOff;
    private bool _translatesOnce;
    private int _place = -1;
    private long _placedAt;
    private (long Lists, long Pages, long Scanned, long Refused, long Breakpoints) _gone;

    /// <param name="isAlways">Every address space runs directly: for tests.</param>
    public DirectExecution(SoftwareProcessor processor, bool isAlways)
    {
        _processor = processor;
        _state = processor.State;
        _memory = processor.Memory;
        _isOff = _memory.HostFile < 0;
        IsAlways = isAlways;
    }

    /// <summary>Every address space runs directly: for tests.</summary>
    public bool IsAlways { get; set; }

    /// <summary>Selectors of user code that are not the host's are let pass: for tests. Code that reads them sees the host's.</summary>
    public bool IgnoresSelectors { get; set; }

    public DirectCounters Counters { get; } = new();

    public IReadOnlyList<DirectSpace> Spaces => _spaces;

    public IEnumerable<EngineCounter> ReadCounters() => Counters.Read(_spaces, _gone);

    /// <summary>
    /// Runs user code of the current address space directly, if that is what it does now, until something has stopped it, and sees to that.
    /// </summary>
    /// <param name="keepsJumps">When not: the code is translated, but without jumps from page to page, so that this is asked again soon.</param>
    public bool TryRun(out bool keepsJumps)
    {
        keepsJumps = false;
        if (_isOff || (_spaces.Count == 0 && !IsAlways))
        {
            return false;
        }

        ulong root = _state->Cr3 & PageTableEntry.AddressMask;
        if (_current?.Root != root)
        {
            _current = _spaces.Find(s => s.Root == root);
        }

        if (_current == null && (!IsAlways || !TryAdd(root)))
        {
            return false;
        }

        DirectSpace space = _current!;
        if (space.RestsUntil != 0)
        {
            return false;
        }

        keepsJumps = true;
        if (_translatesOnce || !IsPlain(space) || !TryPrepare(space))
        {
            _translatesOnce = false;
            return false;
        }

        Run(space);
        return true;
    }

    /// <summary>Takes note that user mode was found running; true when the address space runs directly from now on, and did not.</summary>
    public bool Note()
    {
        if (_isOff || IsAlways)
        {
            return false;
        }

        ulong root = _state->Cr3 & PageTableEntry.AddressMask;
        DirectSpace? space = _spaces.Find(s => s.Root == root);
        if (space != null)
        {
            if (space.RestsUntil == 0 || Environment.TickCount64 < space.RestsUntil)
            {
                return false;
            }

            space.RestsUntil = 0;
            return true;
        }

        if (_notes.Count >= MaxNoted)
        {
            _notes.Clear();
        }

        ref int notes = ref CollectionsMarshal.GetValueRefOrAddDefault(_notes, root, out _);
        if (++notes < HotNotes)
        {
            return false;
        }

        _notes.Remove(root);
        return TryAdd(root);
    }

    /// <summary>Whether the code at RIP runs directly as a rule.</summary>
    public bool IsActive => _current is { RestsUntil: 0 } space && space.Root == (_state->Cr3 & PageTableEntry.AddressMask);

    /// <summary>The guest has dropped translations: what is shown is compared with its tables before it is used again.</summary>
    public void MarkStale()
    {
        foreach (DirectSpace space in _spaces)
        {
            space.Pages.IsStale = true;
        }
    }

    public void Invalidate(ulong linear)
    {
        foreach (DirectSpace space in _spaces)
        {
            if (!space.Pages.IsStale)
            {
                space.Pages.Invalidate(linear);
                space.TranslatedPages.Clear();
            }
        }
    }

    public void DropWrites(ulong host)
    {
        foreach (DirectSpace space in _spaces)
        {
            space.Pages.DropWrites(host);
        }
    }

    /// <summary>Called now and then: the thread may run anywhere again when nothing has run directly for a while.</summary>
    public void Relax()
    {
        if (_place >= 0 && Environment.TickCount64 - _placedAt > 2 * StayMilliseconds)
        {
            LeavePlace();
        }
    }

    public void Clear()
    {
        while (_spaces.Count > 0)
        {
            Drop(_spaces[0]);
        }

        _notes.Clear();
    }

    public void Dispose()
    {
        _isOff = true;
        Clear();
    }

    private bool TryAdd(ulong root)
    {
        try
        {
            if (_spaces.Count == MaxSpaces)
            {
                Drop(_spaces[0]);
            }

            _current = new DirectSpace(_memory, root, (_state->Cr4 & Cr4.LinearAddress57) != 0 ? 5 : 4, _state->Xcr0);
            _spaces.Add(_current);
            Counters.Processes++;
            return true;
        }
        catch (HostException)
        {
            // The translator does as well.
            Counters.Refusals++;
            _isOff = true;
            return false;
        }
    }

    private void Drop(DirectSpace space)
    {
        _spaces.Remove(space);
        _current = _current == space ? null : _current;
        _gone = (_gone.Lists + space.Stub.Lists, _gone.Pages + space.Pages.MappedPages, _gone.Scanned + space.Scan.Scanned, _gone.Refused + space.Refused, _gone.Breakpoints + space.Breakpoints);
        space.Dispose();
    }

    /// <summary>Whether user code on the host finds the processor as the guest has it.</summary>
    private bool IsPlain(DirectSpace space)
    {
        const ulong NeededEfer = Efer.SyscallEnable | Efer.NoExecuteEnable | Efer.LongModeActive;
        const ulong NeededCr4 = Cr4.FsGsBase | Cr4.OsFxsr | Cr4.OsXsave;
        const ulong Base = (1UL << 47) - 4096;
        TracedRegisters host = space.Stub.First;
        return UserWindows.IsPlain(_state) && (_state->Efer & NeededEfer) == NeededEfer && (_state->Cr4 & NeededCr4) == NeededCr4
            && (_state->Cr4 & Cr4.TimeStampDisable) == 0 && (_state->Xcr0 & 7) == 7 && _state->FpuTraps == 0 && _state->InterruptShadow == 0
            && (_state->Flags & (UnusualFlags | Rflags.Interrupt)) == Rflags.Interrupt
            && _state->Rip < StubImage.AddressEnd && _state->Fs.Base < Base && _state->Gs.Base < Base
            && (IgnoresSelectors || (_state->Cs.Selector == host.Cs && _state->Ss.Selector == host.Ss
                && (_state->Ds.Selector | _state->Es.Selector | _state->Fs.Selector | _state->Gs.Selector) == 0));
    }

    /// <summary>Has the process show what it should; false where the code at RIP is not for it.</summary>
    private bool TryPrepare(DirectSpace space)
    {
        long start = Stopwatch.GetTimestamp();
        try
        {
            if (space.Stub.Process.Thread != ThreadInterruption.CurrentThread)
            {
                // Only the thread that has started a process can do anything with it.
                Drop(space);
                return false;
            }

            if (space.Pages.IsStale)
            {
                space.Pages.Refresh();
                space.TranslatedPages.Clear();
            }

            if (space.AwaitedRight != PageRights.None)
            {
                space.Pages.TryShow(space.Awaited, space.AwaitedRight);
                space.AwaitedRight = PageRights.None;
            }

            if (space.TranslatedPages.Contains(_state->Rip >> 12))
            {
                Counters.Translated++;
                return false;
            }

            TakePlace(space);
            if (!space.Stub.TryCarryOut())
            {
                // The host has no room for so many ranges, for example.
                Counters.Refusals++;
                space.Pages.Clear();
                Rest(space);
                return false;
            }

            return true;
        }
        finally
        {
            Counters.PrepareTicks += Stopwatch.GetTimestamp() - start;
        }
    }

    private void Run(DirectSpace space)
    {
        TracedProcess process = space.Stub.Process;
        GiveRegisters(space);
        GiveVectors(space);
        AttentionWord attention = _processor.AttentionWord;
        attention.Outside = process;
        if (Volatile.Read(ref _state->Attention) != 0)
        {
            attention.Outside = null;
            return;
        }

        Counters.Entries++;
        long start = Stopwatch.GetTimestamp();
        TraceStop stop = process.RunWithoutCalls();
        long ticks = Stopwatch.GetTimestamp() - start;
        attention.Outside = null;
        Counters.RunTicks += ticks;
        if (stop.Kind == TraceStopKind.Ended)
        {
            throw new HostException("direct execution: its process has ended; wait", 10);
        }

        process.GetRegisters(out TracedRegisters registers);
        TakeRegisters(registers, stop.Kind == TraceStopKind.SystemCall);
        TakeVectors(space);
        TakeSelectors(space, registers);
        Judge(space, ticks);
        Settle(space, stop, registers);
    }

    /// <summary>Lets an address space rest, translated, that has run too shortly between its exits.</summary>
    private void Judge(DirectSpace space, long ticks)
    {
        space.Ticks += ticks;
        if (space.Turns > MostTurns)
        {
            space.Turns = 0;
            Rest(space);
        }

        if (++space.Exits < JudgedExits)
        {
            return;
        }

        if (!IsAlways && Stopwatch.GetElapsedTime(0, space.Ticks).TotalNanoseconds < (double)LeastNanoseconds * space.Exits)
        {
            Rest(space);
        }
        else
        {
            space.Rests = 0;
        }

        space.Exits = 0;
        space.Ticks = 0;
    }

    private void Rest(DirectSpace space)
    {
        Counters.Rests++;
        space.RestsUntil = Environment.TickCount64 + (RestMilliseconds << Math.Min(space.Rests++, MaxRestShift));
    }

    /// <summary>Keeps this thread and the process on one processor, and lets them move now and then.</summary>
    private void TakePlace(DirectSpace space)
    {
        long now = Environment.TickCount64;
        if (_place >= 0 && now - _placedAt > StayMilliseconds)
        {
            LeavePlace();
            return;
        }

        if (_place < 0)
        {
            _place = ThreadPlace.Stay(_places);
            _placedAt = now;
        }

        if (_place >= 0 && space.Place != _place)
        {
            space.Stub.Process.RunOn(_place);
            space.Place = _place;
        }
    }

    private void LeavePlace()
    {
        ThreadPlace.Leave(_places);
        _place = -1;
    }
}
