namespace Tutti.X86;

/// <summary>State components that XCR0 enables and their places in the standard form of an XSAVE area. Source: Intel SDM volume 1, chapter 13.</summary>
public static class XsaveLayout
{
    public const ulong X87 = 1 << 0;
    public const ulong Sse = 1 << 1;

    /// <summary>The upper halves of the YMM registers.</summary>
    public const ulong Avx = 1 << 2;

    /// <summary>PKRU, the rights of protection keys.</summary>
    public const ulong Pkru = 1 << 9;

    /// <summary>The components that the software engine has, on hosts with AVX.</summary>
    public const ulong Supported = X87 | Sse | Avx | Pkru;

    /// <summary>Bytes: the legacy region of 512 and the header.</summary>
    public const uint BaseSize = 576;

    /// <summary>Offset of XSTATE_BV; XCOMP_BV lies behind it.</summary>
    public const int Header = 512;

    public const uint AvxOffset = 576;

    /// <summary>Bytes.</summary>
    public const uint AvxSize = 256;

    /// <summary>Where AMD's processors have it, behind room for AVX-512.</summary>
    public const uint PkruOffset = 2432;

    /// <summary>Bytes, of which PKRU fills the lower four.</summary>
    public const uint PkruSize = 8;

    /// <summary>Bytes of an area with these of the <see cref="Supported"/> components.</summary>
    public static uint SizeOf(ulong components) => (components & Pkru) != 0 ? PkruOffset + PkruSize
        : (components & Avx) != 0 ? AvxOffset + AvxSize
        : BaseSize;

    /// <summary>Whether XSETBV takes the value on a processor that supports these components: x87 always, AVX only with SSE.</summary>
    public static bool IsValid(ulong xcr0, ulong supported) =>
        (xcr0 & ~supported) == 0 && (xcr0 & X87) != 0 && ((xcr0 & Avx) == 0 || (xcr0 & Sse) != 0);
}
