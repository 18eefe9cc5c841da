using Tutti.Host;
using Tutti.X86;

namespace Tutti.Cpu.Kvm;

/// <summary>
/// Finds out what a host's KVM is worth: opens it, asks for what the engine needs, makes a VM, and measures a loop in ring 0
/// of it against the same loop outside. Some hosts have a KVM that emulates ring 0, at a thousandth of the processor's speed;
/// nothing but measuring tells.
/// </summary>
public static class KvmProbe
{
    /// <summary>Takes a few milliseconds; at most about a second where KVM hangs.</summary>
    public static KvmFindings Run(KvmHostPaths? paths = null)
    {
        paths ??= new KvmHostPaths();
        long start = HostTime.Nanoseconds;
        KvmFindings findings = Examine(new KvmFindings { Host = KvmHost.Read(paths) }, paths.Device);
        return findings with { Duration = TimeSpan.FromMicroseconds((HostTime.Nanoseconds - start) / 1000) };
    }

    private static KvmFindings Examine(KvmFindings findings, string device)
    {
        try
        {
            using KvmSystem system = new(DeviceFile.Open(device));
            findings = findings with { IsOpened = true, ApiVersion = system.ApiVersion };
            if (findings.Problem == null)
            {
                findings = findings with { Capabilities = AskCapabilities(system) };
            }

            if (findings.Problem != null)
            {
                return findings;
            }

            findings = findings with { MaxProcessors = system.MaxProcessors, MissingFeatures = AskModels(system) };
            return Measure(findings, system);
        }
        catch (HostException e)
        {
            return findings with { Failure = new KvmFailure(e.Errno, e.Message) };
        }
        catch (KvmUnavailableException e)
        {
            // Making the VM has failed: the call's own error tells more than the words made of it.
            return findings with
            {
                Failure = e.InnerException is HostException cause ? new KvmFailure(cause.Errno, cause.Message) : new KvmFailure(0, e.Message),
            };
        }
    }

    private static KvmCapabilityFinding[] AskCapabilities(KvmSystem system) =>
    [
        .. KvmSystem.Required.Select(r => new KvmCapabilityFinding($"KVM_CAP_{r.Capability}", r.Purpose, true, system.Check(r.Capability))),
        .. KvmSystem.Optional.Select(r => new KvmCapabilityFinding($"KVM_CAP_{r.Capability}", r.Purpose, false, system.Check(r.Capability))),
    ];

    private static Dictionary<string, IReadOnlyList<string>> AskModels(KvmSystem system)
    {
        CpuidEntry[] supported = system.GetSupportedCpuid();
        bool hasTscDeadline = system.Check(KvmCapability.TSC_DEADLINE_TIMER) != 0;
        return CpuModel.All.ToDictionary(model => model.Name, model => model.FindMissing(supported, hasTscDeadline));
    }

    private static KvmFindings Measure(KvmFindings findings, KvmSystem system)
    {
        ThreadInterruption.Prepare();
        double native = NativeLoop.MeasureIteration();
        LoopPlan plan = new(native);
        using GuestLoop loop = new(system, plan);
        bool isComplete = loop.TryRun(out string? failure);
        return findings with
        {
            TscKilohertz = loop.TscKilohertz,
            LoopFailure = failure,
            Speed = new LoopSpeed(plan.GuestRate, LoopPlan.InstructionsPerIteration * 1e9 / native, !isComplete),
        };
    }
}
