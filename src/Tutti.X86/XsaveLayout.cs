namespace Tutti.X86;

/// <summary>State components that XCR0 enables and their places in the standard form of an XSAVE area. Source: Intel SDM volume 1, chapter 13.</summary>
public static class XsaveLayout
{
    public const ulong X87 = 1 << 0;
    public const ulong Sse = 1 << 1;

    /// <summary>The upper halves of the YMM registers.</summary>
    public const ulong Avx = 1 << 2;

    /// <summary>The components that the software engine has, on hosts with AVX.</summary>
    public const ulong Supported = X87 | Sse | Avx;

    /// <summary>Bytes: the legacy region of 512 and the header.</summary>
    public const uint BaseSize = 576;

    /// <summary>Offset of XSTATE_BV; XCOMP_BV lies behind it.</summary>
    public const int Header = 512;

    public const uint AvxOffset = 576;

    /// <summary>Bytes.</summary>
    public const uint AvxSize = 256;

    /// <summary>Bytes of an area with these of the <see cref="Supported"/> components.</summary>
    public static uint SizeOf(ulong components) => (components & Avx) != 0 ? AvxOffset + AvxSize : BaseSize;

    /// <summary>Whether XSETBV takes the value on a processor that supports these components: x87 always, AVX only with SSE.</summary>
    public static bool IsValid(ulong xcr0, ulong supported) =>
        (xcr0 & ~supported) == 0 && (xcr0 & X87) != 0 && ((xcr0 & Avx) == 0 || (xcr0 & Sse) != 0);
}
