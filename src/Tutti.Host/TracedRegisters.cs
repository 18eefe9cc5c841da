using System.Runtime.InteropServices;

namespace Tutti.Host;

/// <summary>The registers of a <see cref="TracedProcess"/>: <c>struct user_regs_struct</c> of x86-64 Linux.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct TracedRegisters
{
    public ulong R15;
    public ulong R14;
    public ulong R13;
    public ulong R12;
    public ulong Rbp;
    public ulong Rbx;
    public ulong R11;
    public ulong R10;
    public ulong R9;
    public ulong R8;
    public ulong Rax;
    public ulong Rcx;
    public ulong Rdx;
    public ulong Rsi;
    public ulong Rdi;

    /// <summary>RAX at a system call, whose number it is; all ones where there is none to be begun again.</summary>
    public ulong CallRax;

    public ulong Rip;
    public ulong Cs;
    public ulong Flags;
    public ulong Rsp;
    public ulong Ss;
    public ulong FsBase;
    public ulong GsBase;
    public ulong Ds;
    public ulong Es;
    public ulong Fs;
    public ulong Gs;
}

/// <summary>Why a traced process has stopped.</summary>
public enum TraceStopKind
{
    /// <summary>It met a signal, which it will not see.</summary>
    Signal,

    /// <summary>It was about to do a system call, which will not be done.</summary>
    SystemCall,

    /// <summary>It has been stopped from outside.</summary>
    Event,

    /// <summary>It is no more.</summary>
    Ended,
}

/// <param name="Kind">Why.</param>
/// <param name="Signal">The signal; of a process that is no more, the one that has ended it, or 0.</param>
public readonly record struct TraceStop(TraceStopKind Kind, int Signal);

/// <summary>What the kernel says of a signal that an instruction has raised.</summary>
/// <param name="Code">si_code.</param>
/// <param name="Address">si_addr.</param>
public readonly record struct TraceFault(int Code, ulong Address)
{
    /// <summary>The kernel's own, without an address: no page fault.</summary>
    public const int ByKernel = 0x80;
}
