using System.Runtime.InteropServices;

namespace Tutti.Cpu.Software;

/// <summary>Remembers where the code at a linear address was last found, until the next TLB flush.</summary>
[StructLayout(LayoutKind.Sequential)]
public unsafe struct JumpCacheEntry
{
    /// <summary>RIP (not linear: CS.base is 0 where this is used).</summary>
    public ulong Rip;

    /// <summary>What the interpreter has decoded there.</summary>
    public void* Ops;

    /// <summary>The <see cref="CpuState.JumpTag"/> that it is good for.</summary>
    public uint Tag;

    public uint Padding;

    public const int Count = 4096;

    public static int IndexOf(ulong rip) => (int)((rip ^ (rip >> 12)) & (Count - 1));
}
