using static Tutti.Cpu.Kvm.KvmCalls;

namespace Tutti.Cpu.Kvm;

/// <summary>Words for the host's owner: what is wrong with its KVM, and how to mend it.</summary>
internal static class KvmAdvice
{
    internal static (string Problem, string Remedy) Explain(KvmFailure failure, KvmHost host) => failure.Errno switch
    {
        ENOMEM => ($"the host has no memory left for this VM ({failure.Message})", "give it less with --memory, or end other programs"),
        EMFILE or ENFILE => ($"no file descriptor is left for this VM ({failure.Message})", "allow more (ulimit -n), or end other VMs"),
        _ when !IsAboutDevice(failure) => ExplainRefusal(failure),
        ENOENT => ($"there is no {host.Device}", host.ExplainDevice()),
        EACCES or EPERM => ($"no permission for {host.Device}", host.ExplainPermission()),
        EBUSY => ("the processor's virtualization is in use by another hypervisor", "end that one (VirtualBox, VMware) first"),
        ENXIO or ENODEV => ($"{host.Device} stands for no device", host.ExplainDevice()),
        _ => ExplainRefusal(failure),
    };

    internal static (string Problem, string Remedy) ExplainVersion(int version) =>
        ($"KVM's interface is version {version}, and {KvmIoctl.KVM_API_VERSION} is needed", "use a kernel of 2.6.22 or later");

    internal static (string Problem, string Remedy) ExplainMissing(IEnumerable<string> capabilities) =>
        ($"the host's KVM lacks {string.Join(", ", capabilities)}", "use a newer kernel, or one built with it");

    /// <summary>How ring 0 could come to run on the processor.</summary>
    internal static string MendEmulation(KvmHost host) => host.Virtualization == null
        ? host.ExplainVirtualization()
        : host.Modules.Contains(host.Module)
            ? $"the processor shows {host.Virtualization} and {host.Module} is loaded, so see what else runs on this host, and its kernel log (dmesg)"
            : $"the processor shows {host.Virtualization}, but this KVM does not use it: load the module (sudo modprobe {host.Module})";

    private static (string Problem, string Remedy) ExplainRefusal(KvmFailure failure) =>
        ($"KVM refuses: {failure.Message}", "see the host's kernel log (dmesg)");

    /// <summary>The same error numbers mean other things where a VM is furnished.</summary>
    private static bool IsAboutDevice(KvmFailure failure) =>
        failure.Call.StartsWith("open ", StringComparison.Ordinal) || failure.Call == nameof(KvmIoctl.KVM_CREATE_VM);
}
