namespace Tutti.X86;

/// <summary>The answer of CPUID for one leaf and subleaf.</summary>
public readonly record struct CpuidResult(uint Eax, uint Ebx, uint Ecx, uint Edx)
{
    /// <summary>One of the four registers.</summary>
    public uint this[CpuidRegister register] => register switch
    {
        CpuidRegister.Eax => Eax,
        CpuidRegister.Ebx => Ebx,
        CpuidRegister.Ecx => Ecx,
        _ => Edx,
    };
}

/// <summary>A register that CPUID answers in.</summary>
public enum CpuidRegister
{
    Eax,
    Ebx,
    Ecx,
    Edx,
}

/// <summary>One row of a table of CPUID answers; Linux's struct kvm_cpuid_entry2 has the same fields.</summary>
/// <param name="Leaf">EAX on entry ("function" there).</param>
/// <param name="Subleaf">ECX on entry ("index"); 0 where it does not matter.</param>
/// <param name="HasSubleaf">Whether the row is for that subleaf alone (KVM_CPUID_FLAG_SIGNIFCANT_INDEX).</param>
public readonly record struct CpuidEntry(uint Leaf, uint Subleaf, bool HasSubleaf, uint Eax, uint Ebx, uint Ecx, uint Edx)
{
    public CpuidEntry(uint leaf, CpuidResult result)
        : this(leaf, 0, false, result.Eax, result.Ebx, result.Ecx, result.Edx)
    {
    }

    public CpuidEntry(uint leaf, uint subleaf, CpuidResult result)
        : this(leaf, subleaf, true, result.Eax, result.Ebx, result.Ecx, result.Edx)
    {
    }

    public CpuidResult Result => new(Eax, Ebx, Ecx, Edx);

    /// <summary>The row with other answers.</summary>
    public CpuidEntry With(CpuidResult result) =>
        this with { Eax = result.Eax, Ebx = result.Ebx, Ecx = result.Ecx, Edx = result.Edx };
}

/// <summary>Looking answers up in a table of rows.</summary>
public static class CpuidTable
{
    /// <summary>
    /// What a processor with this table answers: zeros where there is no row, but for leaf 0Bh, which repeats the
    /// subleaf and the APIC ID (Intel SDM volume 2, CPUID).
    /// </summary>
    public static CpuidResult Query(ReadOnlySpan<CpuidEntry> table, uint leaf, uint subleaf)
    {
        CpuidResult levelAbove = default;
        foreach (ref readonly CpuidEntry entry in table)
        {
            if (entry.Leaf != leaf)
            {
                continue;
            }

            if (!entry.HasSubleaf || entry.Subleaf == subleaf)
            {
                return entry.Result;
            }

            levelAbove = entry.Result;
        }

        return leaf == CpuidLeaf.Topology ? new(0, 0, subleaf & 0xFF, levelAbove.Edx) : default;
    }
}
