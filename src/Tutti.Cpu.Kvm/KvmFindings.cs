using System.Globalization;
using Tutti.Host;

namespace Tutti.Cpu.Kvm;

/// <summary>What a host's KVM is worth.</summary>
public enum KvmVerdict
{
    /// <summary>The engine can't run with it; <see cref="KvmFindings.Problem"/> says why.</summary>
    Unusable,

    /// <summary>It runs guests, but not their ring 0 on the processor: the software engine is faster.</summary>
    Emulated,

    /// <summary>Guests run at the speed of the hardware.</summary>
    Hardware,
}

/// <summary>A call of KVM that failed.</summary>
/// <param name="Call">The call's name, or "open" and what was opened.</param>
/// <param name="Errno">The kernel's error number.</param>
/// <param name="Message">Call and error in words.</param>
public sealed record KvmFailure(string Call, int Errno, string Message)
{
    internal static KvmFailure From(HostException error) => new(error.Call, error.Errno, error.Message);
}

/// <summary>What the kernel answers for one capability.</summary>
/// <param name="Name">The kernel's name, with KVM_CAP_.</param>
/// <param name="Purpose">What it is for, in a few words.</param>
/// <param name="IsRequired">Whether the engine can't do without.</param>
/// <param name="Value">0 for no, else yes or a figure.</param>
public sealed record KvmCapabilityFinding(string Name, string Purpose, bool IsRequired, int Value);

/// <summary>
/// What a probe of KVM has found, as plain data; what follows from it is worked out here and nowhere else. Later facts are
/// missing where an earlier one makes them impossible.
/// </summary>
public sealed record KvmFindings
{
    /// <summary>The version of KVM's interface that the engine needs.</summary>
    public const int NeededApiVersion = KvmIoctl.KVM_API_VERSION;

    public KvmHost Host { get; init; } = new();

    /// <summary>Whether the device was there and opened.</summary>
    public bool IsOpened { get; init; }

    /// <summary>The call that ended the probe; null when none failed.</summary>
    public KvmFailure? Failure { get; init; }

    public int? ApiVersion { get; init; }

    public IReadOnlyList<KvmCapabilityFinding> Capabilities { get; init; } = [];

    /// <summary>The most vCPUs of a VM.</summary>
    public int? MaxProcessors { get; init; }

    /// <summary>kHz of a guest's time-stamp counter; 0 where the host's has no fixed rate.</summary>
    public uint? TscKilohertz { get; init; }

    public LoopSpeed? Speed { get; init; }

    /// <summary>How the guest of the speed test ended, when it did not end as it should.</summary>
    public string? LoopFailure { get; init; }

    /// <summary>What each CPU model needs and the host lacks, by the model's name; empty lists for those that can run. Empty where nobody asked.</summary>
    public IReadOnlyDictionary<string, IReadOnlyList<string>> MissingFeatures { get; init; } = new Dictionary<string, IReadOnlyList<string>>();

    /// <summary>What the probe took.</summary>
    public TimeSpan Duration { get; init; }

    public KvmVerdict Verdict => Speed == null || FindProblem() != null
        ? KvmVerdict.Unusable
        : Speed.IsHardware ? KvmVerdict.Hardware : KvmVerdict.Emulated;

    /// <summary>What keeps guests from running, or from hardware speed, without a full stop; null when nothing does.</summary>
    public string? Problem => Explain()?.Problem;

    /// <summary>What to do about it, without a full stop; null when there is nothing to mend.</summary>
    public string? Remedy => Explain()?.Remedy;

    private (string Problem, string Remedy)? Explain() =>
        FindProblem() ?? (Speed is { IsHardware: false } speed ? (DescribeSlowness(speed), KvmAdvice.MendEmulation(Host)) : null);

    private (string Problem, string Remedy)? FindProblem()
    {
        if (Failure is { } failure)
        {
            return KvmAdvice.Explain(failure, Host);
        }

        if (ApiVersion is { } version && version != NeededApiVersion)
        {
            return KvmAdvice.ExplainVersion(version);
        }

        KvmCapabilityFinding[] missing = [.. Capabilities.Where(c => c.IsRequired && c.Value == 0)];
        if (missing.Length > 0)
        {
            return KvmAdvice.ExplainMissing(missing.Select(c => $"{c.Name} ({c.Purpose})"));
        }

        return LoopFailure is { } end
            ? ($"KVM does not run a loop in 64-bit mode: {end}", "see the host's kernel log (dmesg)")
            : null;
    }

    private static string DescribeSlowness(LoopSpeed speed) => speed.IsTimedOut
        ? "KVM did not end a short loop in ring 0 within a second"
        : string.Create(CultureInfo.InvariantCulture, $"KVM emulates ring 0 on this host: {speed.GuestRate / 1e6:0.0} million instructions a second, where the processor itself does {speed.NativeRate / 1e6:0} million");
}
