namespace Tutti.X86;

/// <summary>The answer of CPUID for one leaf and subleaf.</summary>
public readonly record struct CpuidResult(uint Eax, uint Ebx, uint Ecx, uint Edx);

/// <summary>What CPUID answers depend on besides the leaf: the vCPU asking and its state.</summary>
/// <param name="ApicId">The vCPU's APIC ID.</param>
/// <param name="ProcessorCount">vCPUs in the machine.</param>
/// <param name="Cr4">The vCPU's CR4, for OSXSAVE.</param>
/// <param name="Xcr0">The vCPU's XCR0, for the size of the XSAVE area.</param>
public readonly record struct CpuidContext(uint ApicId, int ProcessorCount, ulong Cr4, ulong Xcr0);

/// <summary>A named processor model: what CPUID shows.</summary>
public sealed class CpuModel
{
    /// <summary>The model of the software engine: x86-64-v2 and the extensions that the interpreter implements.</summary>
    public static CpuModel Software { get; } = new("software");

    private CpuModel(string name)
    {
        Name = name;
    }

    public string Name { get; }

    /// <summary>Answers CPUID.</summary>
    public CpuidResult Query(uint leaf, uint subleaf, in CpuidContext context) => default;
}
