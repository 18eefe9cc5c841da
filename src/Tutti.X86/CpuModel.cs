namespace Tutti.X86;

/// <summary>
/// A named processor model: what CPUID shows to a guest. A named level shows the same on every host of one vendor that can
/// run it, whatever else that host has; docs/cpu-models.md tells what and why.
/// </summary>
public sealed class CpuModel
{
    // Made when somebody asks: most commands only need the names.
    private readonly Lazy<CpuidLevel>? _level;
    private readonly CpuModelChange? _change;

    private CpuModel(string name, string description, Func<CpuidLevel>? level)
    {
        Name = name;
        Description = description;
        _level = level == null ? null : new Lazy<CpuidLevel>(level);
    }

    private CpuModel(string name, CpuModel basis, CpuModelChange change)
    {
        (Name, Description, _level, _change) = (name, basis.Description, basis._level, change);
    }

    /// <summary>Everything that the engine can show on this host.</summary>
    public static CpuModel Host { get; } = new("host", "all that the engine offers on this host", null);

    /// <summary>Level 2 of the x86-64 psABI: SSE4.2, POPCNT, CMPXCHG16B.</summary>
    public static CpuModel X8664V2 { get; } = new("x86-64-v2", "SSE4.2, POPCNT; the same on every host", () => CpuidLevel.V2);

    /// <summary>Level 3 of the x86-64 psABI: AVX2, BMI2, FMA, and what Haswell and Zen both have.</summary>
    public static CpuModel X8664V3 { get; } = new("x86-64-v3", "AVX2, BMI2, FMA, AES; the same on every host", () => CpuidLevel.V3);

    public static IReadOnlyList<CpuModel> All { get; } = [Host, X8664V2, X8664V3];

    public string Name { get; }

    /// <summary>What it shows, for a list: a few words.</summary>
    public string Description { get; }

    /// <summary>Physical address bits that the model shows, which guest memory must fit in; null for those of the host.</summary>
    public int? PhysicalAddressBits => _level == null ? null : CpuidLevel.PhysicalBits;

    /// <summary>The model of this name, or null.</summary>
    public static CpuModel? Find(string name) => All.FirstOrDefault(model => model.Name == name);

    /// <summary>A model by its name, with single features more or less: "x86-64-v3,+sha_ni,-avx2". What they need comes with them, what needs them goes.</summary>
    /// <exception cref="FormatException">There is no such model or feature, or one contradicts the other; the message is one line.</exception>
    public static CpuModel Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        string[] words = text.Split(',');
        CpuModel basis = Find(words[0]) ?? throw new FormatException($"there is no CPU model '{words[0]}'; models: {string.Join(", ", All)}");
        return words.Length == 1 ? basis : new CpuModel(text, basis, new CpuModelChange(words[1..]));
    }

    public override string ToString() => Name;

    /// <summary>What the model needs and the host lacks, by name; empty when it can run.</summary>
    /// <param name="supported">What the engine can show on this host: KVM_GET_SUPPORTED_CPUID.</param>
    /// <param name="hasTscDeadline">See <see cref="CpuidProcessor.HasTscDeadline"/>.</param>
    public IReadOnlyList<string> FindMissing(IReadOnlyList<CpuidEntry> supported, bool hasTscDeadline)
    {
        CpuidEntry[] table = [.. supported];
        IEnumerable<string> ofLevel = _level == null ? [] : _level.Value.FindMissing(table, hasTscDeadline);
        return _change == null
            ? [.. ofLevel]
            : [.. ofLevel.Where(feature => !_change.Removes(feature)).Union(_change.FindMissing(table, hasTscDeadline))];
    }

    /// <summary>One line that refuses to run the model: "this host lacks AVX2, BMI2: x86-64-v3 needs them".</summary>
    /// <param name="who">Who lacks them: "this host".</param>
    public string Refusal(string who, IReadOnlyList<string> missing)
    {
        ArgumentNullException.ThrowIfNull(missing);
        return $"{who} lacks {string.Join(", ", missing)}: the CPU model {Name} needs {(missing.Count == 1 ? "it" : "them")}";
    }

    /// <summary>
    /// The table of one vCPU's CPUID answers, for KVM_SET_CPUID2. Bits that follow the vCPU's state (OSXSAVE, OSPKE, APIC, the
    /// sizes of the enabled XSAVE area) have their values after reset; KVM keeps them true from there.
    /// </summary>
    /// <param name="supported">What the engine can show on this host: KVM_GET_SUPPORTED_CPUID.</param>
    /// <exception cref="PlatformNotSupportedException">The host lacks something that the model needs; the message names it, in one line.</exception>
    /// <exception cref="ArgumentOutOfRangeException">No machine has that many processors, or that APIC ID.</exception>
    public CpuidEntry[] Build(IReadOnlyList<CpuidEntry> supported, in CpuidProcessor processor)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(processor.ProcessorCount, 1, nameof(processor));
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(processor.ApicId, 1u << processor.CoreIdBits, nameof(processor));
        CpuidEntry[] table = [.. supported];
        IReadOnlyList<string> missing = FindMissing(table, processor.HasTscDeadline);
        if (missing.Count > 0)
        {
            throw new PlatformNotSupportedException(Refusal("this host", missing));
        }

        CpuidEntry[] basis = _level == null ? HostCpuid.Build(table, processor) : _level.Value.Build(CpuidVendor.Of(table), processor);
        return _change == null ? basis : _change.Apply(basis, table);
    }
}
