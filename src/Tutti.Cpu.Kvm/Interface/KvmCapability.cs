namespace Tutti.Cpu.Kvm;

/// <summary>What KVM_CHECK_EXTENSION can be asked for. Source: Linux include/uapi/linux/kvm.h, with its names less <c>KVM_CAP_</c>.</summary>
internal enum KvmCapability
{
    IRQCHIP = 0,
    USER_MEMORY = 3,
    SET_TSS_ADDR = 4,
    EXT_CPUID = 7,
    NR_VCPUS = 9,
    MP_STATE = 14,
    IRQ_ROUTING = 25,
    IRQFD = 32,
    PIT2 = 33,
    IOEVENTFD = 36,
    SET_IDENTITY_MAP_ADDR = 37,
    ADJUST_CLOCK = 39,
    VCPU_EVENTS = 41,
    DEBUGREGS = 50,
    XSAVE = 55,
    XCRS = 56,
    MAX_VCPUS = 66,
    TSC_DEADLINE_TIMER = 72,
    KVMCLOCK_CTRL = 76,
    SIGNAL_MSI = 77,
    VCPU_ATTRIBUTES = 127,
    IMMEDIATE_EXIT = 136,

    /// <summary>The size in bytes of a vCPU's XSAVE state.</summary>
    XSAVE2 = 208,
}
