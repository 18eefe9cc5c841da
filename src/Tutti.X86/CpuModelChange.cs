namespace Tutti.X86;

/// <summary>Features that a user adds to a model and takes from it, and a table of CPUID answers with them.</summary>
internal sealed class CpuModelChange
{
    private const uint XsaveLegacySize = 576;

    /// <summary>CET_U and CET_S.</summary>
    private const ulong ShadowStackStates = 3 << 11;

    // Bits of leaf 1 EDX that AMD repeats in leaf 80000001h.
    private const uint RepeatedEdx = 0x0183_F3FF;
    private const uint LinearBitsMask = 0xFF00;
    private const uint LinearBits48 = 48 << 8;

    private readonly HashSet<string> _added = new(StringComparer.Ordinal);
    private readonly HashSet<string> _removed = new(StringComparer.Ordinal);

    /// <param name="words">Names of features behind + or -.</param>
    /// <exception cref="FormatException">A word is none, names no feature, or contradicts another; the message is one line.</exception>
    internal CpuModelChange(IEnumerable<string> words)
    {
        Dictionary<string, bool> asked = new(StringComparer.Ordinal);
        foreach (string word in words)
        {
            if (word.Length < 2 || word[0] is not ('+' or '-'))
            {
                throw new FormatException($"'{word}' is no change of a CPU model; write +FEATURE or -FEATURE behind it, for example host,-avx512f");
            }

            CpuFeature feature = CpuFlags.Find(word[1..])
                ?? throw new FormatException($"there is no CPU feature '{word[1..]}'; they have the names of /proc/cpuinfo, for example avx2 or sse4_2");
            bool isAdded = word[0] == '+';
            if (asked.TryGetValue(feature.Name, out bool before) && before != isAdded)
            {
                throw new FormatException($"the CPU feature {CpuFlags.NameOf(feature.Name)} can't be both added and taken away");
            }

            asked[feature.Name] = isAdded;
            (isAdded ? _added : _removed).UnionWith(isAdded ? CpuFeatureNeeds.With(feature.Name) : CpuFeatureNeeds.Without(feature.Name));
        }

        foreach (string added in asked.Where(pair => pair.Value).Select(pair => pair.Key))
        {
            if (asked.FirstOrDefault(pair => !pair.Value && CpuFeatureNeeds.With(added).Contains(pair.Key)).Key is { } removed)
            {
                throw new FormatException($"the CPU feature {CpuFlags.NameOf(added)} needs {CpuFlags.NameOf(removed)}, which can't be taken away then");
            }
        }
    }

    internal bool Removes(string feature) => _removed.Contains(feature);

    /// <summary>Added features that the engine can't show on this host.</summary>
    internal IEnumerable<string> FindMissing(CpuidEntry[] supported, bool hasTscDeadline)
    {
        foreach (CpuFeature feature in _added.Select(CpuFeatures.Get))
        {
            uint word = CpuidTable.Query(supported, feature.Leaf, feature.Subleaf)[feature.Register];
            bool isThere = feature.Name switch
            {
                "HYPERVISOR" => true,
                "TSC-DEADLINE" => hasTscDeadline || (word & feature.Mask) != 0,
                _ => (word & feature.Mask) != 0 && !HostCpuid.Denies(feature),
            };
            if (!isThere)
            {
                yield return feature.Name;
            }
        }
    }

    /// <summary>A model's table with the changes.</summary>
    internal CpuidEntry[] Apply(CpuidEntry[] table, CpuidEntry[] supported)
    {
        Dictionary<(uint Leaf, uint Subleaf), CpuidEntry> rows = [];
        foreach (CpuidEntry row in table)
        {
            _ = rows.TryAdd((row.Leaf, row.HasSubleaf ? row.Subleaf : 0), row);
        }

        bool repeats = CpuidVendor.Of(table).HasAmdLeaves;
        foreach (CpuFeature feature in _removed.Select(CpuFeatures.Get))
        {
            Set(rows, feature, false, repeats);
        }

        foreach (CpuFeature feature in _added.Select(CpuFeatures.Get))
        {
            Set(rows, feature, true, repeats);
        }

        ArrangeXsave(rows, supported);
        ArrangeLinearBits(rows, supported);
        ArrangeLimits(rows);
        return HostCpuid.Order(Shows(rows, "HYPERVISOR") ? rows.Values : rows.Values.Where(row => row.Leaf is < CpuidLeaf.Hypervisor or >= CpuidLeaf.ExtendedVendor));
    }

    private static void Set(Dictionary<(uint, uint), CpuidEntry> rows, CpuFeature feature, bool value, bool repeats)
    {
        Change(rows, feature.Leaf, feature.Subleaf, feature.Register, feature.Mask, value);
        if (repeats && feature is { Leaf: CpuidLeaf.Features, Register: CpuidRegister.Edx } && (feature.Mask & RepeatedEdx) != 0)
        {
            Change(rows, CpuidLeaf.ExtendedSignature, 0, CpuidRegister.Edx, feature.Mask, value);
        }
    }

    private static void Change(Dictionary<(uint, uint), CpuidEntry> rows, uint leaf, uint subleaf, CpuidRegister register, uint mask, bool value)
    {
        CpuidEntry row = Row(rows, leaf, subleaf);
        uint word = value ? row.Result[register] | mask : row.Result[register] & ~mask;
        CpuidResult result = row.Result;
        rows[(leaf, subleaf)] = row.With(register switch
        {
            CpuidRegister.Eax => result with { Eax = word },
            CpuidRegister.Ebx => result with { Ebx = word },
            CpuidRegister.Ecx => result with { Ecx = word },
            _ => result with { Edx = word },
        });
    }

    private static CpuidEntry Row(Dictionary<(uint, uint), CpuidEntry> rows, uint leaf, uint subleaf) =>
        rows.TryGetValue((leaf, subleaf), out CpuidEntry row) ? row
        : leaf is CpuidLeaf.ExtendedFeatures or CpuidLeaf.Xsave ? new CpuidEntry(leaf, subleaf, default)
        : new CpuidEntry(leaf, default);

    private static bool Shows(Dictionary<(uint, uint), CpuidEntry> rows, string name)
    {
        CpuFeature feature = CpuFeatures.Get(name);
        return (Row(rows, feature.Leaf, feature.Subleaf).Result[feature.Register] & feature.Mask) != 0;
    }

    /// <summary>Leaf 0Dh for the components that are left or new: where they lie is the host's affair.</summary>
    private static void ArrangeXsave(Dictionary<(uint Leaf, uint Subleaf), CpuidEntry> rows, CpuidEntry[] supported)
    {
        CpuidResult forms = Row(rows, CpuidLeaf.Xsave, 1).Result;
        bool hasXsaves = Shows(rows, "XSAVES");
        ulong xcr0 = Shows(rows, "XSAVE") ? Row(rows, CpuidLeaf.Xsave, 0).Result.Eax : 0;
        ulong supervisor = xcr0 != 0 && hasXsaves ? forms.Ecx : 0;
        supervisor &= Shows(rows, "CET_SS") || Shows(rows, "CET_IBT") ? ulong.MaxValue : ~ShadowStackStates;
        foreach ((uint Leaf, uint Subleaf) key in rows.Keys.Where(key => key.Leaf == CpuidLeaf.Xsave && key.Subleaf > 1).ToArray())
        {
            if (key.Subleaf >= 64 || ((xcr0 | supervisor) >> (int)key.Subleaf & 1) == 0)
            {
                rows.Remove(key);
            }
        }

        if (xcr0 == 0)
        {
            rows.Remove((CpuidLeaf.Xsave, 0));
            rows.Remove((CpuidLeaf.Xsave, 1));
            return;
        }

        uint size = XsaveLegacySize;
        for (uint state = 2; state < 64; state++)
        {
            if ((xcr0 >> (int)state & 1) != 0)
            {
                CpuidResult component = Row(rows, CpuidLeaf.Xsave, state).Result;
                component = component == default ? CpuidTable.Query(supported, CpuidLeaf.Xsave, state) : component;
                rows[(CpuidLeaf.Xsave, state)] = new CpuidEntry(CpuidLeaf.Xsave, state, component);
                size = Math.Max(size, component.Ebx + component.Eax);
            }
        }

        bool hasCompact = Shows(rows, "XSAVEC");
        rows[(CpuidLeaf.Xsave, 0)] = new CpuidEntry(CpuidLeaf.Xsave, 0, new CpuidResult((uint)xcr0, XsaveLegacySize, size, 0));
        rows[(CpuidLeaf.Xsave, 1)] = new CpuidEntry(CpuidLeaf.Xsave, 1, new CpuidResult(forms.Eax, hasCompact ? forms.Ebx : 0, (uint)supervisor, 0));
    }

    /// <summary>57 bits of linear addresses go with LA57.</summary>
    private void ArrangeLinearBits(Dictionary<(uint, uint), CpuidEntry> rows, CpuidEntry[] supported)
    {
        if (!_added.Contains("LA57") && !_removed.Contains("LA57"))
        {
            return;
        }

        CpuidEntry row = Row(rows, CpuidLeaf.AddressSizes, 0);
        uint offered = CpuidTable.Query(supported, CpuidLeaf.AddressSizes, 0).Eax & LinearBitsMask;
        uint bits = _added.Contains("LA57") ? offered : Math.Min(row.Eax & LinearBitsMask, LinearBits48);
        rows[(CpuidLeaf.AddressSizes, 0)] = row.With(row.Result with { Eax = (row.Eax & ~LinearBitsMask) | bits });
    }

    /// <summary>A guest looks at no leaf beyond those that leaves 0, 7 and 80000000h promise.</summary>
    private static void ArrangeLimits(Dictionary<(uint Leaf, uint Subleaf), CpuidEntry> rows)
    {
        foreach ((uint leaf, uint first, uint last) in new[] { (CpuidLeaf.Vendor, 0u, 0xFFFFu), (CpuidLeaf.ExtendedVendor, 0x8000_0000u, 0x8000_FFFFu) })
        {
            uint highest = rows.Values.Where(row => row.Leaf >= first && row.Leaf <= last && row.Result != default).Select(row => row.Leaf).DefaultIfEmpty(leaf).Max();
            CpuidEntry limit = Row(rows, leaf, 0);
            rows[(leaf, 0)] = limit.With(limit.Result with { Eax = Math.Max(limit.Eax, highest) });
        }

        if (Row(rows, CpuidLeaf.ExtendedFeatures, 1).Result != default)
        {
            CpuidEntry limit = Row(rows, CpuidLeaf.ExtendedFeatures, 0);
            rows[(CpuidLeaf.ExtendedFeatures, 0)] = limit.With(limit.Result with { Eax = Math.Max(limit.Eax, 1) });
        }
    }
}
