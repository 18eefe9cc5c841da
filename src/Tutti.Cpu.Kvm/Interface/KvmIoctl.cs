namespace Tutti.Cpu.Kvm;

/// <summary>Requests of KVM's ioctls on x86-64. Source: Linux include/uapi/linux/kvm.h; Documentation/virt/kvm/api.rst.</summary>
internal static class KvmIoctl
{
    internal const int KVM_API_VERSION = 12;

    // On /dev/kvm.
    internal const uint KVM_GET_API_VERSION = 0xAE00;
    internal const uint KVM_CREATE_VM = 0xAE01;
    internal const uint KVM_GET_MSR_INDEX_LIST = 0xC004_AE02;
    internal const uint KVM_CHECK_EXTENSION = 0xAE03;
    internal const uint KVM_GET_VCPU_MMAP_SIZE = 0xAE04;
    internal const uint KVM_GET_SUPPORTED_CPUID = 0xC008_AE05;

    // On a VM.
    internal const uint KVM_CREATE_VCPU = 0xAE41;
    internal const uint KVM_SET_USER_MEMORY_REGION = 0x4020_AE46;
    internal const uint KVM_SET_TSS_ADDR = 0xAE47;
    internal const uint KVM_SET_IDENTITY_MAP_ADDR = 0x4008_AE48;
    internal const uint KVM_CREATE_IRQCHIP = 0xAE60;
    internal const uint KVM_IRQ_LINE = 0x4008_AE61;
    internal const uint KVM_SET_GSI_ROUTING = 0x4008_AE6A;
    internal const uint KVM_IRQFD = 0x4020_AE76;
    internal const uint KVM_CREATE_PIT2 = 0x4040_AE77;
    internal const uint KVM_IOEVENTFD = 0x4040_AE79;
    internal const uint KVM_SET_CLOCK = 0x4030_AE7B;
    internal const uint KVM_GET_CLOCK = 0x8030_AE7C;
    internal const uint KVM_SIGNAL_MSI = 0x4020_AEA5;

    // On a vCPU.
    internal const uint KVM_RUN = 0xAE80;
    internal const uint KVM_GET_REGS = 0x8090_AE81;
    internal const uint KVM_SET_REGS = 0x4090_AE82;
    internal const uint KVM_GET_SREGS = 0x8138_AE83;
    internal const uint KVM_SET_SREGS = 0x4138_AE84;
    internal const uint KVM_GET_MSRS = 0xC008_AE88;
    internal const uint KVM_SET_MSRS = 0x4008_AE89;
    internal const uint KVM_SET_CPUID2 = 0x4008_AE90;
    internal const uint KVM_GET_MP_STATE = 0x8004_AE98;
    internal const uint KVM_SET_MP_STATE = 0x4004_AE99;
    internal const uint KVM_GET_VCPU_EVENTS = 0x8040_AE9F;
    internal const uint KVM_SET_VCPU_EVENTS = 0x4040_AEA0;
    internal const uint KVM_GET_DEBUGREGS = 0x8080_AEA1;
    internal const uint KVM_SET_DEBUGREGS = 0x4080_AEA2;
    internal const uint KVM_GET_TSC_KHZ = 0xAEA3;
    internal const uint KVM_GET_XSAVE = 0x9000_AEA4;
    internal const uint KVM_SET_XSAVE = 0x5000_AEA5;
    internal const uint KVM_GET_XCRS = 0x8188_AEA6;
    internal const uint KVM_SET_XCRS = 0x4188_AEA7;
    internal const uint KVM_KVMCLOCK_CTRL = 0xAEAD;
    internal const uint KVM_GET_XSAVE2 = 0x9000_AECF;
    internal const uint KVM_SET_DEVICE_ATTR = 0x4018_AEE1;
    internal const uint KVM_GET_DEVICE_ATTR = 0x4018_AEE2;
    internal const uint KVM_HAS_DEVICE_ATTR = 0x4018_AEE3;
}
