namespace Tutti.X86;

/// <summary>The two bits of a protection key in PKRU, key i's from bit 2i on. Source: Intel SDM volume 3, "Protection Keys".</summary>
public static class Pkru
{
    public const uint AccessDisable = 1;
    public const uint WriteDisable = 2;
}

/// <summary>Bits of paging-structure entries. Source: Intel SDM volume 3, chapter "Paging".</summary>
public static class PageTableEntry
{
    public const ulong Present = 1UL << 0;
    public const ulong Writable = 1UL << 1;
    public const ulong User = 1UL << 2;
    public const ulong WriteThrough = 1UL << 3;
    public const ulong CacheDisable = 1UL << 4;
    public const ulong Accessed = 1UL << 5;
    public const ulong Dirty = 1UL << 6;
    public const ulong PageSize = 1UL << 7;
    public const ulong Global = 1UL << 8;
    public const ulong NoExecute = 1UL << 63;

    /// <summary>The protection key of a page, with CR4.PKE, is in bits 62:59.</summary>
    public const int KeyShift = 59;

    /// <summary>Address bits of an 8-byte entry: 51 to 12.</summary>
    public const ulong AddressMask = 0x000F_FFFF_FFFF_F000;
}
