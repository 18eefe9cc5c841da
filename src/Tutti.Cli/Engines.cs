using System.Globalization;
using Tutti.Cpu;
using Tutti.Cpu.Interpreter;
using Tutti.Cpu.Kvm;
using Tutti.Machine;

namespace Tutti.Cli;

/// <summary>The engine that runs a guest, and why it is that one.</summary>
/// <param name="Engine">The engine.</param>
/// <param name="MaxProcessors">The most vCPUs that it takes on this host.</param>
/// <param name="Reason">Why this one, as the end of a sentence: "because ...".</param>
/// <param name="Notice">What the user should know before the guest starts; null when there is nothing.</param>
internal sealed record EngineChoice(IEngine Engine, int MaxProcessors, string Reason, string? Notice = null);

/// <summary>The engines that <c>--engine</c> can name, and what decides between them.</summary>
internal static class Engines
{
    internal const string Auto = "auto";

    internal static IReadOnlyList<string> Names { get; } = [Auto, .. MachineEngines.All.Select(e => e.Name)];

    /// <summary>Takes the named engine, or the better one; looks at the host only as far as that needs.</summary>
    /// <exception cref="UserException">There is none of that name, or the host can't run it.</exception>
    internal static EngineChoice Choose(string name) => Choose(name, () => KvmProbe.Run(), SoftwareEngine.CheckHost);

    /// <param name="name">What the user wrote.</param>
    /// <param name="probe">Finds out what the host's KVM is worth.</param>
    /// <param name="checkSoftware">Finds out whether the host can run the software engine.</param>
    internal static EngineChoice Choose(string name, Func<KvmFindings> probe, Func<IReadOnlyList<HostRequirement>> checkSoftware)
    {
        if (name == MachineEngines.Software.Name)
        {
            return TakeSoftware(checkSoftware(), "because it was asked for");
        }

        if (name == MachineEngines.Kvm.Name)
        {
            return TakeKvm(probe());
        }

        if (name != Auto)
        {
            throw new UserException($"there is no engine '{name}'; engines: {string.Join(", ", Names)}");
        }

        KvmFindings findings = probe();
        return findings.Verdict == KvmVerdict.Hardware
            ? new EngineChoice(MachineEngines.Kvm, findings.MaxProcessors ?? 1, "because guests run at hardware speed with it")
            : TakeSoftware(checkSoftware(), $"because {findings.Problem}");
    }

    private static EngineChoice TakeSoftware(IReadOnlyList<HostRequirement> host, string reason) =>
        host.FirstOrDefault(requirement => requirement.Problem != null) is { } unmet
            ? throw new UserException(unmet.Problem!)
            : new EngineChoice(MachineEngines.Software, MachineEngines.Software.MaxProcessors, reason);

    private static EngineChoice TakeKvm(KvmFindings findings) => findings.Verdict switch
    {
        KvmVerdict.Unusable => throw new UserException($"--engine kvm does not work here: {findings.Problem}; {findings.Remedy}, or use --engine software"),
        KvmVerdict.Emulated => new EngineChoice(MachineEngines.Kvm, findings.MaxProcessors ?? 1, "because it was asked for", DescribeSlowKvm(findings)),
        _ => new EngineChoice(MachineEngines.Kvm, findings.MaxProcessors ?? 1, "because it was asked for"),
    };

    private static string DescribeSlowKvm(KvmFindings findings) => string.Create(
        CultureInfo.InvariantCulture,
        $"the host's KVM emulates ring 0, at {findings.Speed?.GuestRate / 1e6:0.0} million instructions a second; --engine software would be faster");
}
