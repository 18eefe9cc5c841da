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
    /// <summary>For what takes far below a millisecond on hardware.</summary>
    private static readonly TimeSpan LoopLimit = TimeSpan.FromSeconds(1);

    /// <summary>Takes some milliseconds; at most about a second where KVM hangs. What the host shows is read only where there is something to mend.</summary>
    public static KvmFindings Run(KvmHostPaths? paths = null)
    {
        paths ??= new KvmHostPaths();
        long start = HostTime.Nanoseconds;
        KvmFindings findings = Examine(new KvmFindings { Host = new KvmHost { Device = paths.Device } }, paths.Device);
        if (findings.Verdict != KvmVerdict.Hardware)
        {
            findings = findings with { Host = KvmHost.Read(paths) };
        }

        return findings with { Duration = TimeSpan.FromMicroseconds((HostTime.Nanoseconds - start) / 1000) };
    }

    /// <summary>The same, with all that the host shows and the CPU models that its KVM can run.</summary>
    public static KvmFindings RunWithModels(KvmHostPaths? paths = null)
    {
        KvmFindings findings = Run(paths) with { Host = KvmHost.Read(paths) };
        if (findings.Capabilities.Count == 0 || findings.Failure != null)
        {
            return findings;
        }

        try
        {
            using KvmSystem system = new(DeviceFile.Open(findings.Host.Device));
            return findings with { MissingFeatures = AskModels(system) };
        }
        catch (HostException e)
        {
            return findings with { Failure = KvmFailure.From(e) };
        }
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

            findings = findings with { MaxProcessors = system.MaxProcessors };
            return Measure(findings, system);
        }
        catch (HostException e)
        {
            return findings with { Failure = KvmFailure.From(e) };
        }
        catch (KvmUnavailableException e)
        {
            // Making the VM has failed: the call's own error tells more than the words made of it.
            return findings with
            {
                Failure = e.InnerException is HostException cause ? KvmFailure.From(cause) : new KvmFailure(string.Empty, 0, e.Problem),
            };
        }
    }

    private static KvmCapabilityFinding[] AskCapabilities(KvmSystem system) =>
    [
        .. KvmSystem.Required.Select(need => new KvmCapabilityFinding(need.Name, need.Purpose, true, system.Check(need.Capability))),
        .. KvmSystem.Optional.Select(need => new KvmCapabilityFinding(need.Name, need.Purpose, false, system.Check(need.Capability))),
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
        using GuestLoop loop = new(system);
        string? failure = loop.Run(plan, LoopLimit);
        return findings with
        {
            TscKilohertz = loop.TscKilohertz,
            LoopFailure = failure,
            Speed = new LoopSpeed(plan.GuestRate, LoopPlan.InstructionsPerIteration * 1e9 / native, plan.IsGivenUp),
        };
    }
}
