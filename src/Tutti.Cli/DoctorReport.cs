using Tutti.Cpu.Interpreter;
using Tutti.Cpu.Kvm;
using Tutti.Cpu.Translator;
using Tutti.Host;
using Tutti.Machine;
using Tutti.X86;

namespace Tutti.Cli;

/// <summary>All that <c>tutti doctor</c> has found, as data.</summary>
internal sealed record DoctorReport
{
    internal required KvmFindings Kvm { get; init; }

    internal required IReadOnlyList<HostRequirement> Software { get; init; }

    /// <summary>Whether the software engine translates guest code here; else it only interprets.</summary>
    internal required bool IsTranslating { get; init; }

    /// <summary>What each CPU model lacks in the software engine, by the model's name.</summary>
    internal required IReadOnlyDictionary<string, IReadOnlyList<string>> SoftwareMissing { get; init; }

    internal required HostMemory Memory { get; init; }

    /// <summary>Processors that this process may use.</summary>
    internal required int Processors { get; init; }

    /// <summary>What <c>--engine auto</c> takes; null when that is none.</summary>
    internal EngineChoice? Auto { get; private init; }

    /// <summary>Why auto takes none; null when it takes one.</summary>
    internal string? AutoProblem { get; private init; }

    internal bool IsSoftwareUsable => Software.All(requirement => requirement.Problem == null);

    internal bool IsKvmUsable => Kvm.Verdict != KvmVerdict.Unusable;

    /// <summary>Whether some engine can run guests here.</summary>
    internal bool CanRun => IsSoftwareUsable || IsKvmUsable;

    /// <summary>Looks at this host; takes a few milliseconds.</summary>
    internal static DoctorReport Collect() => new DoctorReport
    {
        Kvm = KvmProbe.RunWithModels(),
        Software = SoftwareEngine.CheckHost(),
        IsTranslating = TranslatingEngine.IsSupported,
        SoftwareMissing = CpuModel.All.ToDictionary(model => model.Name, SoftwareEngine.FindMissing),
        Memory = HostMemory.Read(),
        Processors = Environment.ProcessorCount,
    }.Decide();

    /// <summary>The same, with what auto makes of it.</summary>
    internal DoctorReport Decide()
    {
        try
        {
            return this with { Auto = Engines.Choose(Engines.Auto, () => Kvm, () => Software), AutoProblem = null };
        }
        catch (UserException e)
        {
            return this with { Auto = null, AutoProblem = e.Message };
        }
    }

    /// <summary>What a CPU model lacks in an engine; null where that can't be known.</summary>
    internal IReadOnlyList<string>? FindMissing(string engine, CpuModel model) =>
        (engine == MachineEngines.Kvm.Name ? Kvm.MissingFeatures : SoftwareMissing).GetValueOrDefault(model.Name);
}
