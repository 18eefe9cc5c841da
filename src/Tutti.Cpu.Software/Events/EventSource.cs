namespace Tutti.Cpu.Software;

/// <summary>Where an event comes from: what its delivery checks and whether error codes carry the EXT bit.</summary>
public enum EventSource
{
    /// <summary>An interrupt, NMI, or an exception that an instruction met.</summary>
    External,

    /// <summary>INT1: no privilege check, though an instruction asked for it.</summary>
    IceBreakpoint,

    /// <summary>INT3 and INTO: the gate's DPL is checked.</summary>
    Breakpoint,

    /// <summary>INT n: the gate's DPL is checked, and IOPL in virtual-8086 mode.</summary>
    Software,
}
