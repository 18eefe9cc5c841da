using Tutti.Host;
using Tutti.X86;
using static Tutti.Cpu.Kvm.KvmCalls;
using static Tutti.Cpu.Kvm.KvmIoctl;

namespace Tutti.Cpu.Kvm;

/// <summary>The host's KVM, opened and found to be one that the engine can use.</summary>
internal sealed unsafe class KvmSystem : IDisposable
{
    internal const string DevicePath = "/dev/kvm";

    /// <summary>The most MSRs and CPUID entries that any kernel lists; both are some hundreds today.</summary>
    private const int MaxListed = 4096;

    /// <summary>APIC IDs of 8 bits, less the broadcast: what the machine's ACPI tables can tell.</summary>
    private const int MaxApicIds = 255;

    /// <summary>What the engine can't do without, with the words for it.</summary>
    internal static readonly Need[] Required =
    [
        new(KvmCapability.USER_MEMORY, "guest memory of user space"),
        new(KvmCapability.IRQCHIP, "interrupt controllers"),
        new(KvmCapability.PIT2, "the interval timer"),
        new(KvmCapability.IRQ_ROUTING, "interrupt routing"),
        new(KvmCapability.SIGNAL_MSI, "message-signalled interrupts"),
        new(KvmCapability.IRQFD, "interrupts by eventfd"),
        new(KvmCapability.IOEVENTFD, "doorbells by eventfd"),
        new(KvmCapability.EXT_CPUID, "CPUID tables"),
        new(KvmCapability.SET_TSS_ADDR, "the real-mode task segment"),
        new(KvmCapability.SET_IDENTITY_MAP_ADDR, "the real-mode page table"),
        new(KvmCapability.MP_STATE, "the processors' activity"),
        new(KvmCapability.VCPU_EVENTS, "the processors' pending events"),
        new(KvmCapability.DEBUGREGS, "debug registers"),
        new(KvmCapability.XSAVE, "extended processor state"),
        new(KvmCapability.XCRS, "extended control registers"),
        new(KvmCapability.ADJUST_CLOCK, "the paravirtual clock"),
        new(KvmCapability.IMMEDIATE_EXIT, "immediate exits (Linux 4.13)"),
    ];

    /// <summary>What the engine uses where it is there.</summary>
    internal static readonly Need[] Optional =
    [
        new(KvmCapability.XSAVE2, "extended processor state above 4 KiB"),
        new(KvmCapability.TSC_DEADLINE_TIMER, "TSC deadline timers"),
        new(KvmCapability.VCPU_ATTRIBUTES, "time-stamp counters that can stop (Linux 5.16)"),
        new(KvmCapability.KVMCLOCK_CTRL, "telling guests that they were stopped"),
    ];

    internal KvmSystem(FileDescriptor descriptor) => Descriptor = descriptor;

    internal FileDescriptor Descriptor { get; }

    internal int ApiVersion => Call(Descriptor, nameof(KVM_GET_API_VERSION), KVM_GET_API_VERSION);

    /// <summary>Bytes that a vCPU shares with the kernel.</summary>
    internal int VcpuMmapSize => Call(Descriptor, nameof(KVM_GET_VCPU_MMAP_SIZE), KVM_GET_VCPU_MMAP_SIZE);

    /// <summary>The most vCPUs of a VM.</summary>
    internal int MaxProcessors => Math.Min(Math.Max(Check(KvmCapability.MAX_VCPUS), Check(KvmCapability.NR_VCPUS)), MaxApicIds);

    /// <summary>Opens the device.</summary>
    /// <exception cref="KvmUnavailableException">It can't be opened, or lacks something.</exception>
    internal static KvmSystem Open()
    {
        KvmSystem? system = null;
        try
        {
            system = new KvmSystem(DeviceFile.Open(DevicePath));
            system.RequireInterface();
            return system;
        }
        catch (HostException e)
        {
            system?.Dispose();
            throw KvmUnavailableException.From(e);
        }
        catch (KvmUnavailableException)
        {
            system?.Dispose();
            throw;
        }
    }

    /// <summary>What the kernel says of a capability: 0 for no, else yes or a figure.</summary>
    internal int Check(KvmCapability capability) =>
        Call(Descriptor, nameof(KVM_CHECK_EXTENSION), KVM_CHECK_EXTENSION, (nuint)(int)capability);

    internal FileDescriptor CreateVm()
    {
        try
        {
            return FileDescriptor.Own(Call(Descriptor, nameof(KVM_CREATE_VM), KVM_CREATE_VM), nameof(KVM_CREATE_VM));
        }
        catch (HostException e)
        {
            throw KvmUnavailableException.From(e);
        }
    }

    /// <summary>The CPUID entries that KVM can give to a guest on this host.</summary>
    internal CpuidEntry[] GetSupportedCpuid()
    {
        // SAFETY: the buffer is a kvm_cpuid2 with as many entries as its first word says.
        fixed (byte* cpuid = ReadSupportedCpuid())
        {
            CpuidEntry[] entries = new CpuidEntry[*(int*)cpuid];
            KvmCpuidEntry2* from = (KvmCpuidEntry2*)(cpuid + 8);
            for (int i = 0; i < entries.Length; i++)
            {
                entries[i] = from[i].ToEntry();
            }

            return entries;
        }
    }

    /// <summary>Shows a vCPU all that KVM can.</summary>
    internal void PassSupportedCpuid(FileDescriptor vcpu)
    {
        // SAFETY: the same.
        fixed (byte* cpuid = ReadSupportedCpuid())
        {
            _ = Call(vcpu, nameof(KVM_SET_CPUID2), KVM_SET_CPUID2, cpuid);
        }
    }

    /// <summary>A <c>kvm_cpuid2</c>, as the kernel filled it in.</summary>
    private byte[] ReadSupportedCpuid()
    {
        for (int count = 128; count <= MaxListed; count *= 2)
        {
            byte[] buffer = new byte[8 + (count * sizeof(KvmCpuidEntry2))];
            // SAFETY: the buffer is a kvm_cpuid2 with room for as many entries as its first word says.
            fixed (byte* cpuid = buffer)
            {
                *(int*)cpuid = count;
                try
                {
                    _ = Call(Descriptor, nameof(KVM_GET_SUPPORTED_CPUID), KVM_GET_SUPPORTED_CPUID, cpuid);
                    return buffer;
                }
                catch (HostException e) when (e.Errno == E2BIG)
                {
                    // The next size may do.
                }
            }
        }

        throw new KvmUnavailableException($"KVM lists more than {MaxListed} CPUID entries", "report this as an error of Tutti");
    }

    /// <summary>The MSRs whose values make up a vCPU's state on this host.</summary>
    internal uint[] GetMsrIndexList()
    {
        for (int count = 256; count <= MaxListed; count *= 2)
        {
            uint[] buffer = new uint[1 + count];
            // SAFETY: the buffer is a kvm_msr_list with room for as many indices as its first word says.
            fixed (uint* list = buffer)
            {
                *list = (uint)count;
                try
                {
                    _ = Call(Descriptor, nameof(KVM_GET_MSR_INDEX_LIST), KVM_GET_MSR_INDEX_LIST, list);
                    return buffer[1..(int)(1 + *list)];
                }
                catch (HostException e) when (e.Errno == E2BIG)
                {
                    // The next size may do.
                }
            }
        }

        throw new KvmUnavailableException($"KVM lists more than {MaxListed} MSRs", "report this as an error of Tutti");
    }

    public void Dispose() => Descriptor.Dispose();

    private void RequireInterface()
    {
        int version = ApiVersion;
        if (version != KVM_API_VERSION)
        {
            throw new KvmUnavailableException(KvmAdvice.ExplainVersion(version));
        }

        string[] missing = [.. Required.Where(r => Check(r.Capability) == 0).Select(r => $"{r.Name} ({r.Purpose})")];
        if (missing.Length > 0)
        {
            throw new KvmUnavailableException(KvmAdvice.ExplainMissing(missing));
        }
    }

    /// <summary>A capability and the words for it. A class, since the runtime has its code for lists of those from the start.</summary>
    internal sealed record Need(KvmCapability Capability, string Purpose)
    {
        internal string Name => $"KVM_CAP_{Capability.ToString()}";
    }
}
