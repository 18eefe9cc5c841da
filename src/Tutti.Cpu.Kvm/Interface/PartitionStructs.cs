using System.Runtime.InteropServices;

namespace Tutti.Cpu.Kvm;

/// <summary><c>struct kvm_userspace_memory_region</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct KvmUserspaceMemoryRegion
{
    internal uint Slot;
    internal uint Flags;
    internal ulong GuestPhysAddr;
    internal ulong MemorySize;
    internal ulong UserspaceAddr;
}

/// <summary><c>struct kvm_pit_config</c>.</summary>
[StructLayout(LayoutKind.Sequential, Size = 64)]
internal struct KvmPitConfig
{
    /// <summary>The kernel answers port 0x61 too.</summary>
    internal const uint KVM_PIT_SPEAKER_DUMMY = 1;

    internal uint Flags;
}

/// <summary><c>struct kvm_irq_level</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct KvmIrqLevel
{
    internal uint Irq;
    internal uint Level;
}

/// <summary><c>struct kvm_irq_routing_entry</c>; the union's members are <c>kvm_irq_routing_irqchip</c> and <c>kvm_irq_routing_msi</c>.</summary>
[StructLayout(LayoutKind.Explicit, Size = 48)]
internal struct KvmIrqRoutingEntry
{
    internal const uint KVM_IRQ_ROUTING_IRQCHIP = 1;
    internal const uint KVM_IRQ_ROUTING_MSI = 2;
    internal const uint KVM_IRQCHIP_PIC_MASTER = 0;
    internal const uint KVM_IRQCHIP_PIC_SLAVE = 1;
    internal const uint KVM_IRQCHIP_IOAPIC = 2;

    [FieldOffset(0)]
    internal uint Gsi;

    [FieldOffset(4)]
    internal uint Type;

    [FieldOffset(8)]
    internal uint Flags;

    [FieldOffset(16)]
    internal uint Irqchip;

    [FieldOffset(20)]
    internal uint Pin;

    [FieldOffset(16)]
    internal uint AddressLo;

    [FieldOffset(20)]
    internal uint AddressHi;

    [FieldOffset(24)]
    internal uint Data;
}

/// <summary><c>struct kvm_msi</c>.</summary>
[StructLayout(LayoutKind.Sequential, Size = 32)]
internal struct KvmMsi
{
    internal uint AddressLo;
    internal uint AddressHi;
    internal uint Data;
    internal uint Flags;
    internal uint Devid;
}

/// <summary><c>struct kvm_irqfd</c>.</summary>
[StructLayout(LayoutKind.Sequential, Size = 32)]
internal struct KvmIrqfd
{
    internal const uint KVM_IRQFD_FLAG_DEASSIGN = 1;
    internal const uint KVM_IRQFD_FLAG_RESAMPLE = 2;

    internal uint Fd;
    internal uint Gsi;
    internal uint Flags;
    internal uint Resamplefd;
}

/// <summary><c>struct kvm_ioeventfd</c>.</summary>
[StructLayout(LayoutKind.Sequential, Size = 64)]
internal struct KvmIoeventfd
{
    internal const uint KVM_IOEVENTFD_FLAG_DATAMATCH = 1;
    internal const uint KVM_IOEVENTFD_FLAG_PIO = 2;
    internal const uint KVM_IOEVENTFD_FLAG_DEASSIGN = 4;

    internal ulong Datamatch;
    internal ulong Addr;
    internal uint Len;
    internal int Fd;
    internal uint Flags;
}

/// <summary><c>struct kvm_clock_data</c>.</summary>
[StructLayout(LayoutKind.Sequential, Size = 48)]
internal struct KvmClockData
{
    internal ulong Clock;
    internal uint Flags;
    internal uint Pad0;
    internal ulong Realtime;
    internal ulong HostTsc;
}

/// <summary><c>struct kvm_device_attr</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KvmDeviceAttr
{
    internal const uint KVM_VCPU_TSC_CTRL = 0;
    internal const ulong KVM_VCPU_TSC_OFFSET = 0;

    internal uint Flags;
    internal uint Group;
    internal ulong Attr;
    internal void* Addr;
}
