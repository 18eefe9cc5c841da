namespace Tutti.X86;

/// <summary>
/// Numbers of CPUID leaves. Sources: Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E; Linux
/// Documentation/virt/kvm/x86/cpuid.rst.
/// </summary>
public static class CpuidLeaf
{
    public const uint Vendor = 0;
    public const uint Features = 1;
    public const uint CacheDescriptors = 2;
    public const uint Caches = 4;
    public const uint Monitor = 5;
    public const uint PowerManagement = 6;
    public const uint ExtendedFeatures = 7;
    public const uint DirectCacheAccess = 9;
    public const uint PerformanceMonitoring = 0xA;
    public const uint Topology = 0xB;
    public const uint Xsave = 0xD;
    public const uint ResourceMonitoring = 0xF;
    public const uint ResourceAllocation = 0x10;
    public const uint SoftwareGuard = 0x12;
    public const uint ProcessorTrace = 0x14;
    public const uint TscFrequency = 0x15;
    public const uint ProcessorFrequency = 0x16;
    public const uint SystemOnChip = 0x17;
    public const uint KeyLocker = 0x19;
    public const uint HybridInformation = 0x1A;
    public const uint PlatformConfiguration = 0x1B;
    public const uint LastBranchRecords = 0x1C;
    public const uint TileInformation = 0x1D;
    public const uint TileMultiply = 0x1E;
    public const uint TopologyV2 = 0x1F;
    public const uint TrustDomain = 0x21;
    public const uint PerformanceMonitoringExtended = 0x23;

    public const uint Hypervisor = 0x4000_0000;
    public const uint KvmFeatures = 0x4000_0001;

    /// <summary>TSC and APIC timer frequency in kHz: VMware's leaf, which guests of KVM read too.</summary>
    public const uint HypervisorFrequency = 0x4000_0010;

    public const uint ExtendedVendor = 0x8000_0000;
    public const uint ExtendedSignature = 0x8000_0001;
    public const uint Brand0 = 0x8000_0002;
    public const uint Brand2 = 0x8000_0004;
    public const uint AmdL1Caches = 0x8000_0005;
    public const uint AmdL2Caches = 0x8000_0006;
    public const uint AdvancedPower = 0x8000_0007;
    public const uint AddressSizes = 0x8000_0008;
    public const uint SecureVirtualMachine = 0x8000_000A;
    public const uint InstructionSampling = 0x8000_001B;
    public const uint LightweightProfiling = 0x8000_001C;
    public const uint AmdCaches = 0x8000_001D;
    public const uint AmdTopology = 0x8000_001E;
    public const uint EncryptedMemory = 0x8000_001F;
    public const uint AmdResourceControl = 0x8000_0020;
    public const uint AmdExtendedFeatures = 0x8000_0021;
    public const uint AmdPerformanceMonitoring = 0x8000_0022;
    public const uint AmdMultiKeyEncryption = 0x8000_0023;
    public const uint SegmentedReverseMap = 0x8000_0025;
    public const uint AmdTopologyV2 = 0x8000_0026;
}
