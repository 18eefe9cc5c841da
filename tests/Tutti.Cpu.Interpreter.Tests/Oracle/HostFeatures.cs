using System.Runtime.Intrinsics.X86;
using Iced.Intel;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.Oracle;

/// <summary>Which instruction sets the host and the processor model show in CPUID. Source: Intel SDM volume 2, CPUID; AMD APM volume 3.</summary>
internal static class HostFeatures
{
    private const int Eax = 0;
    private const int Ebx = 1;
    private const int Ecx = 2;
    private const int Edx = 3;

    private static readonly Dictionary<CpuidFeature, (uint Leaf, int Register, int Bit)> Bits = new()
    {
        [CpuidFeature.CX8] = (1, Edx, 8),
        [CpuidFeature.CMOV] = (1, Edx, 15),
        [CpuidFeature.CLFSH] = (1, Edx, 19),
        [CpuidFeature.MMX] = (1, Edx, 23),
        [CpuidFeature.FXSR] = (1, Edx, 24),
        [CpuidFeature.SSE] = (1, Edx, 25),
        [CpuidFeature.SSE2] = (1, Edx, 26),
        [CpuidFeature.SSE3] = (1, Ecx, 0),
        [CpuidFeature.PCLMULQDQ] = (1, Ecx, 1),
        [CpuidFeature.SSSE3] = (1, Ecx, 9),
        [CpuidFeature.CMPXCHG16B] = (1, Ecx, 13),
        [CpuidFeature.SSE4_1] = (1, Ecx, 19),
        [CpuidFeature.SSE4_2] = (1, Ecx, 20),
        [CpuidFeature.MOVBE] = (1, Ecx, 22),
        [CpuidFeature.POPCNT] = (1, Ecx, 23),
        [CpuidFeature.AES] = (1, Ecx, 25),
        [CpuidFeature.FMA] = (1, Ecx, 12),
        [CpuidFeature.AVX] = (1, Ecx, 28),
        [CpuidFeature.F16C] = (1, Ecx, 29),
        [CpuidFeature.AVX2] = (7, Ebx, 5),
        [CpuidFeature.GFNI] = (7, Ecx, 8),
        [CpuidFeature.VAES] = (7, Ecx, 9),
        [CpuidFeature.VPCLMULQDQ] = (7, Ecx, 10),
        [CpuidFeature.BMI1] = (7, Ebx, 3),
        [CpuidFeature.BMI2] = (7, Ebx, 8),
        [CpuidFeature.ADX] = (7, Ebx, 19),
        [CpuidFeature.SHA] = (7, Ebx, 29),
        [CpuidFeature.LZCNT] = (0x8000_0001, Ecx, 5),
        [CpuidFeature.PREFETCHW] = (0x8000_0001, Ecx, 8),
    };

    /// <summary>Whether the host's processor is AMD's, or Hygon's of the same design.</summary>
    public static readonly bool IsAmd = X86Base.CpuId(0, 0).Ecx is 0x444D_4163 or 0x656E_6975;

    private static readonly bool IsVirtual = IsSet([0, 0, (uint)X86Base.CpuId(1, 0).Ecx, 0], Ecx, 31);

    /// <summary>
    /// A value that RSP may have on this host while tested code runs. Some hypervisors answer IRET to a non-canonical RSP with #GP
    /// for ever, or kill the thread at the next fault of theirs: under any, bit 47 is extended; on a bare processor nothing changes.
    /// </summary>
    public static ulong StackPointer(ulong value) => IsVirtual ? (ulong)((long)value << 16 >> 16) : value;

    /// <summary>Why a form cannot be compared here, or null: a feature that the host, or the processor model, does not show.</summary>
    public static string? Missing(Code code)
    {
        foreach (CpuidFeature feature in code.CpuidFeatures())
        {
            if (Bits.TryGetValue(feature, out (uint Leaf, int Register, int Bit) bit))
            {
                (int eax, int ebx, int ecx, int edx) = X86Base.CpuId((int)bit.Leaf, 0);
                if (!IsSet([(uint)eax, (uint)ebx, (uint)ecx, (uint)edx], bit.Register, bit.Bit))
                {
                    return $"this host has no {feature}";
                }

                CpuidResult model = SoftwareCpuid.Query(bit.Leaf, 0, new CpuidContext(0, 1, 0, 1));
                if (!IsSet([model.Eax, model.Ebx, model.Ecx, model.Edx], bit.Register, bit.Bit))
                {
                    return $"the processor model does not show {feature}";
                }
            }
        }

        return null;
    }

    /// <summary>Whether the processor model shows a feature to a guest; false for every one that is not known here.</summary>
    public static bool IsShown(CpuidFeature feature)
    {
        if (!Bits.TryGetValue(feature, out (uint Leaf, int Register, int Bit) bit))
        {
            return false;
        }

        CpuidResult model = SoftwareCpuid.Query(bit.Leaf, 0, new CpuidContext(0, 1, 0, 1));
        return IsSet([model.Eax, model.Ebx, model.Ecx, model.Edx], bit.Register, bit.Bit);
    }

    private static bool IsSet(ReadOnlySpan<uint> registers, int register, int bit) => ((registers[register] >> bit) & 1) != 0;
}
