using Tutti.X86;

namespace Tutti.Cpu;

/// <summary>What a vCPU is doing when it is not fetching instructions.</summary>
public enum ProcessorActivity
{
    Running,
    Halted,

    /// <summary>An application processor after INIT.</summary>
    WaitForStartup,
}

/// <summary>The architectural state of one processor as plain data, for boot, snapshots, tests and messages.</summary>
public sealed class ProcessorRegisters
{
    /// <summary>RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15: the order of their encodings.</summary>
    public ulong[] Gpr { get; } = new ulong[16];

    public ulong Rip { get; set; }

    public ulong Rflags { get; set; } = X86.Rflags.AlwaysOne;

    /// <summary>ES, CS, SS, DS, FS, GS: the order of their encodings.</summary>
    public SegmentRegister[] Segments { get; } = new SegmentRegister[6];

    public SegmentRegister Tr { get; set; }

    public SegmentRegister Ldtr { get; set; }

    public ulong GdtBase { get; set; }

    public ushort GdtLimit { get; set; }

    public ulong IdtBase { get; set; }

    public ushort IdtLimit { get; set; }

    public ulong Cr0 { get; set; }

    public ulong Cr2 { get; set; }

    public ulong Cr3 { get; set; }

    public ulong Cr4 { get; set; }

    public ulong Cr8 { get; set; }

    public ulong Efer { get; set; }

    public ulong Xcr0 { get; set; } = 1;

    /// <summary>DR0 to DR7; 4 and 5 are unused.</summary>
    public ulong[] Dr { get; } = new ulong[8];

    /// <summary>x87, MMX and SSE state in FXSAVE64 format, 512 bytes.</summary>
    public byte[] FxState { get; } = new byte[512];

    /// <summary>
    /// All of the processor's extended state (AVX and later) in the standard form of XSAVE, as long as the host's processor
    /// makes it; null where an engine has no more than <see cref="FxState"/>, which repeats its first 512 bytes and counts.
    /// </summary>
    public byte[]? ExtendedState { get; set; }

    /// <summary>MSRs without a field of their own, by number.</summary>
    public Dictionary<uint, ulong> Msrs { get; } = [];

    public ProcessorActivity Activity { get; set; }

    /// <summary>One instruction more runs before interrupts are taken (after STI or a load of SS).</summary>
    public bool InterruptShadow { get; set; }

    /// <summary>NMIs are held off until IRET.</summary>
    public bool NmiBlocked { get; set; }

    public bool NmiPending { get; set; }
}
