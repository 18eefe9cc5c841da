using Tutti.Host;

namespace Tutti.Cpu.Kvm;

/// <summary>The host's KVM can't be used; the message says why and how to mend it, in one line.</summary>
public sealed class KvmUnavailableException : PlatformNotSupportedException
{
    internal KvmUnavailableException(string problem, string remedy, Exception? cause = null)
        : base($"{problem}; {remedy}", cause)
    {
        Problem = problem;
        Remedy = remedy;
    }

    /// <summary>What is wrong, without a full stop.</summary>
    public string Problem { get; }

    /// <summary>What to do about it, without a full stop.</summary>
    public string Remedy { get; }

    /// <summary>Turns what opening the device or making a VM failed with into words for the host's owner.</summary>
    internal static KvmUnavailableException From(HostException error) => error.Errno switch
    {
        KvmCalls.ENOENT => new(
            $"there is no {KvmSystem.DevicePath}",
            "load the module kvm_intel or kvm_amd, and switch virtualization on in the firmware (on a cloud VM: nested virtualization), or use --engine software",
            error),
        KvmCalls.EACCES or KvmCalls.EPERM => new(
            $"no permission for {KvmSystem.DevicePath}",
            "join its group (sudo usermod -aG kvm $USER, then log in again), or use --engine software",
            error),
        KvmCalls.EBUSY => new(
            "the processor's virtualization is in use by another hypervisor",
            "end that one (VirtualBox, VMware) first, or use --engine software",
            error),
        KvmCalls.ENXIO or KvmCalls.ENODEV => new(
            $"{KvmSystem.DevicePath} stands for no device",
            "load the module kvm_intel or kvm_amd, or use --engine software",
            error),
        _ => new($"KVM refuses: {error.Message}", "see the host's kernel log (dmesg), or use --engine software", error),
    };
}
