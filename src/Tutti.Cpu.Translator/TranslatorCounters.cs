namespace Tutti.Cpu.Translator;

/// <summary>What the tier counts for whoever looks for the next slow thing.</summary>
internal sealed class TranslatorCounters
{
    private const int MostInterpreted = 24;

    public long[] Exits { get; } = new long[8];

    /// <summary>Interpreted instructions by Iced's code; 0 for an access that translated code could not make.</summary>
    public long[] Interpreted { get; } = new long[1 << 13];

    public long Walks { get; set; }

    public long SlowAccesses { get; set; }

    public long Invalidations { get; set; }

    public long Flushes { get; set; }

    /// <summary>The rows for a table, with those of the code cache.</summary>
    public IEnumerable<EngineCounter> Read(TranslationCache cache) =>
    [
        new("translations", "blocks", cache.BlocksTranslated),
        new("translations", "instructions", cache.InstructionsTranslated),
        new("translations", "host code", cache.UsedBytes, "bytes"),
        new("translations", "invalidations", Invalidations),
        new("translations", "emptied code regions", Flushes),
        new("TLB of translated code", "walks for it", Walks),
        new("TLB of translated code", "accesses beside it", SlowAccesses),
        .. Interpreted.Index().Where(row => row.Item > 0).OrderByDescending(row => row.Item).Take(MostInterpreted).Select(row =>
            new EngineCounter("left by translated code to the interpreter", row.Index == 0 ? "memory" : ((Iced.Intel.Code)row.Index).ToString(), row.Item)),
        .. Enum.GetValues<ExitKind>().Select(kind => new EngineCounter("exits of translated code", kind.ToString(), Exits[(int)kind])),
    ];
}
