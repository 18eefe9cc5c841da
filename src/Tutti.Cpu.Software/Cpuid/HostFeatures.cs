using System.Runtime.Intrinsics.X86;
using Iced.Intel;

namespace Tutti.Cpu.Software;

/// <summary>
/// Which instruction-set extensions the host processor has. Vector and crypto instructions run on the host's own
/// units, so a guest's CPUID may show none that is false here; their instructions then raise #UD.
/// </summary>
public static class HostFeatures
{
    // CPUID leaf 7 and leaf 1 bits. Source: Intel SDM volume 2, "CPUID".
    private static readonly int Leaf7Ebx = MaxLeaf >= 7 ? X86Base.CpuId(7, 0).Ebx : 0;
    private static readonly int Leaf7Ecx = MaxLeaf >= 7 ? X86Base.CpuId(7, 0).Ecx : 0;
    private static readonly int Leaf1Ecx = X86Base.CpuId(1, 0).Ecx;
    private static readonly int LeafExtended1Ecx = X86Base.CpuId(unchecked((int)0x8000_0001), 0).Ecx;

    /// <summary>SSE3, SSSE3, SSE4.1, SSE4.2 and POPCNT.</summary>
    public static bool X8664V2 => Sse42.IsSupported && Popcnt.IsSupported && Ssse3.IsSupported;

    public static bool AesNi => (Leaf1Ecx & (1 << 25)) != 0;

    public static bool Pclmulqdq => (Leaf1Ecx & (1 << 1)) != 0;

    public static bool Sha => (Leaf7Ebx & (1 << 29)) != 0;

    /// <summary>BMI1 is VEX-encoded: the host's operating system must have enabled AVX state too.</summary>
    public static bool Bmi1 => System.Runtime.Intrinsics.X86.Bmi1.IsSupported && (Leaf7Ebx & (1 << 3)) != 0;

    public static bool Bmi2 => System.Runtime.Intrinsics.X86.Bmi2.IsSupported && (Leaf7Ebx & (1 << 8)) != 0;

    /// <summary>Also that the host's operating system saves the upper halves of the YMM registers.</summary>
    public static bool Avx => System.Runtime.Intrinsics.X86.Avx.IsSupported;

    public static bool Avx2 => System.Runtime.Intrinsics.X86.Avx2.IsSupported;

    public static bool Fma => Avx && (Leaf1Ecx & (1 << 12)) != 0;

    public static bool F16c => Avx && (Leaf1Ecx & (1 << 29)) != 0;

    /// <summary>GFNI; its VEX forms need <see cref="Avx"/> besides.</summary>
    public static bool Gfni => (Leaf7Ecx & (1 << 8)) != 0;

    public static bool Vaes => Avx && (Leaf7Ecx & (1 << 9)) != 0;

    public static bool Vpclmulqdq => Avx && (Leaf7Ecx & (1 << 10)) != 0;

    public static bool Adx => (Leaf7Ebx & (1 << 19)) != 0;

    public static bool Lzcnt => (LeafExtended1Ecx & (1 << 5)) != 0;

    public static bool Movbe => (Leaf1Ecx & (1 << 22)) != 0;

    private static int MaxLeaf => X86Base.CpuId(0, 0).Eax;

    /// <summary>Whether instructions of an extension can run here; false for every extension that the engine does not know.</summary>
    public static bool Has(CpuidFeature feature) => feature switch
    {
        CpuidFeature.MMX or CpuidFeature.SSE or CpuidFeature.SSE2 => true,
        CpuidFeature.SSE3 or CpuidFeature.SSSE3 or CpuidFeature.SSE4_1 or CpuidFeature.SSE4_2 or CpuidFeature.POPCNT => X8664V2,
        CpuidFeature.AES => AesNi,
        CpuidFeature.PCLMULQDQ => Pclmulqdq,
        CpuidFeature.SHA => Sha,
        CpuidFeature.BMI1 => Bmi1,
        CpuidFeature.BMI2 => Bmi2,
        CpuidFeature.ADX => Adx,
        CpuidFeature.LZCNT => Lzcnt,
        CpuidFeature.MOVBE => Movbe,
        CpuidFeature.AVX => Avx,
        CpuidFeature.AVX2 => Avx2,
        CpuidFeature.FMA => Fma,
        CpuidFeature.F16C => F16c,
        CpuidFeature.GFNI => Gfni,
        CpuidFeature.VAES => Vaes,
        CpuidFeature.VPCLMULQDQ => Vpclmulqdq,
        _ => false,
    };
}
