namespace Tutti.X86;

/// <summary>
/// A named processor model: what CPUID shows to a guest. A named level shows the same on every host of one vendor that can
/// run it, whatever else that host has; docs/cpu-models.md tells what and why.
/// </summary>
public sealed class CpuModel
{
    // Made when somebody asks: most commands only need the names.
    private readonly Lazy<CpuidLevel>? _level;

    private CpuModel(string name, string description, Func<CpuidLevel>? level)
    {
        Name = name;
        Description = description;
        _level = level == null ? null : new Lazy<CpuidLevel>(level);
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

    public override string ToString() => Name;

    /// <summary>What the model needs and the host lacks, by name; empty when it can run.</summary>
    /// <param name="supported">What the engine can show on this host: KVM_GET_SUPPORTED_CPUID.</param>
    /// <param name="hasTscDeadline">See <see cref="CpuidProcessor.HasTscDeadline"/>.</param>
    public IReadOnlyList<string> FindMissing(IReadOnlyList<CpuidEntry> supported, bool hasTscDeadline) =>
        _level == null ? [] : [.. _level.Value.FindMissing([.. supported], hasTscDeadline)];

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
        if (_level == null)
        {
            return HostCpuid.Build(table, processor);
        }

        IReadOnlyList<string> missing = FindMissing(table, processor.HasTscDeadline);
        return missing.Count == 0
            ? _level.Value.Build(CpuidVendor.Of(table), processor)
            : throw new PlatformNotSupportedException(Refusal("this host", missing));
    }
}
