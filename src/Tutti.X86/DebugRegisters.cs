namespace Tutti.X86;

/// <summary>DR6 bits. Source: Intel SDM volume 3, "Debug Status Register (DR6)".</summary>
public static class Dr6
{
    /// <summary>B0 to B3: the breakpoint's condition was met.</summary>
    public const ulong BreakpointMask = 0xF;

    /// <summary>BD: the next instruction accesses a debug register while DR7.GD is set.</summary>
    public const ulong RegisterAccess = 1UL << 13;

    /// <summary>BS: single step.</summary>
    public const ulong SingleStep = 1UL << 14;

    /// <summary>BT: a task switch to a TSS with its T flag set.</summary>
    public const ulong TaskSwitch = 1UL << 15;

    /// <summary>Bits that read as 1 (RTM and bus lock detection are not there).</summary>
    public const ulong AlwaysOne = 0xFFFF_0FF0;

    /// <summary>Bits that software can change.</summary>
    public const ulong Writable = BreakpointMask | RegisterAccess | SingleStep | TaskSwitch;
}

/// <summary>DR7 bits. Source: Intel SDM volume 3, "Debug Control Register (DR7)".</summary>
public static class Dr7
{
    /// <summary>L0, G0 to L3, G3: two enable bits for each breakpoint.</summary>
    public const ulong EnableMask = 0xFF;

    /// <summary>L0 to L3, which a task switch clears.</summary>
    public const ulong LocalEnables = 0x55;

    /// <summary>GD: an access to a debug register faults.</summary>
    public const ulong GeneralDetect = 1UL << 13;

    public const ulong AlwaysOne = 0x400;

    /// <summary>Bits that software can change: enables, LE, GE, GD, conditions and lengths.</summary>
    public const ulong Writable = 0xFFFF_23FF;

    /// <summary>R/W of a breakpoint: 0 execution, 1 data write, 2 port (with CR4.DE), 3 data read or write.</summary>
    public static int Condition(ulong dr7, int index) => (int)(dr7 >> (16 + (4 * index))) & 3;

    /// <summary>Length of a breakpoint in bytes: 1, 2, 4 or 8.</summary>
    public static int Length(ulong dr7, int index) => ((int)(dr7 >> (18 + (4 * index))) & 3) switch { 0 => 1, 1 => 2, 2 => 8, _ => 4 };

    public static bool IsEnabled(ulong dr7, int index) => ((dr7 >> (2 * index)) & 3) != 0;
}
