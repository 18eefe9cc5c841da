namespace Tutti.X86;

/// <summary>
/// What the model "host" shows: all that the engine supports, less what no guest of ours can have, with the topology of its
/// machine in place of the host's.
/// </summary>
internal static class HostCpuid
{
    /// <summary>
    /// Not for guests: nested virtualization, performance counters and traces, power and thermal control, MONITOR, enclaves,
    /// key storage, cache partitions; the bits that follow a vCPU's state; and offers of KVM that need the VMM's help.
    /// </summary>
    private static readonly CpuidMasks Denied = CpuFeatures.MasksOf(
        "DTES64 MONITOR DS-CPL VMX SMX EIST TM2 CNXT-ID SDBG XTPR PDCM DCA OSXSAVE PSN DS ACPI HTT TM PBE "
        + "SGX RDT-M RDT-A PT TME_EN OSPKE KL ENQCMD SGX_LC SGX-KEYS UINTR HYBRID PCONFIG ARCH_LBR CORE_CAPABILITIES "
        + "ARCHPERFMONEXT HRESET MSRLIST UIRET_UIF CMPLEGACY SVM EXTAPICSPACE IBS SKINIT WDT LWP NODEID_MSR "
        + "PERFCTR_CORE PERFCTR_NB PERFTSC PERFCTR_LLC MONITORX INSTRETCNT INVLPGB RDPRU MBE MCOMMIT PPIN CPPC BRANCH_SAMPLING "
        + "KVM_MSI_EXT_DEST_ID KVM_HC_MAP_GPA_RANGE KVM_MIGRATION_CONTROL");

    private static readonly CpuidMasks Tiles = CpuFeatures.MasksOf(
        "AMX-BF16 AMX-TILE AMX-INT8 AMX-FP16 AMX-COMPLEX XCR0.TILECFG XCR0.TILEDATA XFD");

    /// <summary>Supervisor states that go with the denied features are not offered either: what stays is CET's.</summary>
    private const uint SupervisorStates = 1u << 11 | 1u << 12;

    private const uint XsaveLegacySize = 576;
    private const uint MinExtendedLeaf = CpuidLeaf.AddressSizes;

    /// <summary>Whether no guest of ours can have the feature, whatever the engine offers.</summary>
    internal static bool Denies(CpuFeature feature) => (Denied.Of(feature.Leaf, feature.Subleaf, feature.Register) & feature.Mask) != 0;

    internal static CpuidEntry[] Build(CpuidEntry[] supported, in CpuidProcessor processor)
    {
        CpuidVendor vendor = CpuidVendor.Of(supported);
        uint maxLeaf = CpuidTable.Query(supported, CpuidLeaf.Vendor, 0).Eax;
        bool hasTiles = HasTiles(supported);
        bool hasTopologyExtensions = (CpuidTable.Query(supported, CpuidLeaf.ExtendedSignature, 0).Ecx & CpuFeatures.Get("TOPOEXT").Mask) != 0;
        CpuidResult signature = CpuidTable.Query(supported, CpuidLeaf.ExtendedVendor, 0);
        List<CpuidEntry> table =
        [
            new(CpuidLeaf.Vendor, vendor.Row(Math.Max(maxLeaf, CpuidLeaf.ProcessorFrequency))),
            new(CpuidLeaf.Features, BuildFeatures(supported, processor)),
            .. processor.TopologyRows(),
            .. BuildXsave(supported),
            .. processor.FrequencyRows(),
            new(CpuidLeaf.Hypervisor, CpuidText.KvmSignature),
            new(CpuidLeaf.ExtendedVendor, signature with { Eax = Math.Max(signature.Eax, MinExtendedLeaf) }),
            new(CpuidLeaf.AmdTopology, hasTopologyExtensions ? new CpuidResult(processor.ApicId, processor.ApicId & 0xFF, 0, 0) : default),
        ];
        foreach (CpuidEntry entry in supported.DistinctBy(row => (row.Leaf, row.HasSubleaf ? row.Subleaf : 0)))
        {
            CpuidResult result = Allow(entry, hasTiles);
            table.Add(entry.With(entry.Leaf switch
            {
                CpuidLeaf.Caches => processor.ShareCache(result, countCores: true),
                CpuidLeaf.ExtendedSignature when vendor.HasAmdLeaves && processor.ProcessorCount > 1 => result with { Ecx = result.Ecx | CpuFeatures.Get("CMPLEGACY").Mask },
                CpuidLeaf.AddressSizes => result with { Ecx = vendor.HasAmdLeaves ? processor.AmdCoreCount : 0, Edx = 0 },
                CpuidLeaf.AmdCaches when hasTopologyExtensions => processor.ShareCache(result, countCores: false),
                CpuidLeaf.AmdCaches => default,
                _ => result,
            }));
        }

        return Order(table);
    }

    /// <summary>The order of the numbers; rows of zeros say nothing that their absence would not.</summary>
    internal static CpuidEntry[] Order(IEnumerable<CpuidEntry> table) =>
        [.. table.Where(row => row.Result != default).DistinctBy(row => (row.Leaf, row.Subleaf)).OrderBy(row => row.Leaf).ThenBy(row => row.Subleaf)];

    private static CpuidResult BuildFeatures(CpuidEntry[] supported, in CpuidProcessor processor)
    {
        CpuidResult result = CpuidTable.Query(supported, CpuidLeaf.Features, 0);
        uint ecx = (result.Ecx & ~Denied.Of(CpuidLeaf.Features, 0, CpuidRegister.Ecx)) | CpuFeatures.Get("HYPERVISOR").Mask;
        ecx |= processor.HasTscDeadline ? CpuFeatures.Get("TSC-DEADLINE").Mask : 0;
        uint edx = result.Edx & ~Denied.Of(CpuidLeaf.Features, 0, CpuidRegister.Edx);
        edx |= processor.ProcessorCount > 1 ? CpuFeatures.Get("HTT").Mask : 0;
        return new(result.Eax, processor.LegacyTopology, ecx, edx);
    }

    /// <summary>What of a row, of a leaf that is not built anew, a guest may see.</summary>
    private static CpuidResult Allow(CpuidEntry entry, bool hasTiles)
    {
        uint subleaf = entry.HasSubleaf ? entry.Subleaf : 0;
        CpuidResult result = Clear(entry.Result, Denied.Of(entry.Leaf, subleaf));
        result = hasTiles ? result : Clear(result, Tiles.Of(entry.Leaf, subleaf));
        return entry.Leaf switch
        {
            // Built anew, for our topology and frequencies.
            CpuidLeaf.Vendor or CpuidLeaf.Features or CpuidLeaf.Topology or CpuidLeaf.TopologyV2 or CpuidLeaf.Xsave
                or CpuidLeaf.TscFrequency or CpuidLeaf.ProcessorFrequency or CpuidLeaf.Hypervisor or CpuidLeaf.HypervisorFrequency
                or CpuidLeaf.ExtendedVendor or CpuidLeaf.AmdTopology or CpuidLeaf.AmdTopologyV2 => default,
            // Of what is denied.
            CpuidLeaf.Monitor or CpuidLeaf.DirectCacheAccess or CpuidLeaf.PerformanceMonitoring or CpuidLeaf.ResourceMonitoring
                or CpuidLeaf.ResourceAllocation or CpuidLeaf.SoftwareGuard or CpuidLeaf.ProcessorTrace or CpuidLeaf.SystemOnChip
                or CpuidLeaf.KeyLocker or CpuidLeaf.HybridInformation or CpuidLeaf.PlatformConfiguration or CpuidLeaf.LastBranchRecords
                or CpuidLeaf.TrustDomain or CpuidLeaf.PerformanceMonitoringExtended or CpuidLeaf.SecureVirtualMachine
                or CpuidLeaf.InstructionSampling or CpuidLeaf.LightweightProfiling or CpuidLeaf.EncryptedMemory
                or CpuidLeaf.AmdResourceControl or CpuidLeaf.AmdPerformanceMonitoring or CpuidLeaf.AmdMultiKeyEncryption
                or CpuidLeaf.SegmentedReverseMap => default,
            CpuidLeaf.TileInformation or CpuidLeaf.TileMultiply when !hasTiles => default,
            CpuidLeaf.PowerManagement => new(result.Eax & CpuFeatures.Get("ARAT").Mask, 0, 0, 0),
            CpuidLeaf.AdvancedPower => new(0, 0, 0, result.Edx & CpuFeatures.Get("INVARIANT_TSC").Mask),
            _ => result,
        };
    }

    private static CpuidResult Clear(CpuidResult result, CpuidResult mask) =>
        new(result.Eax & ~mask.Eax, result.Ebx & ~mask.Ebx, result.Ecx & ~mask.Ecx, result.Edx & ~mask.Edx);

    /// <summary>
    /// Whether AMX can be shown: KVM lists its instructions even where the process has not asked the kernel for the state
    /// (ARCH_REQ_XCOMP_GUEST_PERM), and then not the state.
    /// </summary>
    private static bool HasTiles(CpuidEntry[] supported)
    {
        uint needed = Tiles.Of(CpuidLeaf.Xsave, 0, CpuidRegister.Eax);
        return (CpuidTable.Query(supported, CpuidLeaf.Xsave, 0).Eax & needed) == needed
            && CpuidTable.Query(supported, CpuidLeaf.Xsave, 17).Eax != 0
            && CpuidTable.Query(supported, CpuidLeaf.Xsave, 18).Eax != 0
            && CpuidTable.Query(supported, CpuidLeaf.TileInformation, 0).Eax != 0;
    }

    /// <summary>Leaf 0Dh: the states that stay, and the area's size with them all; nothing without XSAVE.</summary>
    private static List<CpuidEntry> BuildXsave(CpuidEntry[] supported)
    {
        List<CpuidEntry> rows = [];
        if ((CpuidTable.Query(supported, CpuidLeaf.Features, 0).Ecx & CpuFeatures.Get("XSAVE").Mask) == 0)
        {
            return rows;
        }

        bool hasTiles = HasTiles(supported);
        CpuidResult user = CpuidTable.Query(supported, CpuidLeaf.Xsave, 0);
        CpuidResult features = CpuidTable.Query(supported, CpuidLeaf.Xsave, 1);
        uint xcr0 = user.Eax & ~(hasTiles ? 0 : Tiles.Of(CpuidLeaf.Xsave, 0, CpuidRegister.Eax));
        uint supervisor = features.Ecx & SupervisorStates;
        uint size = XsaveLegacySize;
        for (int state = 2; state < 32; state++)
        {
            CpuidResult component = CpuidTable.Query(supported, CpuidLeaf.Xsave, (uint)state);
            if (((xcr0 | supervisor) >> state & 1) == 0)
            {
                continue;
            }

            rows.Add(new(CpuidLeaf.Xsave, (uint)state, component));
            size = (xcr0 >> state & 1) != 0 ? Math.Max(size, component.Ebx + component.Eax) : size;
        }

        rows.Add(new(CpuidLeaf.Xsave, 0, new CpuidResult(xcr0, XsaveLegacySize, size, 0)));
        uint denied = hasTiles ? 0 : Tiles.Of(CpuidLeaf.Xsave, 1, CpuidRegister.Eax);
        rows.Add(new(CpuidLeaf.Xsave, 1, new CpuidResult(features.Eax & ~denied, features.Ebx, supervisor, 0)));
        return rows;
    }
}
