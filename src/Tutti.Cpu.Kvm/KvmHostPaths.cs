namespace Tutti.Cpu.Kvm;

/// <summary>Where a host tells about its KVM; tests name other places.</summary>
public sealed record KvmHostPaths
{
    public string Device { get; init; } = KvmSystem.DevicePath;

    /// <summary>procfs.</summary>
    public string Proc { get; init; } = "/proc";

    /// <summary>sysfs.</summary>
    public string Sys { get; init; } = "/sys";

    /// <summary>The file of groups. Source: group(5).</summary>
    public string Groups { get; init; } = "/etc/group";
}
