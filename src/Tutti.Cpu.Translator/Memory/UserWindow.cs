using Tutti.Host;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Cpu.Translator;

/// <summary>
/// One address space's user pages, shown by the host's page tables in the regions of a window: a linear address of a region becomes a host address by
/// one addition.
/// </summary>
/// <remarks>SAFETY: tables are read where <see cref="GuestMemory.GetPointer"/> says that they lie, to the end of their page at most.</remarks>
internal sealed unsafe class UserWindow : IShownPlace, IDisposable
{
    private const int RegionShift = StateLayout.RegionShift;

    /// <summary>Regions of the lower half.</summary>
    public const int RegionCount = 1 << (47 - RegionShift);

    private const ulong TopEntriesOfRegion = 1UL << (RegionShift - 39);

    private readonly GuestMemory _memory;
    private readonly AddressWindow?[] _regions = new AddressWindow?[RegionCount];
    private readonly int _levels;

    /// <param name="root">CR3's address.</param>
    /// <param name="levels">Of page tables: 4 or 5.</param>
    public UserWindow(GuestMemory memory, ulong root, int levels)
    {
        _memory = memory;
        _levels = levels;
        Root = root;
        Pages = new ShownPages(memory, root, levels, this);
    }

    /// <summary>What is shown.</summary>
    public ShownPages Pages { get; }

    /// <summary>Guest physical address of the top-level table.</summary>
    public ulong Root { get; }

    /// <summary>The host has no room for a region that the guest uses.</summary>
    public bool IsCramped { get; set; }

    bool IShownPlace.ShowsCode => false;

    bool IShownPlace.IsOfThisProcess => true;

    int IShownPlace.BatchPages => 16;

    /// <summary>Distance from a linear address of a region to the host's; null where the region is not shown.</summary>
    public ulong? DistanceOf(int region) =>
        _regions[region] is { } window ? (ulong)window.Address - ((ulong)region << RegionShift) : null;

    /// <summary>Opens the regions in which the guest's top-level table has something; true when there is a new one.</summary>
    public bool OpenRegions()
    {
        bool opened = false;
        for (int region = 0; region < RegionCount; region++)
        {
            if (_regions[region] == null && IsUsed(region))
            {
                _regions[region] = new AddressWindow(1L << RegionShift);
                opened = true;
            }
        }

        return opened;
    }

    /// <summary>The linear address that a host address shows; false where none.</summary>
    public bool TryFindLinear(ulong host, out ulong linear)
    {
        for (int region = 0; region < RegionCount; region++)
        {
            if (_regions[region] is { } window && host - (ulong)window.Address < (1UL << RegionShift))
            {
                linear = host - (ulong)window.Address + ((ulong)region << RegionShift);
                return true;
            }
        }

        linear = 0;
        return false;
    }

    bool IShownPlace.Covers(ulong linear, long length) => linear >> RegionShift < RegionCount && _regions[(int)(linear >> RegionShift)] != null;

    bool IShownPlace.MayExecute(ulong linear, byte* page, bool isWanted) => false;

    bool IShownPlace.TryMap(ulong linear, long length, long fileOffset, PageRights rights) =>
        WindowOf(linear).TryMap(OffsetOf(linear), length, _memory.HostFile, fileOffset, (rights & PageRights.Write) != 0);

    bool IShownPlace.TryProtect(ulong linear, long length) => WindowOf(linear).TryProtect(OffsetOf(linear), length);

    bool IShownPlace.TryClear(ulong linear, long length) => WindowOf(linear).TryClear(OffsetOf(linear), length);

    bool IShownPlace.TryClearAll()
    {
        foreach (AddressWindow? window in _regions)
        {
            if (window != null && !window.TryClear(0, window.Length))
            {
                return false;
            }
        }

        return true;
    }

    public void Dispose()
    {
        foreach (AddressWindow? window in _regions)
        {
            window?.Dispose();
        }

        Array.Clear(_regions);
        Pages.Forget();
    }

    private bool IsUsed(int region)
    {
        // What the window covers lies in the first entry of a fifth level.
        ulong* top = (ulong*)_memory.GetPointer(Root);
        if (_levels == 5 && top != null)
        {
            ulong first = Volatile.Read(ref *top);
            top = (first & PageTableEntry.Present) == 0 ? null : (ulong*)_memory.GetPointer(first & PageTableEntry.AddressMask);
        }

        for (ulong entry = 0; top != null && entry < TopEntriesOfRegion; entry++)
        {
            if ((Volatile.Read(ref top[((ulong)region * TopEntriesOfRegion) + entry]) & (PageTableEntry.Present | PageTableEntry.User)) == (PageTableEntry.Present | PageTableEntry.User))
            {
                return true;
            }
        }

        return false;
    }

    private AddressWindow WindowOf(ulong linear) => _regions[(int)(linear >> RegionShift)]!;

    private static long OffsetOf(ulong linear) => (long)(linear & ((1UL << RegionShift) - 1));
}
