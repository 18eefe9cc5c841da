namespace Tutti.X86;

/// <summary>One bit by which CPUID says that the processor can do something, with the manuals' short name for it.</summary>
public readonly record struct CpuFeature(uint Leaf, uint Subleaf, CpuidRegister Register, int Bit, string Name)
{
    public uint Mask => 1u << Bit;
}

/// <summary>
/// The feature bits of CPUID by name. Sources: Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E; for leaf
/// 40000001h Linux Documentation/virt/kvm/x86/cpuid.rst.
/// </summary>
public static class CpuFeatures
{
    /// <summary>Names from bit 0 up; "-" for a bit that is reserved, no feature, or has its name elsewhere.</summary>
    private static readonly (uint Leaf, uint Subleaf, CpuidRegister Register, string Names)[] Words =
    [
        (CpuidLeaf.Features, 0, CpuidRegister.Ecx,
            "SSE3 PCLMULQDQ DTES64 MONITOR DS-CPL VMX SMX EIST TM2 SSSE3 CNXT-ID SDBG FMA CMPXCHG16B XTPR PDCM "
            + "- PCID DCA SSE4.1 SSE4.2 X2APIC MOVBE POPCNT TSC-DEADLINE AES XSAVE OSXSAVE AVX F16C RDRAND HYPERVISOR"),
        (CpuidLeaf.Features, 0, CpuidRegister.Edx,
            "FPU VME DE PSE TSC MSR PAE MCE CMPXCHG8B APIC - SEP MTRR PGE MCA CMOV "
            + "PAT PSE-36 PSN CLFLUSH - DS ACPI MMX FXSR SSE SSE2 SS HTT TM - PBE"),
        (CpuidLeaf.PowerManagement, 0, CpuidRegister.Eax, "DTS TURBO ARAT - PLN ECMD PTM HWP"),
        (CpuidLeaf.ExtendedFeatures, 0, CpuidRegister.Ebx,
            "FSGSBASE TSC_ADJUST SGX BMI1 HLE AVX2 FDP_EXCPTN_ONLY SMEP BMI2 ERMS INVPCID RTM RDT-M ZERO_FCS_FDS MPX RDT-A "
            + "AVX512F AVX512DQ RDSEED ADX SMAP AVX512_IFMA - CLFLUSHOPT CLWB PT AVX512PF AVX512ER AVX512CD SHA AVX512BW AVX512VL"),
        (CpuidLeaf.ExtendedFeatures, 0, CpuidRegister.Ecx,
            "PREFETCHWT1 AVX512_VBMI UMIP PKU OSPKE WAITPKG AVX512_VBMI2 CET_SS GFNI VAES VPCLMULQDQ AVX512_VNNI AVX512_BITALG "
            + "TME_EN AVX512_VPOPCNTDQ - LA57 - - - - - RDPID KL BUS_LOCK_DETECT CLDEMOTE - MOVDIRI MOVDIR64B ENQCMD SGX_LC PKS"),
        (CpuidLeaf.ExtendedFeatures, 0, CpuidRegister.Edx,
            "- SGX-KEYS AVX512_4VNNIW AVX512_4FMAPS FSRM UINTR - - AVX512_VP2INTERSECT SRBDS_CTRL MD_CLEAR RTM_ALWAYS_ABORT - "
            + "RTM_FORCE_ABORT SERIALIZE HYBRID TSXLDTRK - PCONFIG ARCH_LBR CET_IBT - AMX-BF16 AVX512_FP16 AMX-TILE AMX-INT8 "
            + "IBRS_IBPB STIBP L1D_FLUSH ARCH_CAPABILITIES CORE_CAPABILITIES SSBD"),
        (CpuidLeaf.ExtendedFeatures, 1, CpuidRegister.Eax,
            "SHA512 SM3 SM4 RAO-INT AVX-VNNI AVX512_BF16 LASS CMPCCXADD ARCHPERFMONEXT - FZRM FSRS FSRCS - - - "
            + "- FRED LKGS WRMSRNS NMI_SRC AMX-FP16 HRESET AVX-IFMA - - LAM MSRLIST - - INVD_DISABLE MOVRS"),
        (CpuidLeaf.ExtendedFeatures, 1, CpuidRegister.Edx,
            "- - - - AVX-VNNI-INT8 AVX-NE-CONVERT - - AMX-COMPLEX - AVX-VNNI-INT16 - - - PREFETCHI USER_MSR "
            + "- UIRET_UIF CET_SSS AVX10 - APX_F"),
        (CpuidLeaf.Xsave, 0, CpuidRegister.Eax,
            "XCR0.X87 XCR0.SSE XCR0.AVX XCR0.BNDREGS XCR0.BNDCSR XCR0.OPMASK XCR0.ZMM_HI256 XCR0.HI16_ZMM "
            + "- XCR0.PKRU - - - - - - - XCR0.TILECFG XCR0.TILEDATA"),
        (CpuidLeaf.Xsave, 1, CpuidRegister.Eax, "XSAVEOPT XSAVEC XGETBV_ECX1 XSAVES XFD"),
        (CpuidLeaf.KvmFeatures, 0, CpuidRegister.Eax,
            "KVM_CLOCKSOURCE KVM_NOP_IO_DELAY KVM_MMU_OP KVM_CLOCKSOURCE2 KVM_ASYNC_PF KVM_STEAL_TIME KVM_PV_EOI KVM_PV_UNHALT "
            + "- KVM_PV_TLB_FLUSH KVM_ASYNC_PF_VMEXIT KVM_PV_SEND_IPI KVM_POLL_CONTROL KVM_PV_SCHED_YIELD KVM_ASYNC_PF_INT "
            + "KVM_MSI_EXT_DEST_ID KVM_HC_MAP_GPA_RANGE KVM_MIGRATION_CONTROL - - - - - - KVM_CLOCKSOURCE_STABLE"),
        (CpuidLeaf.ExtendedSignature, 0, CpuidRegister.Ecx,
            "LAHF64 CMPLEGACY SVM EXTAPICSPACE ALTMOVCR8 LZCNT SSE4A MISALIGNSSE 3DNOWPREFETCH OSVW IBS XOP SKINIT WDT - LWP "
            + "FMA4 TCE - NODEID_MSR - TBM TOPOEXT PERFCTR_CORE PERFCTR_NB - DATA_BREAK_EXT PERFTSC PERFCTR_LLC MONITORX ADDRMASKEXT"),
        (CpuidLeaf.ExtendedSignature, 0, CpuidRegister.Edx,
            "- - - - - - - - - - - SYSCALL - - - - - - - MP NX - MMXEXT - - FFXSR PAGE1GB RDTSCP - LM 3DNOWEXT 3DNOW"),
        (CpuidLeaf.AdvancedPower, 0, CpuidRegister.Edx,
            "TS FID VID TTP THERMTRIP STC STEPS100MHZ HWPSTATE INVARIANT_TSC CPB"),
        (CpuidLeaf.AddressSizes, 0, CpuidRegister.Ebx,
            "CLZERO INSTRETCNT RSTRFPERRPTRS INVLPGB RDPRU - MBE - MCOMMIT WBNOINVD - - IBPB INT_WBINVD IBRS AMD_STIBP "
            + "IBRS_ALWAYS_ON STIBP_ALWAYS_ON IBRS_PREFERRED IBRS_SAME_MODE EFER_LMSLE_UNSUPPORTED INVLPGB_NESTED - PPIN "
            + "AMD_SSBD SSBD_VIRT SSB_NO CPPC PSFD BTC_NO IBPB_RET BRANCH_SAMPLING"),
        (CpuidLeaf.AmdExtendedFeatures, 0, CpuidRegister.Eax,
            "NO_NESTED_DATA_BP FSGS_NON_SERIALIZING LFENCE_SERIALIZING SMM_PGCFG_LOCK - VERW_CLEAR NULL_CLEARS_BASE "
            + "UPPER_ADDRESS_IGNORE AUTOMATIC_IBRS NO_SMM_CTL_MSR AMD_FSRS AMD_FSRC - PREFETCHCTL_MSR - - - CPUID_USER_DIS EPSF "
            + "- - - - - - - - SBPB IBPB_BRTYPE SRSO_NO SRSO_USER_KERNEL_NO SRSO_MSR_FIX"),
    ];

    private static readonly Dictionary<string, CpuFeature> ByName = Words.SelectMany(Name).ToDictionary(f => f.Name, StringComparer.Ordinal);

    public static IReadOnlyCollection<CpuFeature> All => ByName.Values;

    /// <exception cref="KeyNotFoundException">No feature has this name.</exception>
    public static CpuFeature Get(string name) => ByName[name];

    /// <summary>Puts features together into masks, one for each register of a leaf.</summary>
    internal static CpuidMasks MasksOf(string names) =>
        new(names.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(Get));

    private static IEnumerable<CpuFeature> Name((uint Leaf, uint Subleaf, CpuidRegister Register, string Names) word) => word.Names
        .Split(' ')
        .Select((name, bit) => new CpuFeature(word.Leaf, word.Subleaf, word.Register, bit, name))
        .Where(feature => feature.Name != "-");
}

/// <summary>A set of features, as masks of the registers they are in.</summary>
internal sealed class CpuidMasks(IEnumerable<CpuFeature> features)
{
    private readonly Dictionary<(uint Leaf, uint Subleaf, CpuidRegister Register), uint> _masks = features
        .GroupBy(f => (f.Leaf, f.Subleaf, f.Register))
        .ToDictionary(word => word.Key, word => word.Aggregate(0u, (mask, feature) => mask | feature.Mask));

    internal uint Of(uint leaf, uint subleaf, CpuidRegister register) => _masks.GetValueOrDefault((leaf, subleaf, register));

    internal CpuidResult Of(uint leaf, uint subleaf) => new(
        Of(leaf, subleaf, CpuidRegister.Eax),
        Of(leaf, subleaf, CpuidRegister.Ebx),
        Of(leaf, subleaf, CpuidRegister.Ecx),
        Of(leaf, subleaf, CpuidRegister.Edx));
}
