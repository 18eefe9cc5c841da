namespace Tutti.Cpu.Kvm.Tests;

/// <summary>Modes that a small guest starts in; all segments are flat, and what is paged is mapped one to one.</summary>
public enum GuestMode
{
    Real,
    Protected16,
    Protected32,

    /// <summary>32-bit code under two-level paging with 4 MiB pages.</summary>
    Paged32,

    /// <summary>32-bit code under three-level paging with 2 MiB pages.</summary>
    Pae32,
    Long,

    /// <summary>64-bit code of privilege level 3 that may use all ports.</summary>
    LongUser,
}
