namespace Tutti.Cpu.Translator;

/// <summary>What the tier counts for whoever looks for the next slow thing.</summary>
internal sealed class TranslatorCounters
{
    public long[] Exits { get; } = new long[8];

    public long Walks { get; set; }

    public long SlowAccesses { get; set; }

    public long Invalidations { get; set; }

    public long Flushes { get; set; }

    /// <summary>The rows for a table, with those of the code cache.</summary>
    public IEnumerable<EngineCounter> Read(TranslationCache cache, UserWindows windows) =>
    [
        new("translations", "blocks", cache.BlocksTranslated),
        new("translations", "instructions", cache.InstructionsTranslated),
        new("translations", "host code", cache.UsedBytes, "bytes"),
        new("translations", "invalidations", Invalidations),
        new("translations", "emptied code regions", Flushes),
        new("translations", "hot pieces of code", cache.Hot.PieceCount),
        new("translations", "pieces that are hot no more", cache.Hot.ColdCount),
        new("translations", "hot accesses that go from page to page", cache.Hot.SpreadCount),
        new("TLB of translated code", "walks for it", Walks),
        new("TLB of translated code", "accesses beside it", SlowAccesses),
        new("windows on user memory", "address spaces", windows.Count),
        new("windows on user memory", "pages shown", windows.MappedPages),
        new("windows on user memory", "faults", windows.Faults),
        new("windows on user memory", "comparisons", windows.Comparisons),
        .. Enum.GetValues<ExitKind>().Select(kind => new EngineCounter("exits of translated code", kind.ToString(), Exits[(int)kind])),
    ];
}
