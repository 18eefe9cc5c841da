using Tutti.Cpu.Interpreter;
using Tutti.Cpu.Kvm;
using Tutti.Host;

namespace Tutti.Cli.Tests;

/// <summary>What probes of hosts would find that tests can't have.</summary>
internal static class Findings
{
    private const int PermissionDenied = 13;
    private const int Busy = 16;
    private const int NoEntry = 2;

    private static readonly KvmHost Server = new() { Processor = "Test CPU", Virtualization = "AMD-V", Modules = ["kvm", "kvm_amd"] };

    private static readonly UnixFileMode GroupMode = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.GroupWrite;

    internal static KvmFindings Fine { get; } = new()
    {
        Host = Server with { DeviceOwner = new FileOwner(0, 109, GroupMode), DeviceGroup = "kvm", HasDeviceGroup = true },
        IsOpened = true,
        ApiVersion = 12,
        Capabilities =
        [
            new KvmCapabilityFinding("KVM_CAP_IRQCHIP", "interrupt controllers", true, 1),
            new KvmCapabilityFinding("KVM_CAP_XSAVE2", "extended processor state above 4 KiB", false, 4096),
        ],
        MaxProcessors = 48,
        TscKilohertz = 2_600_000,
        Speed = new LoopSpeed(5.1e9, 5.2e9),
        MissingFeatures = new Dictionary<string, IReadOnlyList<string>> { ["host"] = [], ["x86-64-v2"] = [], ["x86-64-v3"] = ["AVX2", "BMI2"] },
    };

    internal static KvmFindings Slow { get; } = Fine with
    {
        Host = new KvmHost { IsVirtualMachine = true },
        Speed = new LoopSpeed(1.5e6, 5.2e9),
    };

    internal static KvmFindings Hanging { get; } = Fine with { Speed = new LoopSpeed(512, 5.2e9, IsTimedOut: true) };

    internal static KvmFindings NoDevice { get; } = new()
    {
        Host = new KvmHost { IsVirtualMachine = true },
        Failure = new KvmFailure("open /dev/kvm", NoEntry, "open /dev/kvm: No such file or directory (errno 2)"),
    };

    internal static KvmFindings NoPermission { get; } = new()
    {
        Host = Server with { DeviceOwner = new FileOwner(0, 109, GroupMode), DeviceGroup = "kvm" },
        Failure = new KvmFailure("open /dev/kvm", PermissionDenied, "open /dev/kvm: Permission denied (errno 13)"),
    };

    internal static KvmFindings InUse { get; } = Fine with
    {
        Speed = null,
        Failure = new KvmFailure("KVM_CREATE_VM", Busy, "KVM_CREATE_VM: Device or resource busy (errno 16)"),
    };

    internal static KvmFindings OldInterface { get; } = new() { Host = Server, IsOpened = true, ApiVersion = 10 };

    internal static KvmFindings NoInterruptControllers { get; } = new()
    {
        Host = Server,
        IsOpened = true,
        ApiVersion = 12,
        Capabilities = [new KvmCapabilityFinding("KVM_CAP_IRQCHIP", "interrupt controllers", true, 0)],
    };

    internal static IReadOnlyList<HostRequirement> SoftwareRuns { get; } = [new("executable memory", null)];

    internal static IReadOnlyList<HostRequirement> SoftwareFails { get; } = [new("executable memory", "this host forbids executable memory")];

    /// <summary>By name, for theories.</summary>
    internal static KvmFindings Named(string name) => name switch
    {
        nameof(Fine) => Fine,
        nameof(Slow) => Slow,
        nameof(Hanging) => Hanging,
        nameof(NoDevice) => NoDevice,
        nameof(NoPermission) => NoPermission,
        nameof(InUse) => InUse,
        nameof(OldInterface) => OldInterface,
        nameof(NoInterruptControllers) => NoInterruptControllers,
        _ => throw new ArgumentOutOfRangeException(nameof(name)),
    };
}
