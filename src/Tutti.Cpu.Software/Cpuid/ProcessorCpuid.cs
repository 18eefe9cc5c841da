using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>What CPUID answers on one vCPU: all that the interpreter can do on this host, or a model's table.</summary>
public sealed class ProcessorCpuid
{
    private const uint Xsave = 1u << 26;
    private const uint OsXsave = 1u << 27;

    private readonly uint _apicId;
    private readonly int _processorCount;

    /// <summary>The answers of a named model; null for those of <see cref="CpuModel.Host"/>.</summary>
    private readonly CpuidEntry[]? _table;

    /// <exception cref="PlatformNotSupportedException">The interpreter lacks what the model needs.</exception>
    internal ProcessorCpuid(CpuModel model, int index, int processorCount)
    {
        _apicId = (uint)index;
        _processorCount = processorCount;
        if (model == CpuModel.Host)
        {
            return;
        }

        RequireModel(model);
        _table = model.Build(Supported, new CpuidProcessor
        {
            ApicId = _apicId,
            ProcessorCount = processorCount,
            TscKilohertz = SoftwareCpuid.FrequencyKilohertz,
        });
    }

    /// <summary>The rows of what the interpreter can do on this host.</summary>
    private static CpuidEntry[] Supported => [.. SoftwareCpuid.Supported.Select(row => row.With(OnThisHost(row.Leaf, row.Subleaf, row.Result)))];

    /// <summary>Refuses a model that needs more than the interpreter has.</summary>
    /// <exception cref="PlatformNotSupportedException">It does; the message names what is missing, in one line.</exception>
    public static void RequireModel(CpuModel model)
    {
        // It lacks nothing by its nature, and the table of what the interpreter has would be made for nothing.
        IReadOnlyList<string> missing = model == CpuModel.Host ? [] : FindMissing(model);
        if (missing.Count > 0)
        {
            throw new PlatformNotSupportedException(model.Refusal("the software engine", missing) + "; choose another with --cpu");
        }
    }

    /// <summary>What a CPU model needs and the interpreter, on this host, lacks; empty when it can run.</summary>
    public static IReadOnlyList<string> FindMissing(CpuModel model) => model.FindMissing(Supported, hasTscDeadline: false);

    /// <summary>Whether the guest is shown a feature.</summary>
    internal bool Shows(CpuFeature feature) => (Query(feature.Leaf, feature.Subleaf, 0, XsaveLayout.X87)[feature.Register] & feature.Mask) != 0;

    /// <summary>The answer of a processor in this state.</summary>
    /// <param name="hasApic">IA32_APIC_BASE.EN.</param>
    internal CpuidResult Query(uint leaf, uint subleaf, ulong cr4, ulong xcr0, bool hasApic = true)
    {
        if (_table == null)
        {
            var context = new CpuidContext(_apicId, _processorCount, cr4, xcr0, hasApic);
            return OnThisHost(leaf, subleaf, SoftwareCpuid.Query(leaf, subleaf, context));
        }

        return InState(leaf, subleaf, CpuidTable.Query(_table, leaf, subleaf), cr4, xcr0, hasApic);
    }

    /// <summary>The bits of a table's answer that follow the processor's state.</summary>
    private static CpuidResult InState(uint leaf, uint subleaf, CpuidResult result, ulong cr4, ulong xcr0, bool hasApic)
    {
        uint hidden = hasApic ? 0 : SoftwareCpuid.Apic;
        return leaf switch
        {
            CpuidLeaf.Features => result with
            {
                Ecx = result.Ecx | ((result.Ecx & Xsave) != 0 && (cr4 & Cr4.OsXsave) != 0 ? OsXsave : 0),
                Edx = result.Edx & ~hidden,
            },
            CpuidLeaf.ExtendedSignature => result with { Edx = result.Edx & ~hidden },
            CpuidLeaf.ExtendedFeatures when subleaf == 0 => SoftwareCpuid.WithOsPke(result, cr4),
            CpuidLeaf.Xsave when subleaf == 0 && result.Eax != 0 => result with { Ebx = XsaveLayout.SizeOf(xcr0) },
            _ => result,
        };
    }

    /// <summary>Takes out the extensions that run on the host's own units where the host lacks them.</summary>
    private static CpuidResult OnThisHost(uint leaf, uint subleaf, CpuidResult result) => leaf switch
    {
        CpuidLeaf.Features => result with
        {
            Ecx = result.Ecx & ~((HostFeatures.Pclmulqdq ? 0 : 1u << 1) | (HostFeatures.Fma ? 0 : 1u << 12)
                | (HostFeatures.AesNi ? 0 : 1u << 25) | (HostFeatures.Avx ? 0 : 1u << 28) | (HostFeatures.F16c ? 0 : 1u << 29)),
        },
        CpuidLeaf.ExtendedFeatures => result with
        {
            Ebx = result.Ebx & ~((HostFeatures.Bmi1 ? 0 : 1u << 3) | (HostFeatures.Avx2 ? 0 : 1u << 5) | (HostFeatures.Bmi2 ? 0 : 1u << 8)
                | (HostFeatures.Adx ? 0 : 1u << 19) | (HostFeatures.Sha ? 0 : 1u << 29)),
            Ecx = result.Ecx & ~((HostFeatures.Gfni ? 0 : 1u << 8) | (HostFeatures.Vaes ? 0 : 1u << 9) | (HostFeatures.Vpclmulqdq ? 0 : 1u << 10)),
        },
        CpuidLeaf.Xsave when !HostFeatures.Avx => subleaf switch
        {
            0 => result with { Eax = result.Eax & ~(uint)XsaveLayout.Avx },
            2 => default,
            _ => result,
        },
        CpuidLeaf.ExtendedSignature => result with { Ecx = result.Ecx & ~(HostFeatures.Lzcnt ? 0 : 1u << 5) },
        _ => result,
    };
}
