using static Tutti.X86.Tests.CpuidTables;

namespace Tutti.X86.Tests;

/// <summary>Models with single features more or less.</summary>
public sealed class CpuModelChangeTests
{
    private static readonly CpuidProcessor Processor = new() { ApicId = 1, ProcessorCount = 2, TscKilohertz = 2_000_000, HasTscDeadline = true };

    private static CpuidEntry[] Build(string model, CpuidEntry[] supported) => CpuModel.Parse(model).Build(supported, Processor);

    private static string[] Lost(string model, CpuidEntry[] supported)
    {
        CpuidEntry[] before = Build(model.Split(',')[0], supported);
        CpuidEntry[] after = Build(model, supported);
        return [.. CpuFeatures.All.Where(f => before.Shows(f) && !after.Shows(f)).Select(f => f.Name).Order(StringComparer.Ordinal)];
    }

    [Fact]
    public void ANameAloneIsTheModelItself()
    {
        Assert.Same(CpuModel.Host, CpuModel.Parse("host"));
        Assert.Same(CpuModel.X8664V3, CpuModel.Parse("x86-64-v3"));
        Assert.Equal("host,-avx2", CpuModel.Parse("host,-avx2").Name);
        Assert.Equal(39, CpuModel.Parse("x86-64-v2,+aes").PhysicalAddressBits);
        Assert.Null(CpuModel.Parse("host,-avx2").PhysicalAddressBits);
    }

    /// <summary>Each name as Linux's cpuinfo has it, and as QEMU does.</summary>
    [Theory]
    [InlineData("pni", "SSE3")]
    [InlineData("sse4_1", "SSE4.1")]
    [InlineData("sse4.1", "SSE4.1")]
    [InlineData("sse4-1", "SSE4.1")]
    [InlineData("cx16", "CMPXCHG16B")]
    [InlineData("cx8", "CMPXCHG8B")]
    [InlineData("abm", "LZCNT")]
    [InlineData("lahf_lm", "LAHF64")]
    [InlineData("lahf-lm", "LAHF64")]
    [InlineData("pdpe1gb", "PAGE1GB")]
    [InlineData("sha_ni", "SHA")]
    [InlineData("sha-ni", "SHA")]
    [InlineData("tsc_deadline_timer", "TSC-DEADLINE")]
    [InlineData("tsc-deadline", "TSC-DEADLINE")]
    [InlineData("nonstop_tsc", "INVARIANT_TSC")]
    [InlineData("invtsc", "INVARIANT_TSC")]
    [InlineData("avx512f", "AVX512F")]
    [InlineData("avx512_vnni", "AVX512_VNNI")]
    [InlineData("avx512vnni", "AVX512_VNNI")]
    [InlineData("avx512vbmi", "AVX512_VBMI")]
    [InlineData("pku", "PKU")]
    [InlineData("umip", "UMIP")]
    [InlineData("la57", "LA57")]
    [InlineData("xgetbv1", "XGETBV_ECX1")]
    [InlineData("fxsr_opt", "FFXSR")]
    [InlineData("hypervisor", "HYPERVISOR")]
    [InlineData("kvmclock", "KVM_CLOCKSOURCE2")]
    public void FlagsHaveTheNamesOfLinuxAndQemu(string flag, string feature) => Assert.Equal(feature, CpuFlags.Find(flag)?.Name);

    [Fact]
    public void EveryFeatureIsFoundByItsOwnName()
    {
        Assert.All(
            CpuFeatures.All.Where(feature => feature.Name is not ("OSXSAVE" or "OSPKE" or "HTT" or "CMPLEGACY" or "TOPOEXT") && !feature.Name.StartsWith("XCR0", StringComparison.Ordinal)),
            feature => Assert.Equal(feature, CpuFlags.Find(CpuFlags.NameOf(feature.Name))));
        Assert.Null(CpuFlags.Find("avx3"));
        Assert.Null(CpuFlags.Find("xcr0.avx"));
        Assert.Null(CpuFlags.Find(""));
    }

    [Fact]
    public void WhatNeedsAFeatureGoesWithIt()
    {
        Assert.Equal(["AVX", "AVX2", "F16C", "FMA", "XCR0.AVX"], Lost("x86-64-v3,-avx", AmdZen));
        Assert.Equal(["AVX2"], Lost("x86-64-v3,-avx2", AmdZen));
        Assert.Equal(["AVX", "AVX2", "F16C", "FMA", "SSE4.2", "XCR0.AVX"], Lost("x86-64-v3,-sse4_2", IntelHaswell));
        Assert.Equal(["AVX", "AVX2", "F16C", "FMA", "XCR0.AVX", "XCR0.SSE", "XCR0.X87", "XSAVE", "XSAVEOPT"], Lost("x86-64-v3,-xsave", AmdZen));
        Assert.Contains("XCR0.ZMM_HI256", Lost("host,-avx512f", IntelSkylake));
        Assert.DoesNotContain(CpuFeatures.All, f => f.Name.StartsWith("AVX512", StringComparison.Ordinal) && Build("host,-avx2", IntelSkylake).Shows(f));
        Assert.Equal(["PCLMULQDQ"], Lost("x86-64-v3,-pclmulqdq,-pclmulqdq", AmdZen));
    }

    [Fact]
    public void WhatAFeatureNeedsComesWithIt()
    {
        CpuidEntry[] table = Build("x86-64-v2,+avx2", IntelHaswell);
        Assert.All(["AVX2", "AVX", "XSAVE", "XCR0.AVX", "XCR0.SSE", "XCR0.X87", "SSE4.2"], name => Assert.True(table.Shows(name), name));
        Assert.All(["FMA", "BMI2", "AES"], name => Assert.False(table.Shows(name), name));
        Assert.Equal(new(7, 576, 832, 0), table.Query(CpuidLeaf.Xsave, 0));
        Assert.Equal(new(256, 576, 0, 0), table.Query(CpuidLeaf.Xsave, 2));
        Assert.True(Build("x86-64-v2,+aes", AmdZen).Shows("AES"));
    }

    [Fact]
    public void TheXsaveAreaIsThatOfWhatIsLeft()
    {
        CpuidEntry[] table = Build("host,-avx", IntelSkylake);
        CpuidResult area = table.Query(CpuidLeaf.Xsave, 0);
        Assert.Equal(0u, area.Eax & 0xE4);
        Assert.Equal(default, table.Query(CpuidLeaf.Xsave, 2));
        Assert.Equal(default, table.Query(CpuidLeaf.Xsave, 5));
        Assert.All(Enumerable.Range(0, 4), i => Assert.Equal(default, Build("x86-64-v3,-xsave", AmdZen).Query(CpuidLeaf.Xsave, (uint)i)));
        CpuidEntry[] narrow = Build("x86-64-v3,-avx", AmdZen);
        Assert.Equal(new(3, 576, 576, 0), narrow.Query(CpuidLeaf.Xsave, 0));
    }

    [Fact]
    public void AmdsSecondCopyFollows()
    {
        Assert.True((Build("x86-64-v2", AmdZen).Query(CpuidLeaf.ExtendedSignature).Edx & 1 << 23) != 0);
        CpuidEntry[] table = Build("x86-64-v2,-mmx", AmdZen);
        Assert.False(table.Shows("MMX"));
        Assert.Equal(0u, table.Query(CpuidLeaf.ExtendedSignature).Edx & 1 << 23);
        Assert.Equal(0u, Build("x86-64-v2,+vme", IntelHaswell).Query(CpuidLeaf.ExtendedSignature).Edx & 1 << 1);
    }

    [Fact]
    public void NothingElseChanges()
    {
        Assert.All(All.Where(host => host != Poor), host => Assert.All(CpuModel.All.Where(model => model.FindMissing(host, true).Count == 0), model =>
        {
            Assert.Equal(model.Build(host, Processor), Build($"{model},+sse4.2", host));
            Assert.Equal(model.Build(host, Processor), Build($"{model},-amx-tile,-vmx", host));
        }));
        Assert.Equal(CpuModel.X8664V3.Build(AmdZen, Processor), Build("x86-64-v2,+avx2,+fma,+movbe,+f16c,+bmi1,+bmi2,+abm,+pclmulqdq,+aes,+rdrand,+fsgsbase,+smep,+xsaveopt,+pdpe1gb", AmdZen)
            .Select(row => row.Leaf is >= CpuidLeaf.Brand0 and <= CpuidLeaf.Brand2 ? CpuModel.X8664V3.Build(AmdZen, Processor).First(other => other.Leaf == row.Leaf) : row));
    }

    [Fact]
    public void AGuestIsToldOfNewLeaves()
    {
        CpuidEntry[] host = AmdZen.WithFeature("NULL_CLEARS_BASE", true).WithFeature("AVX-VNNI", true);
        Assert.Equal(0x8000_0008u, Build("x86-64-v3", host).Query(CpuidLeaf.ExtendedVendor).Eax);
        Assert.Equal(CpuidLeaf.AmdExtendedFeatures, Build("x86-64-v3,+null-sel-clr-base", host).Query(CpuidLeaf.ExtendedVendor).Eax);
        Assert.Equal(1u, Build("x86-64-v3,+avx-vnni", host).Query(CpuidLeaf.ExtendedFeatures, 0).Eax);
    }

    [Fact]
    public void WithoutHypervisorNothingTellsOfOne()
    {
        CpuidEntry[] table = Build("host,-hypervisor", AmdZen);
        Assert.False(table.Shows("HYPERVISOR"));
        Assert.DoesNotContain(table, row => row.Leaf is >= CpuidLeaf.Hypervisor and < CpuidLeaf.ExtendedVendor);
    }

    [Fact]
    public void WhatAHostLacksIsMissingUnlessItIsTakenAway()
    {
        Assert.Equal(["AVX512F", "XCR0.HI16_ZMM", "XCR0.OPMASK", "XCR0.ZMM_HI256"], CpuModel.Parse("host,+avx512f").FindMissing(AmdZen, true).Order(StringComparer.Ordinal));
        Assert.Equal(["VMX"], CpuModel.Parse("host,+vmx").FindMissing(IntelHaswell.WithFeature("VMX", true), true));
        CpuidEntry[] without = IntelHaswell.WithFeature("AVX2", false);
        Assert.Equal(["AVX2"], CpuModel.X8664V3.FindMissing(without, true));
        Assert.Empty(CpuModel.Parse("x86-64-v3,-avx2").FindMissing(without, true));
        Assert.False(Build("x86-64-v3,-avx2", without).Shows("AVX2"));
        Assert.Throws<PlatformNotSupportedException>(() => Build("host,+avx512f", AmdZen));
    }

    [Theory]
    [InlineData("486", "no CPU model '486'")]
    [InlineData("host,+avx3", "no CPU feature 'avx3'")]
    [InlineData("host,avx2", "'avx2' is no change")]
    [InlineData("host,", "'' is no change")]
    [InlineData("host,-", "'-' is no change")]
    [InlineData("host,+avx2,-avx2", "avx2 can't be both")]
    [InlineData("host,+avx2,-avx", "avx2 needs avx,")]
    [InlineData("host,-sse4_2,+fma", "fma needs sse4.2,")]
    [InlineData("+avx2", "no CPU model '+avx2'")]
    public void WhatIsNoModelIsRefusedInOneLine(string text, string message)
    {
        string said = Assert.Throws<FormatException>(() => CpuModel.Parse(text)).Message;
        Assert.Contains(message, said, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', said);
    }

    [Fact]
    public void NeedsAreFeaturesAndHaveNoHolesInThem()
    {
        Assert.All(CpuFeatureNeeds.Names, name => CpuFeatures.Get(name));
        Assert.All(CpuFeatures.All, feature => Assert.All(CpuFeatureNeeds.With(feature.Name), need => Assert.Contains(feature.Name, CpuFeatureNeeds.Without(need))));

        // No processor of these has a feature without what the table says it needs. (Not in the list: a QEMU that left VAES when it took AVX away.)
        Assert.All([AmdMax, AmdZen, IntelHaswell, IntelSkylake, [.. SoftwareCpuid.Supported]], host => Assert.All(
            CpuFeatures.All.Where(feature => host.Shows(feature) && feature.Leaf != CpuidLeaf.KvmFeatures),
            feature => Assert.All(CpuFeatureNeeds.With(feature.Name), need => Assert.True(host.Shows(need), $"{feature.Name} needs {need}"))));
    }
}
