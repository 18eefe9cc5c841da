using Tutti.Host;
using static Tutti.Cpu.Kvm.KvmCalls;
using static Tutti.Cpu.Kvm.KvmIoctl;

namespace Tutti.Cpu.Kvm;

/// <summary>An address whose writes signal an eventfd.</summary>
/// <param name="Address">Guest physical address, or port number.</param>
/// <param name="Length">Width of the writes that count: 1, 2, 4 or 8 bytes; 0 for any.</param>
/// <param name="IsPort">Whether the address is a port.</param>
/// <param name="Match">The only value that counts; null for all.</param>
public readonly record struct Doorbell(ulong Address, int Length, bool IsPort = false, ulong? Match = null);

/// <summary>
/// Ties guest writes to eventfds (ioeventfd): the vCPU goes on at once, and a device's own thread wakes. Writes that no
/// doorbell takes reach <see cref="ICpuIo"/> as ever.
/// </summary>
public sealed unsafe class KvmDoorbells
{
    private readonly FileDescriptor _vm;

    internal KvmDoorbells(FileDescriptor vm) => _vm = vm;

    /// <exception cref="HostException">Another doorbell has these writes, or the kernel has room for no more.</exception>
    public void Attach(in Doorbell doorbell, EventFd target) => Change(doorbell, target, 0);

    /// <summary>Undoes <see cref="Attach"/> with the same arguments.</summary>
    /// <exception cref="HostException">There is no such doorbell.</exception>
    public void Detach(in Doorbell doorbell, EventFd target) => Change(doorbell, target, KvmIoeventfd.KVM_IOEVENTFD_FLAG_DEASSIGN);

    private void Change(in Doorbell doorbell, EventFd target, uint flags)
    {
        ArgumentNullException.ThrowIfNull(target);
        KvmIoeventfd argument = new()
        {
            Addr = doorbell.Address,
            Len = (uint)doorbell.Length,
            Fd = target.Descriptor.Number,
            Datamatch = doorbell.Match ?? 0,
            Flags = flags
                | (doorbell.IsPort ? KvmIoeventfd.KVM_IOEVENTFD_FLAG_PIO : 0)
                | (doorbell.Match != null ? KvmIoeventfd.KVM_IOEVENTFD_FLAG_DATAMATCH : 0),
        };
        _ = Call(_vm, nameof(KVM_IOEVENTFD), KVM_IOEVENTFD, &argument);
    }
}
