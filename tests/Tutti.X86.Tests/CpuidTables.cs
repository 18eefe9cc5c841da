using System.Globalization;

namespace Tutti.X86.Tests;

/// <summary>What real hosts offer: the files in Data, each of which tells where it is from.</summary>
internal static class CpuidTables
{
    /// <summary>AMD, Linux's KVM: level 3 and more.</summary>
    internal static CpuidEntry[] AmdMax { get; } = Read("kvm-amd-qemu-max");

    /// <summary>AMD, Linux's KVM: level 3, the first Zen.</summary>
    internal static CpuidEntry[] AmdZen { get; } = Read("kvm-amd-qemu-epyc");

    /// <summary>AMD, Linux's KVM: level 2.</summary>
    internal static CpuidEntry[] AmdLevel2 { get; } = Read("kvm-amd-qemu-level2");

    /// <summary>Intel, the processor's own: level 3, the first that was.</summary>
    internal static CpuidEntry[] IntelHaswell { get; } = Read("intel-i7-4770");

    /// <summary>Intel, the processor's own: level 4.</summary>
    internal static CpuidEntry[] IntelSkylake { get; } = Read("intel-i9-7900x");

    /// <summary>A KVM that offers less than level 2.</summary>
    internal static CpuidEntry[] Poor { get; } = Read("kvm-without-hardware");

    internal static CpuidEntry[][] All { get; } = [AmdMax, AmdZen, AmdLevel2, IntelHaswell, IntelSkylake, Poor];

    internal static CpuidResult Query(this CpuidEntry[] table, uint leaf, uint subleaf = 0) => CpuidTable.Query(table, leaf, subleaf);

    internal static bool Shows(this CpuidEntry[] table, CpuFeature feature) =>
        (table.Query(feature.Leaf, feature.Subleaf)[feature.Register] & feature.Mask) != 0;

    internal static bool Shows(this CpuidEntry[] table, string feature) => table.Shows(CpuFeatures.Get(feature));

    /// <summary>The table with one feature more, or less.</summary>
    internal static CpuidEntry[] WithFeature(this CpuidEntry[] table, string name, bool present)
    {
        CpuFeature feature = CpuFeatures.Get(name);
        CpuidResult old = table.Query(feature.Leaf, feature.Subleaf);
        uint Change(CpuidRegister register) => register != feature.Register
            ? old[register]
            : present ? old[register] | feature.Mask : old[register] & ~feature.Mask;
        CpuidResult changed = new(Change(CpuidRegister.Eax), Change(CpuidRegister.Ebx), Change(CpuidRegister.Ecx), Change(CpuidRegister.Edx));
        bool hasSubleaf = feature.Leaf is CpuidLeaf.ExtendedFeatures or CpuidLeaf.Xsave;
        CpuidEntry row = hasSubleaf ? new(feature.Leaf, feature.Subleaf, changed) : new(feature.Leaf, changed);
        return [.. table.Where(other => other.Leaf != row.Leaf || (hasSubleaf && other.Subleaf != row.Subleaf)), row];
    }

    private static CpuidEntry[] Read(string name) =>
    [
        .. File.ReadLines(Path.Combine(AppContext.BaseDirectory, "Data", name + ".txt"))
            .Where(line => !line.StartsWith('#'))
            .Select(line => line.Split(' ').Select(word => uint.Parse(word, NumberStyles.HexNumber, CultureInfo.InvariantCulture)).ToArray())
            .Select(word => new CpuidEntry(word[0], word[1], word[2] != 0, word[3], word[4], word[5], word[6])),
    ];
}
