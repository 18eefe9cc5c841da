namespace Tutti.X86;

/// <summary>What CPUID answers depend on besides the leaf: the vCPU asking and its state.</summary>
/// <param name="ApicId">The vCPU's APIC ID.</param>
/// <param name="ProcessorCount">vCPUs in the machine.</param>
/// <param name="Cr4">The vCPU's CR4, for OSXSAVE and OSPKE.</param>
/// <param name="Xcr0">The vCPU's XCR0, for the size of the XSAVE area.</param>
/// <param name="HasApic">Whether IA32_APIC_BASE.EN is set: without it there is no local APIC to see.</param>
public readonly record struct CpuidContext(uint ApicId, int ProcessorCount, ulong Cr4, ulong Xcr0, bool HasApic = true);

/// <summary>
/// What CPUID says of the interpreter: all that it implements where its host has the units for it. Sources: AMD APM volume 3, appendix E;
/// Intel SDM volume 2, "CPUID"; Linux Documentation/virt/kvm/x86/cpuid.rst.
/// </summary>
public static class SoftwareCpuid
{
    private const uint MaxBasicLeaf = CpuidLeaf.ProcessorFrequency;
    private const uint MaxHypervisorLeaf = CpuidLeaf.HypervisorFrequency;
    private const uint MaxExtendedLeaf = CpuidLeaf.AmdExtendedFeatures;

    /// <summary>
    /// Family 1Ah, model 02h, stepping 0: young enough that Linux knows no erratum to work around and expects no
    /// microcode.
    /// </summary>
    private const uint Signature = 0x00B0_0F20;

    /// <summary>What the time-stamp counter runs at.</summary>
    public const uint FrequencyKilohertz = 1_000_000;

    private const string Brand = "Tutti Software CPU";

    /// <summary>Linear address bits.</summary>
    public const int LinearBits = 57;

    /// <summary>Physical address bits.</summary>
    public const int PhysicalBits = 40;

    /// <summary>Leaf 1 ECX: SSE3, PCLMULQDQ, SSSE3, FMA, CX16, PCID, SSE4.1, SSE4.2, x2APIC, MOVBE, POPCNT, TSC-deadline, AES, XSAVE, AVX, F16C, RDRAND, hypervisor.</summary>
    public const uint Features1Ecx = 1u << 0 | 1u << 1 | 1u << 9 | 1u << 12 | 1u << 13 | 1u << 17 | 1u << 19 | 1u << 20 | 1u << 21
        | 1u << 22 | 1u << 23 | 1u << 24 | 1u << 25 | 1u << 26 | 1u << 28 | 1u << 29 | 1u << 30 | 1u << 31;

    /// <summary>Leaf 1 EDX: FPU, VME, DE, PSE, TSC, MSR, PAE, CX8, APIC, SEP, MTRR, PGE, CMOV, PAT, PSE-36, CLFSH, MMX, FXSR, SSE, SSE2.</summary>
    public const uint Features1Edx = 1u << 0 | 1u << 1 | 1u << 2 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 6 | 1u << 8 | 1u << 9
        | 1u << 11 | 1u << 12 | 1u << 13 | 1u << 15 | 1u << 16 | 1u << 17 | 1u << 19 | 1u << 23 | 1u << 24 | 1u << 25 | 1u << 26;

    /// <summary>Leaf 7 EBX: FSGSBASE, BMI1, AVX2, SMEP, BMI2, ERMS, INVPCID, RDSEED, ADX, SMAP, CLFLUSHOPT, SHA.</summary>
    public const uint Features7Ebx = 1u << 0 | 1u << 3 | 1u << 5 | 1u << 7 | 1u << 8 | 1u << 9 | 1u << 10 | 1u << 18 | 1u << 19
        | 1u << 20 | 1u << 23 | 1u << 29;

    /// <summary>Leaf 7 ECX: UMIP, PKU, GFNI, VAES, VPCLMULQDQ, LA57, RDPID.</summary>
    public const uint Features7Ecx = 1u << 2 | PkuBit | 1u << 8 | 1u << 9 | 1u << 10 | 1u << 16 | 1u << 22;

    private const uint PkuBit = 1u << 3;

    private const uint OsPkeBit = 1u << 4;

    /// <summary>Leaf 7 EDX: FSRM.</summary>
    public const uint Features7Edx = 1u << 4;

    /// <summary>Leaf 80000001h ECX: LAHF in 64-bit mode, CmpLegacy, ABM (LZCNT), topology extensions.</summary>
    public const uint FeaturesExtendedEcx = 1u << 0 | 1u << 1 | 1u << 5 | 1u << 22;

    /// <summary>Leaf 80000001h EDX beside the bits that repeat leaf 1: SYSCALL, NX, 1 GiB pages, RDTSCP, long mode.</summary>
    public const uint FeaturesExtendedEdx = 1u << 11 | 1u << 20 | 1u << 26 | 1u << 27 | 1u << 29;

    // Bits of leaf 1 EDX that AMD repeats in leaf 80000001h.
    private const uint RepeatedEdx = 0x0183_F3FF;

    /// <summary>APIC, in leaf 1 EDX and where AMD repeats it.</summary>
    public const uint Apic = 1u << 9;

    /// <summary>Subleaves of a leaf at most, counted from 0.</summary>
    private const int MaxSubleaves = 10;

    /// <summary>The rows by which a <see cref="CpuModel"/> sees whether the interpreter has what it needs.</summary>
    public static IEnumerable<CpuidEntry> Supported
    {
        get
        {
            uint[] leaves =
            [
                .. Enumerable.Range(0, (int)MaxBasicLeaf + 1).Select(leaf => (uint)leaf),
                .. Enumerable.Range(0, (int)(MaxHypervisorLeaf - CpuidLeaf.Hypervisor) + 1).Select(leaf => CpuidLeaf.Hypervisor + (uint)leaf),
                .. Enumerable.Range(0, (int)(MaxExtendedLeaf - CpuidLeaf.ExtendedVendor) + 1).Select(leaf => CpuidLeaf.ExtendedVendor + (uint)leaf),
            ];
            var one = new CpuidContext(0, 1, 0, 3);
            return
            [
                .. leaves.Where(leaf => !HasSubleaves(leaf)).Select(leaf => new CpuidEntry(leaf, Query(leaf, 0, one))),
                .. leaves.Where(HasSubleaves).SelectMany(leaf => Enumerable.Range(0, MaxSubleaves).Select(i => new CpuidEntry(leaf, (uint)i, Query(leaf, (uint)i, one)))),
            ];
        }
    }

    private static bool HasSubleaves(uint leaf) =>
        leaf is CpuidLeaf.ExtendedFeatures or CpuidLeaf.Topology or CpuidLeaf.Xsave or CpuidLeaf.AmdCaches;

    /// <summary>Answers CPUID. Leaves that are not there answer zeros, as AMD processors do.</summary>
    public static CpuidResult Query(uint leaf, uint subleaf, in CpuidContext context) => leaf switch
    {
        <= MaxBasicLeaf => QueryBasic(leaf, subleaf, context),
        >= CpuidLeaf.Hypervisor and <= MaxHypervisorLeaf => QueryHypervisor(leaf),
        >= 0x8000_0000 and <= MaxExtendedLeaf => QueryExtended(leaf, subleaf, context),
        _ => default,
    };

    private static CpuidResult QueryBasic(uint leaf, uint subleaf, in CpuidContext context) => leaf switch
    {
        0 => CpuidVendor.Amd.Row(MaxBasicLeaf),
        1 => QueryFeatures(context),
        // ARAT: the local APIC timer runs on in every idle state.
        6 => new(1u << 2, 0, 0, 0),
        7 when subleaf == 0 => WithOsPke(new(0, Features7Ebx, Features7Ecx, Features7Edx), context.Cr4),
        0xB => QueryTopology(subleaf, context),
        0xD => QueryXsave(subleaf, context),
        // The TSC runs at its crystal's frequency.
        0x15 => new(1, 1, FrequencyKilohertz * 1000, 0),
        0x16 => new(FrequencyKilohertz / 1000, FrequencyKilohertz / 1000, 0, 0),
        _ => default,
    };

    private static CpuidResult QueryFeatures(in CpuidContext context)
    {
        uint osXsave = (context.Cr4 & Cr4.OsXsave) != 0 ? 1u << 27 : 0;
        uint multithreading = context.ProcessorCount > 1 ? 1u << 28 : 0;

        // EBX: APIC ID, logical processors, CLFLUSH line of 8 quadwords.
        uint ebx = (context.ApicId << 24) | ((uint)Math.Min(context.ProcessorCount, 255) << 16) | (8u << 8);
        return new(Signature, ebx, Features1Ecx | osXsave, (Features1Edx & ~HiddenApic(context)) | multithreading);
    }

    /// <summary>Leaf 7 with OSPKE, which says of PKU that CR4.PKE is set.</summary>
    public static CpuidResult WithOsPke(CpuidResult features, ulong cr4) =>
        features with { Ecx = features.Ecx | ((features.Ecx & PkuBit) != 0 && (cr4 & Cr4.ProtectionKeyEnable) != 0 ? OsPkeBit : 0) };

    private static uint HiddenApic(in CpuidContext context) => context.HasApic ? 0 : Apic;

    /// <summary>Leaf 0Bh: one thread a core, all cores in one package.</summary>
    private static CpuidResult QueryTopology(uint subleaf, in CpuidContext context) => subleaf switch
    {
        0 => new(0, 1, 0x100, context.ApicId),
        1 => new((uint)CpuidProcessor.CoreIdBitsFor(context.ProcessorCount), (uint)context.ProcessorCount, 0x201, context.ApicId),
        _ => new(0, 0, subleaf & 0xFF, context.ApicId),
    };

    /// <summary>Leaf 0Dh: x87, SSE, AVX and PKRU, and XSAVEOPT.</summary>
    private static CpuidResult QueryXsave(uint subleaf, in CpuidContext context) => subleaf switch
    {
        0 => new((uint)XsaveLayout.Supported, XsaveLayout.SizeOf(context.Xcr0), XsaveLayout.SizeOf(XsaveLayout.Supported), 0),
        1 => new(1, 0, 0, 0),
        2 => new(XsaveLayout.AvxSize, XsaveLayout.AvxOffset, 0, 0),
        9 => new(XsaveLayout.PkruSize, XsaveLayout.PkruOffset, 0, 0),
        _ => default,
    };

    /// <summary>The KVM signature: its clock is what lets guests calibrate nothing.</summary>
    private static CpuidResult QueryHypervisor(uint leaf) => leaf switch
    {
        CpuidLeaf.Hypervisor => CpuidText.KvmSignature,
        // Old and new clock MSRs, no delays after port I/O, clock stable across vCPUs.
        0x4000_0001 => new(1u << 0 | 1u << 1 | 1u << 3 | 1u << 24, 0, 0, 0),
        // TSC and APIC timer frequency in kHz.
        0x4000_0010 => new(FrequencyKilohertz, FrequencyKilohertz, 0, 0),
        _ => default,
    };

    private static CpuidResult QueryExtended(uint leaf, uint subleaf, in CpuidContext context) => leaf switch
    {
        0x8000_0000 => CpuidVendor.Amd.Row(MaxExtendedLeaf),
        0x8000_0001 => new(Signature, 0, FeaturesExtendedEcx, FeaturesExtendedEdx | (Features1Edx & RepeatedEdx & ~HiddenApic(context))),
        0x8000_0002 or 0x8000_0003 or 0x8000_0004 => CpuidText.Brand(Brand, (int)(leaf - CpuidLeaf.Brand0)),
        // L1 TLBs and caches: 32 KiB, 8 ways, 64-byte lines.
        0x8000_0005 => new(0xFF40_FF40, 0xFF40_FF40, 0x2008_0140, 0x2008_0140),
        // L2: 512 KiB, 8 ways; L3: 16 MiB, 16 ways.
        0x8000_0006 => new(0x4200_4200, 0x4200_4200, 0x0200_6140, 0x0080_8140),
        // The TSC is invariant.
        0x8000_0007 => new(0, 0, 0, 1u << 8),
        // EBX: no speculative store bypass.
        0x8000_0008 => new(((uint)LinearBits << 8) | PhysicalBits, 1u << 26, ((uint)CpuidProcessor.CoreIdBitsFor(context.ProcessorCount) << 12) | (uint)(context.ProcessorCount - 1), 0),
        0x8000_001D => QueryCache(subleaf, context),
        0x8000_001E => new(context.ApicId, context.ApicId & 0xFF, 0, 0),
        // LFENCE orders, null selectors clear the base, Automatic IBRS, not touched by SRSO or TSA: nothing here
        // runs ahead along predictions that guest code trains by its own addresses.
        0x8000_0021 => new(1u << 2 | 1u << 6 | 1u << 8 | 1u << 29 | 1u << 30, 0, 1u << 1 | 1u << 2, 0),
        _ => default,
    };

    private static CpuidResult QueryCache(uint subleaf, in CpuidContext context)
    {
        // Type and level; sets of 64-byte lines; the last level is shared by all.
        uint all = (uint)(context.ProcessorCount - 1) << 14;
        return subleaf switch
        {
            0 => new(0x121, (7u << 22) | 63, 63, 0),
            1 => new(0x122, (7u << 22) | 63, 63, 0),
            2 => new(0x143, (7u << 22) | 63, 1023, 2),
            3 => new(0x163 | all, (15u << 22) | 63, 16383, 1),
            _ => default,
        };
    }
}
