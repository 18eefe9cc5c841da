using System.Runtime.InteropServices;

namespace Tutti.Cpu.Software;

/// <summary>
/// One page of the software TLB. A tag is the page's linear address when the fast path may be taken, else
/// <see cref="NoTag"/>: pages of devices, with decoded code (writes), or with watched addresses never get one.
/// </summary>
[StructLayout(LayoutKind.Sequential)]
public struct TlbEntry
{
    public ulong ReadTag;
    public ulong WriteTag;

    /// <summary>Host address minus linear address.</summary>
    public long Addend;

    /// <summary>
    /// The bits of a linear address inside the guest's page, 12 of them for a 4 KiB page, 21 for 2 MiB; and marks above those, among the
    /// bits that are alike in a canonical address.
    /// </summary>
    public ulong PageMask;

    public const int Count = 1024;

    /// <summary>In <see cref="PageMask"/>: a global page, which a write of CR3 does not drop.</summary>
    public const ulong GlobalMark = 1UL << 63;

    /// <summary>In <see cref="PageMask"/>: the rights depend on PKRU, by the protection key in the four bits from <see cref="KeyShift"/> on.</summary>
    public const ulong KeyMark = 1UL << 62;

    public const int KeyShift = 58;

    /// <summary>The bits of <see cref="PageMask"/> that are no marks.</summary>
    public const ulong InPage = (1UL << KeyShift) - 1;

    /// <summary>A bit for the entry's protection key; 0 where it has none.</summary>
    public readonly uint KeyBit => (PageMask & KeyMark) != 0 ? 1u << ((int)(PageMask >> KeyShift) & 15) : 0;

    /// <summary>Matches no page address.</summary>
    public const ulong NoTag = 1;
}
