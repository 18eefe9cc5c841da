using System.Text;

namespace Tutti.X86;

/// <summary>The twelve characters of leaf 0, which also decide the layout of some other leaves.</summary>
internal readonly record struct CpuidVendor(uint Ebx, uint Ecx, uint Edx)
{
    internal static CpuidVendor Amd { get; } = Parse("AuthenticAMD");

    internal static CpuidVendor Hygon { get; } = Parse("HygonGenuine");

    internal static CpuidVendor Intel { get; } = Parse("GenuineIntel");

    /// <summary>Whether leaves 80000001h, 80000005h to 80000008h and 8000001Dh are AMD's.</summary>
    internal bool HasAmdLeaves => this == Amd || this == Hygon;

    internal static CpuidVendor Of(ReadOnlySpan<CpuidEntry> table)
    {
        CpuidResult result = CpuidTable.Query(table, CpuidLeaf.Vendor, 0);
        return new(result.Ebx, result.Ecx, result.Edx);
    }

    internal CpuidResult Row(uint maxLeaf) => new(maxLeaf, Ebx, Ecx, Edx);

    private static CpuidVendor Parse(string name) => new(CpuidText.Word(name, 0), CpuidText.Word(name, 8), CpuidText.Word(name, 4));
}

/// <summary>Text in CPUID registers: four characters each, lowest first.</summary>
internal static class CpuidText
{
    /// <summary>Leaf 40000000h: the largest of its group, "KVMKVMKVM".</summary>
    internal static CpuidResult KvmSignature => new(
        CpuidLeaf.HypervisorFrequency,
        Word("KVMKVMKVM", 0),
        Word("KVMKVMKVM", 4),
        Word("KVMKVMKVM", 8));

    internal static uint Word(string text, int offset)
    {
        Span<byte> bytes = stackalloc byte[4];
        bytes.Clear();
        if (offset < text.Length)
        {
            Encoding.ASCII.GetBytes(text.AsSpan(offset, Math.Min(4, text.Length - offset)), bytes);
        }

        return System.Buffers.Binary.BinaryPrimitives.ReadUInt32LittleEndian(bytes);
    }

    /// <summary>One of the three leaves of a brand string.</summary>
    internal static CpuidResult Brand(string text, int part) =>
        new(Word(text, part * 16), Word(text, (part * 16) + 4), Word(text, (part * 16) + 8), Word(text, (part * 16) + 12));
}
