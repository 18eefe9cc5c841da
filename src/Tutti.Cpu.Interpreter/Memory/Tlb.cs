using System.Runtime.InteropServices;

namespace Tutti.Cpu.Interpreter;

/// <summary>
/// One page of the software TLB. A tag is the page's linear address when the fast path may be taken, else
/// <see cref="NoTag"/>: pages of devices, with decoded code (writes), or with watched addresses never get one.
/// </summary>
[StructLayout(LayoutKind.Sequential)]
internal struct TlbEntry
{
    public ulong ReadTag;
    public ulong WriteTag;

    /// <summary>Host address minus linear address.</summary>
    public long Addend;

    /// <summary>The bits of a linear address inside the guest's page, 12 of them for a 4 KiB page, 21 for 2 MiB; and <see cref="GlobalMark"/>.</summary>
    public ulong PageMask;

    public const int Count = 1024;

    /// <summary>In <see cref="PageMask"/>: a global page, which a write of CR3 does not drop.</summary>
    public const ulong GlobalMark = 1UL << 63;

    /// <summary>Matches no page address.</summary>
    public const ulong NoTag = 1;
}
