using System.Text;
using static Tutti.X86.Tests.CpuidTables;

namespace Tutti.X86.Tests;

public sealed class CpuModelTests
{
    private static readonly CpuModel[] Levels = [CpuModel.X8664V2, CpuModel.X8664V3];

    private static CpuidProcessor Processor(int count = 1, uint apicId = 0) =>
        new() { ApicId = apicId, ProcessorCount = count, TscKilohertz = 2_596_095, HasTscDeadline = true };

    private static CpuidEntry[] Build(CpuModel model, CpuidEntry[] supported, int count = 1, uint apicId = 0) =>
        model.Build(supported, Processor(count, apicId));

    private static string Text(params uint[] words) =>
        Encoding.ASCII.GetString([.. words.SelectMany(BitConverter.GetBytes)]).TrimEnd('\0');

    [Fact]
    public void ModelsAreFoundByName()
    {
        Assert.Equal(["host", "x86-64-v2", "x86-64-v3"], CpuModel.All.Select(model => model.Name));
        Assert.All(CpuModel.All, model => Assert.Same(model, CpuModel.Find(model.Name)));
        Assert.Null(CpuModel.Find("x86-64-v9"));
        Assert.Null(CpuModel.Find("HOST"));
    }

    [Fact]
    public void ALevelIsTheSameOnAllHostsOfAVendor()
    {
        Assert.Equal(Build(CpuModel.X8664V2, AmdMax, 4, 3), Build(CpuModel.X8664V2, AmdZen, 4, 3));
        Assert.Equal(Build(CpuModel.X8664V2, AmdMax, 4, 3), Build(CpuModel.X8664V2, AmdLevel2, 4, 3));
        Assert.Equal(Build(CpuModel.X8664V3, AmdMax, 4, 3), Build(CpuModel.X8664V3, AmdZen, 4, 3));
        Assert.Equal(Build(CpuModel.X8664V2, IntelHaswell, 4, 3), Build(CpuModel.X8664V2, IntelSkylake, 4, 3));
        Assert.Equal(Build(CpuModel.X8664V3, IntelHaswell, 4, 3), Build(CpuModel.X8664V3, IntelSkylake, 4, 3));
        Assert.NotEqual(Build(CpuModel.Host, IntelHaswell), Build(CpuModel.Host, IntelSkylake));
    }

    [Fact]
    public void TheInterpreterShowsLevel2AsKvmDoesOnAmd()
    {
        CpuidProcessor processor = Processor(2, 1);
        Assert.Equal(CpuModel.X8664V2.Build(AmdZen, processor), CpuModel.X8664V2.Build([.. SoftwareCpuid.Supported], processor));
    }

    /// <summary>The levels of the x86-64 psABI, which its "Micro-Architecture Levels" lists.</summary>
    [Fact]
    public void LevelsHaveWhatThePsAbiAsksFor()
    {
        string[] level2 = ["CMOV", "CMPXCHG8B", "FPU", "FXSR", "MMX", "SYSCALL", "SSE", "SSE2", "CMPXCHG16B", "LAHF64", "POPCNT", "SSE3", "SSE4.1", "SSE4.2", "SSSE3"];
        string[] level3 = ["AVX", "AVX2", "BMI1", "BMI2", "F16C", "FMA", "LZCNT", "MOVBE", "XSAVE"];
        CpuidEntry[] second = Build(CpuModel.X8664V2, IntelHaswell);
        CpuidEntry[] third = Build(CpuModel.X8664V3, IntelHaswell);
        Assert.All(level2, name => Assert.True(second.Shows(name), name));
        Assert.All(level3, name => Assert.False(second.Shows(name), name));
        Assert.All([.. level2, .. level3], name => Assert.True(third.Shows(name), name));
    }

    [Fact]
    public void ALevelShowsNothingThatIsNotInItsList()
    {
        string[] extras =
        [
            "AVX512F", "AVX512VL", "SHA", "ADX", "RDSEED", "SMAP", "INVPCID", "ERMS", "PCID", "HLE", "RTM", "MPX", "VME", "SS", "MCE", "PKU", "LA57",
            "INVARIANT_TSC", "SSE4A", "TOPOEXT", "XSAVEC", "XSAVES", "KVM_STEAL_TIME", "KVM_ASYNC_PF", "XCR0.OPMASK", "XCR0.BNDREGS",
        ];
        Assert.All(Levels, model => Assert.All([AmdMax, AmdZen, IntelSkylake], host =>
        {
            CpuidEntry[] table = Build(model, host);
            Assert.All(extras, name => Assert.False(table.Shows(name), $"{model} {name}"));
        }));
    }

    [Fact]
    public void WhatAHostLacksIsNamed()
    {
        Assert.Equal(["SSE3", "SSSE3", "SSE4.1", "SSE4.2", "POPCNT", "RDTSCP"], CpuModel.X8664V2.FindMissing(Poor, hasTscDeadline: true));
        Assert.Empty(CpuModel.Host.FindMissing(Poor, hasTscDeadline: false));
        Assert.Equal(["TSC-DEADLINE"], CpuModel.X8664V3.FindMissing(AmdZen, hasTscDeadline: false));
        PlatformNotSupportedException refusal = Assert.Throws<PlatformNotSupportedException>(
            () => Build(CpuModel.X8664V3, IntelHaswell.WithFeature("AVX2", false).WithFeature("BMI2", false)));
        Assert.Equal("this host lacks AVX2, BMI2: the CPU model x86-64-v3 needs them", refusal.Message);
        refusal = Assert.Throws<PlatformNotSupportedException>(() => Build(CpuModel.X8664V3, AmdZen.WithFeature("PAGE1GB", false)));
        Assert.Equal("this host lacks PAGE1GB: the CPU model x86-64-v3 needs it", refusal.Message);
    }

    [Fact]
    public void TooFewAddressBitsAndOtherVendorsAreRefused()
    {
        CpuidEntry[] narrow = [.. IntelHaswell.Select(row => row.Leaf == CpuidLeaf.AddressSizes ? row with { Eax = 0x3024 } : row)];
        Assert.Equal(["39 physical address bits"], CpuModel.X8664V3.FindMissing(narrow, hasTscDeadline: true));
        CpuidEntry[] other = [.. IntelHaswell.Select(row => row.Leaf == CpuidLeaf.Vendor ? row with { Ebx = 0x746E6543 } : row)];
        Assert.Equal(["a processor of AMD or Intel"], CpuModel.X8664V2.FindMissing(other, hasTscDeadline: true));
        Assert.NotEmpty(Build(CpuModel.Host, other));
    }

    [Fact]
    public void ALevelHasItsOwnNameAndAddressBits()
    {
        Assert.All(Levels, model => Assert.All([AmdZen, IntelSkylake], host =>
        {
            CpuidEntry[] table = Build(model, host);
            CpuidResult brand = table.Query(CpuidLeaf.Brand0);
            CpuidResult rest = table.Query(CpuidLeaf.Brand0 + 1);
            Assert.Equal($"Tutti {model.Name} CPU", Text(brand.Eax, brand.Ebx, brand.Ecx, brand.Edx, rest.Eax, rest.Ebx));
            Assert.Equal(0x3000u + (uint)model.PhysicalAddressBits!, table.Query(CpuidLeaf.AddressSizes).Eax);
            Assert.Equal(host.Query(CpuidLeaf.Vendor) with { Eax = 0x16 }, table.Query(CpuidLeaf.Vendor));
        }));
        Assert.Null(CpuModel.Host.PhysicalAddressBits);
    }

    [Fact]
    public void EveryVcpuHasAnApicIdOfItsOwnInAllTopologyLeaves()
    {
        CpuidEntry[] withTopology = AmdZen.WithFeature("TOPOEXT", true);
        Assert.All(CpuModel.All, model => Assert.All([withTopology, IntelHaswell], host => Assert.All([1, 2, 3, 8, 64], count =>
        {
            for (uint id = 0; id < count; id++)
            {
                CpuidEntry[] table = Build(model, host, count, id);
                Assert.Equal(id, table.Query(CpuidLeaf.Features).Ebx >> 24);
                Assert.Equal((uint)count, table.Query(CpuidLeaf.Features).Ebx >> 16 & 0xFF);
                Assert.Equal(count > 1, table.Shows("HTT"));
                Assert.Equal(new(0, 1, 0x100, id), table.Query(CpuidLeaf.Topology, 0));
                CpuidResult package = table.Query(CpuidLeaf.Topology, 1);
                Assert.Equal((uint)count, package.Ebx);
                Assert.Equal(id, package.Edx);
                Assert.True(1 << (int)package.Eax >= count && (count == 1 || 1 << ((int)package.Eax - 1) < count));
                Assert.Equal(new(0, 0, 7, id), table.Query(CpuidLeaf.Topology, 7));
                Assert.Equal(default, table.Query(CpuidLeaf.TopologyV2));
                Assert.Equal(table.Shows("TOPOEXT") ? new(id, id, 0, 0) : default, table.Query(CpuidLeaf.AmdTopology));
                uint cores = host == IntelHaswell ? 0 : (package.Eax << 12) | ((uint)count - 1);
                Assert.Equal(cores, table.Query(CpuidLeaf.AddressSizes).Ecx);
            }
        })));
    }

    [Fact]
    public void OnlyTheLastLevelOfCacheIsShared()
    {
        foreach (CpuidEntry[] table in new[] { Build(CpuModel.Host, IntelSkylake, 6), Build(CpuModel.X8664V3, IntelSkylake, 6) })
        {
            Assert.Equal([0u, 0, 0, 7], Enumerable.Range(0, 4).Select(i => table.Query(CpuidLeaf.Caches, (uint)i).Eax >> 14 & 0xFFF));
            Assert.Equal([7u, 7, 7, 7], Enumerable.Range(0, 4).Select(i => table.Query(CpuidLeaf.Caches, (uint)i).Eax >> 26));
            Assert.Equal(default, table.Query(CpuidLeaf.Caches, 4));
        }

        CpuidEntry[] amd = Build(CpuModel.Host, AmdZen.WithFeature("TOPOEXT", true), 6);
        Assert.Equal([0x121u, 0x122, 0x43, 0x163 | 7u << 14], Enumerable.Range(0, 4).Select(i => amd.Query(CpuidLeaf.AmdCaches, (uint)i).Eax));
        Assert.Equal(default, Build(CpuModel.Host, AmdZen, 6).Query(CpuidLeaf.AmdCaches));
    }

    [Fact]
    public void XsaveLeavesGiveTheSizesOfTheStatesThatAreShown()
    {
        foreach (CpuidEntry[] host in new[] { AmdMax, AmdZen, IntelHaswell, IntelSkylake })
        {
            Assert.Equal(default, Build(CpuModel.X8664V2, host).Query(CpuidLeaf.Xsave));
            CpuidEntry[] third = Build(CpuModel.X8664V3, host);
            Assert.Equal(new(7, 576, 832, 0), third.Query(CpuidLeaf.Xsave, 0));
            Assert.Equal(new(1, 0, 0, 0), third.Query(CpuidLeaf.Xsave, 1));
            Assert.Equal(new(256, 576, 0, 0), third.Query(CpuidLeaf.Xsave, 2));
            Assert.Equal(default, third.Query(CpuidLeaf.Xsave, 3));

            CpuidEntry[] all = Build(CpuModel.Host, host);
            Assert.Equal(host.Query(CpuidLeaf.Xsave, 0) with { Ebx = 576 }, all.Query(CpuidLeaf.Xsave, 0));
            Assert.Equal(host.Query(CpuidLeaf.Xsave, 2), all.Query(CpuidLeaf.Xsave, 2));
        }

        // Processor trace keeps its state there, and is not for guests.
        Assert.Equal(0x100u, IntelSkylake.Query(CpuidLeaf.Xsave, 1).Ecx);
        Assert.Equal(0u, Build(CpuModel.Host, IntelSkylake).Query(CpuidLeaf.Xsave, 1).Ecx);
        Assert.Equal(default, Build(CpuModel.Host, IntelSkylake).Query(CpuidLeaf.Xsave, 8));
        Assert.Equal(default, Build(CpuModel.Host, Poor).Query(CpuidLeaf.Xsave));
    }

    [Fact]
    public void TilesAreShownWithTheirStateOrNotAtAll()
    {
        CpuidEntry[] half = IntelSkylake.WithFeature("AMX-TILE", true).WithFeature("AMX-INT8", true).WithFeature("XFD", true)
            .WithFeature("XCR0.TILECFG", true);
        CpuidEntry[] shown = Build(CpuModel.Host, half);
        Assert.False(shown.Shows("AMX-TILE") || shown.Shows("AMX-INT8") || shown.Shows("XFD") || shown.Shows("XCR0.TILECFG"));
        Assert.Equal(0xA80u, shown.Query(CpuidLeaf.Xsave).Ecx);

        CpuidEntry[] whole =
        [
            .. half.WithFeature("XCR0.TILEDATA", true),
            new(CpuidLeaf.Xsave, 17, new CpuidResult(64, 2752, 2, 0)),
            new(CpuidLeaf.Xsave, 18, new CpuidResult(8192, 2816, 6, 0)),
            new(CpuidLeaf.TileInformation, 0, new CpuidResult(1, 0, 0, 0)),
            new(CpuidLeaf.TileInformation, 1, new CpuidResult(0x04002000, 0x00080040, 16, 0)),
        ];
        shown = Build(CpuModel.Host, whole);
        Assert.True(shown.Shows("AMX-TILE") && shown.Shows("AMX-INT8") && shown.Shows("XFD") && shown.Shows("XCR0.TILEDATA"));
        Assert.Equal(2816u + 8192, shown.Query(CpuidLeaf.Xsave).Ecx);
        Assert.Equal(16u, shown.Query(CpuidLeaf.TileInformation, 1).Ecx);
        Assert.Equal(Build(CpuModel.X8664V3, IntelSkylake), Build(CpuModel.X8664V3, whole));
    }

    [Fact]
    public void TheHostModelKeepsWhatKvmOffers()
    {
        CpuidEntry[] table = Build(CpuModel.Host, AmdMax);
        string[] dropped = [.. CpuFeatures.All.Where(f => AmdMax.Shows(f) && !table.Shows(f)).Select(f => f.Name)];
        Assert.Equal(["SVM"], dropped);
        Assert.Equal(AmdMax.Query(CpuidLeaf.Features).Eax, table.Query(CpuidLeaf.Features).Eax);
        Assert.True(table.Shows("HYPERVISOR") && table.Shows("TSC-DEADLINE"));
        Assert.Equal(AmdMax.Query(CpuidLeaf.AddressSizes) with { Ecx = 0 }, table.Query(CpuidLeaf.AddressSizes));
        Assert.True(Build(CpuModel.Host, IntelSkylake).Shows("INVARIANT_TSC"));
    }

    [Fact]
    public void FrequenciesAreTold()
    {
        CpuidEntry[] table = Build(CpuModel.X8664V2, AmdZen);
        Assert.Equal(new(2_596_095, 1_000_000, 0, 0), table.Query(CpuidLeaf.HypervisorFrequency));
        Assert.Equal(CpuidLeaf.HypervisorFrequency, table.Query(CpuidLeaf.Hypervisor).Eax);
        Assert.Equal(new(2596, 2596, 0, 0), table.Query(CpuidLeaf.ProcessorFrequency));
        CpuidEntry[] unknown = CpuModel.Host.Build(IntelSkylake, new CpuidProcessor { ApicId = 0, ProcessorCount = 1 });
        Assert.Equal(default, unknown.Query(CpuidLeaf.TscFrequency));
        Assert.Equal(default, unknown.Query(CpuidLeaf.ProcessorFrequency));
        Assert.Equal(default, unknown.Query(CpuidLeaf.HypervisorFrequency));
    }

    [Fact]
    public void ProcessorsThatNoMachineHasAreRefused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => Build(CpuModel.Host, AmdMax, count: 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => Build(CpuModel.X8664V2, AmdMax, count: 2, apicId: 2));
    }

    [Fact]
    public void FeatureNamesStandForOneBitEach()
    {
        Assert.Equal(CpuFeatures.All.Count, CpuFeatures.All.DistinctBy(f => (f.Leaf, f.Subleaf, f.Register, f.Bit)).Count());
        Assert.All(CpuFeatures.All, feature => Assert.InRange(feature.Bit, 0, 31));

        // The last names of long lists, with the bits that the manuals give them: a name left out before would move them.
        (string Name, int Bit)[] known =
        [
            ("HYPERVISOR", 31), ("PBE", 31), ("AVX512VL", 31), ("PKS", 31), ("RDPID", 22), ("SSBD", 31), ("AMX-TILE", 24), ("LAM", 26),
            ("AVX-IFMA", 23), ("APX_F", 21), ("XCR0.TILEDATA", 18), ("XFD", 4), ("KVM_CLOCKSOURCE_STABLE", 24), ("TOPOEXT", 22), ("MONITORX", 29),
            ("LM", 29), ("RDTSCP", 27), ("NX", 20), ("INVARIANT_TSC", 8), ("IBPB", 12), ("AMD_SSBD", 24), ("BTC_NO", 29),
            ("AUTOMATIC_IBRS", 8), ("SRSO_NO", 29), ("CET_IBT", 20), ("ARCH_CAPABILITIES", 29), ("LA57", 16), ("AVX10", 19),
        ];
        Assert.All(known, feature => Assert.Equal(feature.Bit, CpuFeatures.Get(feature.Name).Bit));
    }
}
