namespace Tutti.X86;

/// <summary>
/// The features that users can add to a model and take from it, by the names that Linux (/proc/cpuinfo) and QEMU have for them: small letters, and
/// dots, dashes and underscores make no difference.
/// </summary>
public static class CpuFlags
{
    /// <summary>Names that are not the manuals'; the first of a feature is what we call it ourselves.</summary>
    private static readonly (string Feature, string Flags)[] Aliases =
    [
        ("SSE3", "sse3 pni"),
        ("CMPXCHG8B", "cx8 cmpxchg8b"),
        ("CMPXCHG16B", "cx16 cmpxchg16b"),
        ("TSC-DEADLINE", "tsc-deadline tsc_deadline_timer"),
        ("LAHF64", "lahf_lm"),
        ("LZCNT", "abm lzcnt"),
        ("PAGE1GB", "pdpe1gb"),
        ("SHA", "sha_ni"),
        ("FFXSR", "fxsr_opt ffxsr"),
        ("XGETBV_ECX1", "xgetbv1"),
        ("INVARIANT_TSC", "invtsc nonstop_tsc"),
        ("IBRS_IBPB", "spec-ctrl ibrs_ibpb"),
        ("L1D_FLUSH", "flush_l1d"),
        ("ALTMOVCR8", "cr8_legacy"),
        ("KVM_CLOCKSOURCE2", "kvmclock kvm_clocksource2"),
        ("CET_SS", "shstk user_shstk"),
        ("CET_IBT", "ibt"),
        ("RSTRFPERRPTRS", "xsaveerptr"),
        ("AMD_STIBP", "amd-stibp"),
        ("LFENCE_SERIALIZING", "lfence-always-serializing lfence_rdtsc"),
        ("NULL_CLEARS_BASE", "null-sel-clr-base"),
        ("AUTOMATIC_IBRS", "auto-ibrs"),
    ];

    /// <summary>What follows from a vCPU's state or the machine's shape, and state components, which follow from features.</summary>
    private static readonly HashSet<string> NotFlags = [.. "OSXSAVE OSPKE HTT CMPLEGACY TOPOEXT".Split(' ')];

    private static readonly Dictionary<string, CpuFeature> ByFlag = MakeTable();

    /// <summary>The name of a feature as users write it.</summary>
    public static string NameOf(string feature)
    {
        ArgumentNullException.ThrowIfNull(feature);
        return Array.Find(Aliases, alias => alias.Feature == feature) is { Flags: { } flags } ? flags.Split(' ')[0] : feature.ToLowerInvariant();
    }

    /// <summary>The feature of this name, or null.</summary>
    public static CpuFeature? Find(string flag)
    {
        ArgumentNullException.ThrowIfNull(flag);
        return ByFlag.TryGetValue(Bare(flag), out CpuFeature feature) ? feature : null;
    }

    private static Dictionary<string, CpuFeature> MakeTable()
    {
        Dictionary<string, CpuFeature> table = new(StringComparer.Ordinal);
        foreach (CpuFeature feature in CpuFeatures.All.Where(feature => !NotFlags.Contains(feature.Name) && !feature.Name.StartsWith("XCR0.", StringComparison.Ordinal)))
        {
            string names = Array.Find(Aliases, alias => alias.Feature == feature.Name).Flags ?? feature.Name.ToLowerInvariant();
            foreach (string name in names.Split(' '))
            {
                table.Add(Bare(name), feature);
            }
        }

        return table;
    }

    private static string Bare(string flag) => flag.Replace(".", "", StringComparison.Ordinal).Replace("-", "", StringComparison.Ordinal).Replace("_", "", StringComparison.Ordinal);
}
