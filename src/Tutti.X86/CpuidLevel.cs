namespace Tutti.X86;

/// <summary>
/// A level that hosts have in common, and the whole of what CPUID shows for it: nothing here but the vendor comes from the
/// host. Sources: x86-64 psABI, "x86-64-v" levels; Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E.
/// </summary>
internal sealed class CpuidLevel
{
    /// <summary>The fewest that processors of level 3 have (Intel's for desktops and laptops).</summary>
    internal const int PhysicalBits = 39;

    private const int LinearBits = 48;

    /// <summary>What the psABI asks for at level 2, and what guests expect of a PC with such a processor.</summary>
    private const string Features2 =
        "FPU DE PSE TSC MSR PAE CMPXCHG8B APIC SEP MTRR PGE CMOV PAT PSE-36 CLFLUSH MMX FXSR SSE SSE2 "
        + "SSE3 SSSE3 CMPXCHG16B SSE4.1 SSE4.2 X2APIC POPCNT TSC-DEADLINE ARAT "
        + "LAHF64 SYSCALL NX RDTSCP LM "
        + "KVM_CLOCKSOURCE KVM_NOP_IO_DELAY KVM_CLOCKSOURCE2 KVM_CLOCKSOURCE_STABLE";

    /// <summary>What the psABI asks for at level 3, and what Intel's first such processor (Haswell) and AMD's first Zen both have besides.</summary>
    private const string Features3 = Features2
        + " FMA MOVBE XSAVE AVX F16C BMI1 AVX2 BMI2 LZCNT XCR0.X87 XCR0.SSE XCR0.AVX "
        + "PCLMULQDQ AES RDRAND FSGSBASE SMEP XSAVEOPT PAGE1GB";

    // Bits of leaf 1 EDX that AMD repeats in leaf 80000001h.
    private const uint RepeatedEdx = 0x0183_F3FF;

    private const uint MaxBasicLeaf = CpuidLeaf.ProcessorFrequency;

    /// <summary>XSAVE area without extensions: legacy region and header (Intel SDM volume 1, 13.4).</summary>
    private const uint XsaveLegacySize = 576;

    /// <summary>The upper halves of YMM0 to YMM15.</summary>
    private const uint AvxStateSize = 256;

    /// <summary>Zen 1, stepping 2: guests then work around what any AMD host might need.</summary>
    private const uint AmdSignature = 0x0080_0F12;

    /// <summary>L1 data, L1 instruction, L2, L3 in the layout of leaf 4: 32 KiB, 32 KiB, 512 KiB, 16 MiB of 64-byte lines.</summary>
    private static readonly CpuidResult[] Caches =
    [
        new(0x121, (7u << 22) | 63, 63, 0),
        new(0x122, (7u << 22) | 63, 63, 0),
        new(0x143, (7u << 22) | 63, 1023, 2),
        new(0x163, (15u << 22) | 63, 16383, 1),
    ];

    private readonly CpuidMasks _masks;
    private readonly CpuFeature[] _features;
    private readonly string _brand;
    private readonly uint _intelSignature;

    private CpuidLevel(string features, string brand, uint intelSignature)
    {
        _features = [.. features.Split(' ').Select(CpuFeatures.Get)];
        _masks = new(_features);
        _brand = brand;
        _intelSignature = intelSignature;
    }

    /// <summary>On Intel it looks like a Nehalem-EP.</summary>
    internal static CpuidLevel V2 { get; } = new(Features2, "Tutti x86-64-v2 CPU", 0x0001_06A5);

    /// <summary>On Intel it looks like a Haswell.</summary>
    internal static CpuidLevel V3 { get; } = new(Features3, "Tutti x86-64-v3 CPU", 0x0003_06C3);

    internal IEnumerable<string> FindMissing(CpuidEntry[] supported, bool hasTscDeadline)
    {
        CpuidVendor vendor = CpuidVendor.Of(supported);
        if (vendor != CpuidVendor.Amd && vendor != CpuidVendor.Intel)
        {
            yield return "a processor of AMD or Intel";
        }

        foreach (CpuFeature feature in _features)
        {
            uint word = CpuidTable.Query(supported, feature.Leaf, feature.Subleaf)[feature.Register];
            if ((word & feature.Mask) == 0 && !(hasTscDeadline && feature.Name == "TSC-DEADLINE"))
            {
                yield return feature.Name;
            }
        }

        uint bits = CpuidTable.Query(supported, CpuidLeaf.AddressSizes, 0).Eax & 0xFF;
        if (bits < PhysicalBits)
        {
            yield return $"{PhysicalBits} physical address bits";
        }
    }

    internal CpuidEntry[] Build(CpuidVendor vendor, in CpuidProcessor processor)
    {
        bool amd = vendor.HasAmdLeaves;
        List<CpuidEntry> table =
        [
            new(CpuidLeaf.Vendor, vendor.Row(MaxBasicLeaf)),
            new(CpuidLeaf.Features, BuildFeatures(amd, processor)),
            new(CpuidLeaf.PowerManagement, _masks.Of(CpuidLeaf.PowerManagement, 0)),
            new(CpuidLeaf.ExtendedFeatures, 0, _masks.Of(CpuidLeaf.ExtendedFeatures, 0)),
            .. processor.TopologyRows(),
            .. BuildXsave(),
            .. processor.FrequencyRows(),
            new(CpuidLeaf.Hypervisor, CpuidText.KvmSignature),
            new(CpuidLeaf.KvmFeatures, _masks.Of(CpuidLeaf.KvmFeatures, 0)),
            .. Enumerable.Range(0, 3).Select(part => new CpuidEntry(CpuidLeaf.Brand0 + (uint)part, CpuidText.Brand(_brand, part))),
            .. amd ? BuildAmd(vendor, processor) : BuildIntel(processor),
        ];
        return HostCpuid.Order(table);
    }

    private CpuidResult BuildFeatures(bool amd, in CpuidProcessor processor) => new(
        amd ? AmdSignature : _intelSignature,
        processor.LegacyTopology,
        _masks.Of(CpuidLeaf.Features, 0, CpuidRegister.Ecx) | CpuFeatures.Get("HYPERVISOR").Mask,
        _masks.Of(CpuidLeaf.Features, 0, CpuidRegister.Edx) | (processor.ProcessorCount > 1 ? CpuFeatures.Get("HTT").Mask : 0));

    private IEnumerable<CpuidEntry> BuildXsave()
    {
        uint xcr0 = _masks.Of(CpuidLeaf.Xsave, 0, CpuidRegister.Eax);
        return xcr0 == 0 ? [] :
        [
            new(CpuidLeaf.Xsave, 0, new CpuidResult(xcr0, XsaveLegacySize, XsaveLegacySize + AvxStateSize, 0)),
            new(CpuidLeaf.Xsave, 1, _masks.Of(CpuidLeaf.Xsave, 1)),
            new(CpuidLeaf.Xsave, 2, new CpuidResult(AvxStateSize, XsaveLegacySize, 0, 0)),
        ];
    }

    private List<CpuidEntry> BuildIntel(CpuidProcessor processor)
    {
        CpuidResult extended = _masks.Of(CpuidLeaf.ExtendedSignature, 0);
        return
        [
            // Descriptor FFh: "see leaf 4".
            new(CpuidLeaf.CacheDescriptors, new CpuidResult(0xFF01, 0, 0, 0)),
            .. Caches.Select((cache, i) => new CpuidEntry(CpuidLeaf.Caches, (uint)i, processor.ShareCache(cache, countCores: true))),
            new(CpuidLeaf.ExtendedVendor, new CpuidResult(CpuidLeaf.AddressSizes, 0, 0, 0)),
            new(CpuidLeaf.ExtendedSignature, extended),
            // L2: 512 KiB, 8 ways, 64-byte lines.
            new(CpuidLeaf.AmdL2Caches, new CpuidResult(0, 0, 0x0200_6040, 0)),
            new(CpuidLeaf.AddressSizes, new CpuidResult((LinearBits << 8) | PhysicalBits, 0, 0, 0)),
        ];
    }

    private List<CpuidEntry> BuildAmd(CpuidVendor vendor, CpuidProcessor processor)
    {
        CpuidResult extended = _masks.Of(CpuidLeaf.ExtendedSignature, 0);
        uint repeated = _masks.Of(CpuidLeaf.Features, 0, CpuidRegister.Edx) & RepeatedEdx;
        uint legacy = processor.ProcessorCount > 1 ? CpuFeatures.Get("CMPLEGACY").Mask : 0;
        return
        [
            new(CpuidLeaf.ExtendedVendor, vendor.Row(CpuidLeaf.AddressSizes)),
            new(CpuidLeaf.ExtendedSignature, new CpuidResult(AmdSignature, 0, extended.Ecx | legacy, extended.Edx | repeated)),
            // L1 TLBs and caches: 32 KiB, 8 ways, 64-byte lines.
            new(CpuidLeaf.AmdL1Caches, new CpuidResult(0xFF40_FF40, 0xFF40_FF40, 0x2008_0140, 0x2008_0140)),
            // L2: 512 KiB, 8 ways; L3: 16 MiB, 16 ways.
            new(CpuidLeaf.AmdL2Caches, new CpuidResult(0x4200_4200, 0x4200_4200, 0x0200_6140, 0x0080_8140)),
            new(CpuidLeaf.AddressSizes, new CpuidResult((LinearBits << 8) | PhysicalBits, 0, processor.AmdCoreCount, 0)),
        ];
    }
}
