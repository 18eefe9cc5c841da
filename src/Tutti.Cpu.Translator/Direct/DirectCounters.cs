using System.Diagnostics;

namespace Tutti.Cpu.Translator;

/// <summary>Why user code that ran directly has stopped.</summary>
internal enum DirectExit
{
    SystemCall,
    PageFault,
    Fetch,

    /// <summary>An instruction that the host's processor does not carry out in user mode, or for which it raises something.</summary>
    Instruction,
    Attention,
    Other,
}

/// <summary>What direct execution counts.</summary>
internal sealed class DirectCounters
{
    private const string Group = "direct execution";

    public long Entries { get; set; }

    public long[] Exits { get; } = new long[Enum.GetValues<DirectExit>().Length];

    /// <summary>Page faults that are the guest's.</summary>
    public long Raised { get; set; }

    /// <summary>Entries that were none, because the code at RIP is not to be executed directly.</summary>
    public long Translated { get; set; }

    /// <summary>Processes started.</summary>
    public long Processes { get; set; }

    public long Rests { get; set; }

    public long VectorLoads { get; set; }

    public long Refusals { get; set; }

    /// <summary>Of the host's clock: while the process had its turn, switches included, and in preparing for it.</summary>
    public long RunTicks { get; set; }

    public long PrepareTicks { get; set; }

    public IEnumerable<EngineCounter> Read(IReadOnlyCollection<DirectSpace> spaces, (long Lists, long Pages, long Scanned, long Refused, long Breakpoints) gone) =>
    [
        new(Group, "processes now", spaces.Count),
        new(Group, "entries", Entries),
        .. Enum.GetValues<DirectExit>().Select(kind => new EngineCounter(Group, "exits: " + kind, Exits[(int)kind])),
        new(Group, "page faults for the guest", Raised),
        new(Group, "times code was translated instead", Translated),
        new(Group, "rests", Rests),
        new(Group, "vector states loaded", VectorLoads),
        new(Group, "lists of requests", gone.Lists + spaces.Sum(s => s.Stub.Lists)),
        new(Group, "pages shown", gone.Pages + spaces.Sum(s => s.Pages.MappedPages)),
        new(Group, "pages of code looked at", gone.Scanned + spaces.Sum(s => s.Scan.Scanned)),
        new(Group, "of them not executed", gone.Refused + spaces.Sum(s => s.Refused)),
        new(Group, "breakpoints", gone.Breakpoints + spaces.Sum(s => s.Breakpoints)),
        new(Group, "processes", Processes),
        new(Group, "refusals of the host", Refusals),
        new(Group, "milliseconds in user code, with switches", Milliseconds(RunTicks)),
        new(Group, "milliseconds of preparation", Milliseconds(PrepareTicks)),
    ];

    private static long Milliseconds(long ticks) => (long)Stopwatch.GetElapsedTime(0, ticks).TotalMilliseconds;
}
