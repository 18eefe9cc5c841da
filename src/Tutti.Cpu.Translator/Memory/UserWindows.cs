using System.Runtime.InteropServices;
using Tutti.Cpu.Interpreter;
using Tutti.Host;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Cpu.Translator;

/// <summary>
/// The address spaces of one vCPU that are shown by the host's page tables: those in which user mode is found running often. Keeps the table by
/// which translated code finds a region.
/// </summary>
/// <remarks>SAFETY: the table's place and size are those of <see cref="StateLayout"/>, in the vCPU's own memory.</remarks>
internal sealed unsafe class UserWindows : IDisposable
{
    /// <summary>Address spaces at a time, of a machine with one vCPU. Of the host's addresses, all vCPUs together may take what some 24 regions have.</summary>
    private const int MaxWindows = 4;

    private const int WindowsOfAll = 8;

    /// <summary>
    /// How often in a row, a millisecond apart at least, an address space must be found running, with no more than so many flushes between two times: where
    /// processes come and go, each new one has the tables of one that has ended.
    /// </summary>
    private const int HotNotes = 12;

    private const int MaxFlushes = 2;

    /// <summary>Notes that an address space must wait whose window has cost more than it gave; twice as many each time, up to the highest.</summary>
    private const int NotesToRest = 250;

    private const int MaxNotesToRest = 4000;

    private const int MaxResting = 256;

    /// <summary>Faults and pages taken away, some 10 us each, of which so many within so many milliseconds, so often in a row, cost more than a window gives.</summary>
    private const int CountedChanges = 1024;

    private const int MinMilliseconds = 100;
    private const int MaxCostly = 3;

    /// <summary>
    /// Added to an address without a region, gives one that is not canonical, whatever the address: bits 47 and 48 differ, and nothing that is
    /// added carries so far.
    /// </summary>
    private const ulong Nowhere = (5UL << 47) | (1UL << 45);

    private readonly CpuState* _state;
    private readonly GuestMemory _memory;
    private readonly ulong* _table;
    private readonly int _maxWindows;
    private readonly List<UserWindow> _windows = [];
    private readonly Dictionary<ulong, (int Left, int All)> _resting = [];
    private UserWindow? _current;
    private long _countedFrom;
    private long _countedAt;
    private int _costly;
    private bool _isReady;
    private bool _isOff;

    /// <param name="hot">The state that the host's RSP points to.</param>
    /// <param name="isAllowed">The memory is a file's, and faults are handled.</param>
    /// <param name="isAlways">Every address space has a window: for tests.</param>
    /// <param name="processors">The machine's vCPUs.</param>
    public UserWindows(HotState* hot, CpuState* state, GuestMemory memory, bool isAllowed, bool isAlways, int processors)
    {
        _state = state;
        _memory = memory;
        IsAlways = isAlways;
        _maxWindows = Math.Clamp(WindowsOfAll / processors, 1, MaxWindows);
        _table = (ulong*)((byte*)hot + StateLayout.Regions);
        _isOff = !isAllowed;
    }

    /// <summary>Every address space has a window: for tests.</summary>
    public bool IsAlways { get; set; }

    public long Faults { get; private set; }

    public int Count => _windows.Count;

    public long MappedPages => _windows.Sum(w => w.Pages.MappedPages);

    public long Comparisons => _windows.Sum(w => w.Pages.Comparisons);

    /// <summary>
    /// Whether user mode's accesses go by the window of the current address space now. Afterwards the table is that window's, and what it shows is
    /// what the guest's tables say.
    /// </summary>
    public bool TryEnter()
    {
        if (_isOff || (_windows.Count == 0 && !IsAlways))
        {
            return false;
        }

        ulong root = _state->Cr3 & PageTableEntry.AddressMask;
        if (_current is { Pages.IsStale: false } current && current.Root == root && IsPlain(_state))
        {
            return true;
        }

        return TryChange(root);
    }

    /// <summary>Takes note that user mode was found running; true when the address space has a window from now on, and had none.</summary>
    public bool Note(AddressSpace space)
    {
        ulong root = space.Root;
        if (_isOff || !IsPlain(_state) || _windows.Exists(w => w.Root == root))
        {
            return false;
        }

        space.Notes = space.Flushes - space.FlushesAtNote <= MaxFlushes ? space.Notes + 1 : 1;
        space.FlushesAtNote = space.Flushes;
        if (_resting.TryGetValue(root, out (int Left, int All) rest) && rest.Left > 0)
        {
            _resting[root] = (rest.Left - 1, rest.All);
            return false;
        }

        return space.Notes >= HotNotes && TryAdd(root);
    }

    /// <summary>The guest has dropped translations: what is shown is compared with its tables before it is used again.</summary>
    /// <param name="root">Of an address space; not given for all of them.</param>
    public void MarkStale(ulong? root = null)
    {
        foreach (UserWindow window in _windows)
        {
            window.Pages.IsStale |= root == null || window.Root == root;
        }
    }

    public void Invalidate(ulong linear)
    {
        foreach (UserWindow window in _windows)
        {
            if (!window.Pages.IsStale)
            {
                window.Pages.Invalidate(linear);
            }
        }
    }

    public void DropWrites(ulong host)
    {
        foreach (UserWindow window in _windows)
        {
            window.Pages.DropWrites(host);
        }
    }

    /// <summary>The linear address of a fault; false where it is none of the current window's.</summary>
    public bool TryFindLinear(ulong host, out ulong linear)
    {
        linear = 0;
        return _current != null && _current.TryFindLinear(host, out linear);
    }

    /// <summary>See the current window.</summary>
    public bool TryShow(ulong linear, bool write)
    {
        Faults++;
        return _current != null && _current.Pages.TryShow(linear, write ? PageRights.Write : PageRights.Read);
    }

    /// <summary>
    /// Lets the current window go where the host has no room for all of it, or it changes so often that it costs more than it gives: that of a process which forks all the time has all its pages
    /// taken away each time. True when it has gone: then its code is looked up anew.
    /// </summary>
    public bool TryRetire()
    {
        if (_current is { IsCramped: true } cramped)
        {
            Retire(cramped);
            return true;
        }

        if (IsAlways || _current == null || Faults + _current.Pages.Clears - _countedFrom is >= 0 and < CountedChanges)
        {
            return false;
        }

        long now = Environment.TickCount64;
        _costly = now - _countedAt < MinMilliseconds ? _costly + 1 : 0;
        _countedFrom = Faults + _current.Pages.Clears;
        _countedAt = now;
        if (_costly < MaxCostly)
        {
            return false;
        }

        _costly = 0;
        Retire(_current);
        return true;
    }

    private void Retire(UserWindow window)
    {
        SetTable(null);
        _windows.Remove(window);
        if (_resting.Count >= MaxResting && !_resting.ContainsKey(window.Root))
        {
            _resting.Clear();
        }

        int rest = _resting.TryGetValue(window.Root, out (int Left, int All) before) ? Math.Min(2 * before.All, MaxNotesToRest) : NotesToRest;
        _resting[window.Root] = (rest, rest);
        window.Dispose();
    }

    /// <summary>Opens what the address space has got since; true when there is something new.</summary>
    public bool TryOpenRegions()
    {
        Faults++;
        if (_current == null || !TryOpenRegions(_current))
        {
            return false;
        }

        SetTable(_current);
        return true;
    }

    /// <summary>What is added to an address of the current window for the host's.</summary>
    public ulong DistanceOf(ulong linear) => _table[linear >> StateLayout.RegionShift];

    /// <summary>Opens regions, at the price of other windows where the host has no room: some are of processes that have ended.</summary>
    private bool TryOpenRegions(UserWindow window)
    {
        while (true)
        {
            try
            {
                return window.OpenRegions();
            }
            catch (HostException)
            {
                UserWindow? other = _windows.Find(w => w != window);
                if (other == null)
                {
                    window.IsCramped = true;
                    return false;
                }

                _windows.Remove(other);
                other.Dispose();
            }
        }
    }

    /// <summary>Lets all windows go.</summary>
    public void Clear()
    {
        SetTable(null);
        foreach (UserWindow window in _windows)
        {
            window.Dispose();
        }

        _windows.Clear();
        _resting.Clear();
    }

    public void Dispose()
    {
        _isOff = true;
        foreach (UserWindow window in _windows)
        {
            window.Dispose();
        }

        _windows.Clear();
        _current = null;
    }

    /// <summary>Nothing needs more than the tables' own rights.</summary>
    internal static bool IsPlain(CpuState* state) => ((state->Cr4 & Cr4.ProtectionKeyEnable) == 0 || (state->Pkru & 3) == 0)
        && (state->Dr[7] & Dr7.EnableMask) == 0 && (state->Efer & Efer.LongModeActive) != 0;

    private bool TryChange(ulong root)
    {
        if (!IsPlain(_state))
        {
            return false;
        }

        UserWindow? window = _windows.Find(w => w.Root == root);
        if (window == null)
        {
            if (!IsAlways || !TryAdd(root))
            {
                return false;
            }

            window = _windows[^1];
        }

        if (window.Pages.IsStale)
        {
            window.Pages.Refresh();
            TryOpenRegions(window);
            SetTable(window);
        }
        else if (window != _current)
        {
            SetTable(window);
        }

        return true;
    }

    private bool TryAdd(ulong root)
    {
        try
        {
            Prepare();
            if (_windows.Count == _maxWindows)
            {
                UserWindow oldest = _windows[0];
                _windows.RemoveAt(0);
                if (oldest == _current)
                {
                    SetTable(null);
                }

                oldest.Dispose();
            }

            UserWindow window = new(_memory, root, (_state->Cr4 & Cr4.LinearAddress57) != 0 ? 5 : 4);
            window.Pages.IsStale = true;
            _windows.Add(window);
            return true;
        }
        catch (HostException)
        {
            // The host has no room for it. Tables do as well.
            _isOff = true;
            return false;
        }
    }

    private void Prepare()
    {
        if (_isReady)
        {
            return;
        }

        // One page holds for all: it depends on the lowest bits of the region's number only.
        Span<ulong> page = stackalloc ulong[512];
        for (int region = 0; region < page.Length; region++)
        {
            page[region] = NoDistance(region);
        }

        RepeatedPage.Fill((nint)_table, StateLayout.RegionTableSize, MemoryMarshal.AsBytes(page));
        _isReady = true;
    }

    private static ulong NoDistance(int region) => Nowhere - ((ulong)region << StateLayout.RegionShift);

    private void SetTable(UserWindow? window)
    {
        _current = window;
        for (int region = 0; _isReady && region < UserWindow.RegionCount; region++)
        {
            _table[region] = window?.DistanceOf(region) ?? NoDistance(region);
        }
    }
}
