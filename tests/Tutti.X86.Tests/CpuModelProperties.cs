using FsCheck;
using FsCheck.Fluent;

namespace Tutti.X86.Tests;

/// <summary>What holds whatever a host offers.</summary>
public sealed class CpuModelProperties
{
    /// <summary>Given by the engine or told of the machine, not by the host's processor.</summary>
    private static readonly string[] Emulated = ["HYPERVISOR", "HTT", "CMPLEGACY", "TSC-DEADLINE"];

    private static readonly string[] NeverShown =
    [
        "VMX", "SVM", "SKINIT", "MONITOR", "MONITORX", "SGX", "SGX_LC", "PDCM", "PERFCTR_CORE", "PERFCTR_NB", "PERFCTR_LLC", "IBS", "PT",
        "ARCH_LBR", "RDT-M", "RDT-A", "DTES64", "DS", "OSXSAVE", "OSPKE", "HYBRID", "KL", "KVM_MIGRATION_CONTROL",
    ];

    private static readonly uint[] NeverAnswered =
    [
        CpuidLeaf.Monitor, CpuidLeaf.PerformanceMonitoring, CpuidLeaf.SoftwareGuard, CpuidLeaf.ProcessorTrace, CpuidLeaf.TopologyV2,
        CpuidLeaf.SecureVirtualMachine, CpuidLeaf.EncryptedMemory, CpuidLeaf.AmdPerformanceMonitoring, CpuidLeaf.AmdTopologyV2,
    ];

    private static readonly uint[] Leaves =
    [
        .. Enumerable.Range(0, 0x25).Select(leaf => (uint)leaf),
        .. Enumerable.Range(0, 0x28).Select(leaf => CpuidLeaf.ExtendedVendor + (uint)leaf),
        CpuidLeaf.Hypervisor, CpuidLeaf.KvmFeatures, CpuidLeaf.HypervisorFrequency,
    ];

    private static Gen<uint> Word => Gen.OneOf(
        Gen.Choose(int.MinValue, int.MaxValue).Select(value => (uint)value),
        Gen.Elements(0u, uint.MaxValue));

    private static Gen<CpuidEntry> Row =>
        from leaf in Gen.Elements(Leaves)
        from subleaf in Gen.Choose(0, 20)
        from words in Gen.ArrayOf(Word, 4)
        let hasSubleaf = leaf is CpuidLeaf.Caches or CpuidLeaf.ExtendedFeatures or CpuidLeaf.Topology or CpuidLeaf.Xsave
            or CpuidLeaf.TileInformation or CpuidLeaf.AmdCaches
        let index = hasSubleaf ? (uint)subleaf : 0
        select new CpuidEntry(leaf, index, hasSubleaf, words[0], words[1], words[2], words[3]);

    /// <summary>A real host's table with some rows replaced by any words, or any words alone.</summary>
    private static Gen<CpuidEntry[]> Table =>
        from host in Gen.OneOf(Gen.Elements(CpuidTables.All), Gen.Constant(Array.Empty<CpuidEntry>()))
        from rows in Gen.ListOf(Row)
        select rows.Concat(host).DistinctBy(row => (row.Leaf, row.Subleaf)).ToArray();

    private static Gen<CpuidProcessor> Processor =>
        from count in Gen.Choose(1, 300)
        from id in Gen.Choose(0, count - 1)
        from frequency in Word
        from deadline in Gen.Elements(true, false)
        select new CpuidProcessor { ApicId = (uint)id, ProcessorCount = count, TscKilohertz = frequency, HasTscDeadline = deadline };

    private static void Check(Action<CpuidEntry[], CpuidProcessor, CpuModel> holds) => Prop.ForAll(
        Table.ToArbitrary(),
        Processor.ToArbitrary(),
        Gen.Elements(CpuModel.All.ToArray()).ToArbitrary(),
        holds).Check(Config.QuickThrowOnFailure.WithMaxTest(2000));

    /// <summary>The model's table, or null where the model must be refused and is.</summary>
    private static CpuidEntry[]? Build(CpuModel model, CpuidEntry[] supported, CpuidProcessor processor)
    {
        if (model.FindMissing(supported, processor.HasTscDeadline).Count == 0)
        {
            return model.Build(supported, processor);
        }

        Assert.Throws<PlatformNotSupportedException>(() => model.Build(supported, processor));
        return null;
    }

    [Fact]
    public void NothingIsShownThatTheHostLacks()
    {
        int shown = 0;
        int built = 0;
        Check((supported, processor, model) =>
        {
            if (Build(model, supported, processor) is { } table)
            {
                built += model == CpuModel.Host ? 0 : 1;
                foreach (CpuFeature feature in CpuFeatures.All.Where(f => table.Shows(f)))
                {
                    shown++;
                    Assert.True(supported.Shows(feature) || Emulated.Contains(feature.Name), $"{model}: {feature.Name}");
                }

                Assert.True(processor.HasTscDeadline || supported.Shows("TSC-DEADLINE") || !table.Shows("TSC-DEADLINE"));
            }
        });
        Assert.True(shown > 10_000 && built > 100, $"{shown} features shown, {built} tables of levels: the generator makes too little.");
    }

    [Fact]
    public void WhatIsNotForGuestsIsNeverShown() => Check((supported, processor, model) =>
    {
        if (Build(model, supported, processor) is { } table)
        {
            Assert.All(NeverShown, name => Assert.False(table.Shows(name), name));
            Assert.All(NeverAnswered, leaf => Assert.Equal(default, table.Query(leaf)));
        }
    });

    [Fact]
    public void RowsAreOrderedAndEachIsThereOnce() => Check((supported, processor, model) =>
    {
        if (Build(model, supported, processor) is { } table)
        {
            (uint, uint)[] keys = [.. table.Select(row => (row.Leaf, row.Subleaf))];
            Assert.Equal(keys.Distinct().Order(), keys);
            Assert.DoesNotContain(table, row => row.Result == default);
        }
    });

    [Fact]
    public void TheRatioOfLeaf15IsCloseAndFitsLinuxArithmetic() => Prop.ForAll(
        Gen.Choose(100_000, 6_000_000).ToArbitrary(),
        kilohertz =>
        {
            var processor = new CpuidProcessor { ApicId = 0, ProcessorCount = 1, TscKilohertz = (uint)kilohertz };
            CpuidResult result = CpuModel.Host.Build(CpuidTables.AmdMax, processor).Query(CpuidLeaf.TscFrequency);
            uint product = checked(result.Ecx / 1000 * result.Ebx);
            double best = Enumerable.Range(1, 4294).Min(numerator =>
                ErrorOf(numerator, Math.Round(numerator * 1e6 / kilohertz), kilohertz));
            Assert.InRange(ErrorOf(result.Ebx, result.Eax, kilohertz), 0, (best * 1.001) + 1e-12);
            Assert.InRange(best, 0, 0.00012);
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(1000));

    private static double ErrorOf(double numerator, double denominator, double kilohertz) => Math.Abs((numerator / denominator * 1e6 / kilohertz) - 1);
}
