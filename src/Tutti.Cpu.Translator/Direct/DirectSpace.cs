using System.Runtime.InteropServices;
using Tutti.Host;
using Tutti.Memory;

namespace Tutti.Cpu.Translator;

/// <summary>One address space whose user code runs in a process of its own, and what that process is shown.</summary>
/// <remarks>SAFETY: the only pointers are to whole pages of guest RAM, and are handed on.</remarks>
internal sealed unsafe class DirectSpace : IShownPlace, IDisposable
{
    private readonly StubProcess _stub;

    /// <summary>Instructions before which the process stops; 0 for none.</summary>
    private readonly ulong[] _breakpoints = new ulong[TracedProcess.BreakpointCount];

    private int _nextBreakpoint;

    /// <summary>Where in an XSAVE area the kernel says which components the host has, for debuggers.</summary>
    private const int HostComponents = 464;

    /// <summary>Bytes of an XSAVE area with AVX.</summary>
    private const int LeastVectors = 832;

    /// <param name="root">CR3's address.</param>
    /// <param name="levels">Of page tables.</param>
    /// <param name="xcr0">The guest's.</param>
    /// <exception cref="HostException">The host refuses.</exception>
    public DirectSpace(GuestMemory memory, ulong root, int levels, ulong xcr0)
    {
        _stub = new StubProcess(memory.HostFile);
        int length = _stub.Process.GetVectors(Vectors);
        if (length < LeastVectors)
        {
            _stub.Dispose();
            throw new HostException("direct execution: ptrace", 22);
        }

        VectorsLength = length;
        Scan = new CodeScan(MemoryMarshal.Read<ulong>(Vectors.AsSpan(HostComponents)) == xcr0);
        Pages = new ShownPages(memory, root, levels, this) { IsStale = true };
        Root = root;
    }

    public ulong Root { get; }

    public StubProcess Stub => _stub;

    public CodeScan Scan { get; }

    /// <summary>Breakpoints set.</summary>
    public long Breakpoints { get; private set; }

    /// <summary>Pages of code that were asked for and not shown to be executed.</summary>
    public long Refused { get; private set; }

    /// <summary>The host's processor that the process is kept on; -1 for any.</summary>
    public int Place { get; set; } = -1;

    public ShownPages Pages { get; }

    /// <summary>Pages whose code is not to be executed directly, since the pages were compared with the guest's tables last.</summary>
    public HashSet<ulong> TranslatedPages { get; } = [];

    /// <summary>A page that the guest's kernel has been asked for, which is shown before user mode goes on; 0 for none.</summary>
    public ulong Awaited { get; set; }

    public PageRights AwaitedRight { get; set; }

    /// <summary>The vector state that the process has: an XSAVE area in the standard form.</summary>
    public byte[] Vectors { get; } = new byte[8192];

    public int VectorsLength { get; }

    /// <summary>Exits since they were looked at last, and ticks of the host's clock in user code between them.</summary>
    public int Exits { get; set; }

    public long Ticks { get; set; }

    /// <summary>Until when the address space's user code is translated, in milliseconds; 0 for not at all.</summary>
    public long RestsUntil { get; set; }

    /// <summary>How often code has come to a page that is not executed, or to one for which another had to go, since the address space has rested last.</summary>
    public int Turns { get; set; }

    /// <summary>How often it has been said so in a row.</summary>
    public int Rests { get; set; }

    bool IShownPlace.ShowsCode => true;

    bool IShownPlace.IsOfThisProcess => false;

    int IShownPlace.BatchPages => 64;

    bool IShownPlace.Covers(ulong linear, long length) => _stub.Covers(linear, length);

    bool IShownPlace.MayExecute(ulong linear, byte* page, bool isWanted)
    {
        Span<int> places = stackalloc int[TracedProcess.BreakpointCount];
        int count = Scan.Find(page, places);
        if (count < 0 || (count > 0 && !isWanted))
        {
            Refused += isWanted ? 1 : 0;
            return false;
        }

        // The process stops before each of them.
        for (int i = 0; i < count; i++)
        {
            Stop(linear + (ulong)places[i]);
        }

        return true;
    }

    bool IShownPlace.TryMap(ulong linear, long length, long fileOffset, PageRights rights) => _stub.TryMap(linear, length, fileOffset, rights);

    bool IShownPlace.TryProtect(ulong linear, long length) => _stub.TryProtect(linear, length);

    bool IShownPlace.TryClear(ulong linear, long length) => _stub.TryUnmap(linear, length);

    bool IShownPlace.TryClearAll()
    {
        _stub.UnmapAll();
        return true;
    }

    /// <summary>Whether the process stops before an instruction.</summary>
    public bool StopsAt(ulong linear) => _breakpoints.Contains(linear);

    private void Stop(ulong linear)
    {
        if (StopsAt(linear))
        {
            return;
        }

        // The one that has been there longest goes, and the code around it with it.
        ulong before = _breakpoints[_nextBreakpoint];
        if (before != 0 && before >> 12 != linear >> 12)
        {
            Pages.Hide(before);
            Turns++;
        }

        Breakpoints++;
        _breakpoints[_nextBreakpoint] = linear;
        _stub.Process.SetBreakpoint(_nextBreakpoint, linear);
        _nextBreakpoint = (_nextBreakpoint + 1) % TracedProcess.BreakpointCount;
    }

    public void Dispose() => _stub.Dispose();
}
