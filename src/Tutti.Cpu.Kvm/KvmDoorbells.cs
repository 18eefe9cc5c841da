using System.Runtime.InteropServices;
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
public sealed unsafe class KvmDoorbells : IEventDoorbells
{
    private readonly FileDescriptor _vm;

    internal KvmDoorbells(FileDescriptor vm) => _vm = vm;

    /// <exception cref="HostException">Another doorbell has these writes, or the kernel has room for no more.</exception>
    public void Attach(in Doorbell doorbell, EventFd target)
    {
        ArgumentNullException.ThrowIfNull(target);
        Change(doorbell, target.Descriptor, 0);
    }

    /// <summary>Undoes <see cref="Attach"/> with the same arguments.</summary>
    /// <exception cref="HostException">There is no such doorbell.</exception>
    public void Detach(in Doorbell doorbell, EventFd target)
    {
        ArgumentNullException.ThrowIfNull(target);
        Change(doorbell, target.Descriptor, KvmIoeventfd.KVM_IOEVENTFD_FLAG_DEASSIGN);
    }

    bool IEventDoorbells.TryAttach(ulong address, SafeHandle eventFd)
    {
        try
        {
            Change(new Doorbell(address, 0), eventFd, 0);
            return true;
        }
        catch (HostException)
        {
            // The kernel has room for some hundreds: the rest leave guest code, which is slower and no less right.
            return false;
        }
    }

    void IEventDoorbells.Detach(ulong address, SafeHandle eventFd)
    {
        try
        {
            Change(new Doorbell(address, 0), eventFd, KvmIoeventfd.KVM_IOEVENTFD_FLAG_DEASSIGN);
        }
        catch (Exception e) when (e is HostException or ObjectDisposedException)
        {
            // It has gone with its partition.
        }
    }

    private void Change(in Doorbell doorbell, SafeHandle target, uint flags)
    {
        bool isHeld = false;
        target.DangerousAddRef(ref isHeld);
        try
        {
            Change(doorbell, (int)target.DangerousGetHandle(), flags);
        }
        finally
        {
            target.DangerousRelease();
        }
    }

    private void Change(in Doorbell doorbell, int target, uint flags)
    {
        KvmIoeventfd argument = new()
        {
            Addr = doorbell.Address,
            Len = (uint)doorbell.Length,
            Fd = target,
            Datamatch = doorbell.Match ?? 0,
            Flags = flags
                | (doorbell.IsPort ? KvmIoeventfd.KVM_IOEVENTFD_FLAG_PIO : 0)
                | (doorbell.Match != null ? KvmIoeventfd.KVM_IOEVENTFD_FLAG_DATAMATCH : 0),
        };
        _ = Call(_vm, nameof(KVM_IOEVENTFD), KVM_IOEVENTFD, &argument);
    }
}
