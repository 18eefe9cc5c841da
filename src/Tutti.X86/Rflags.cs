namespace Tutti.X86;

/// <summary>RFLAGS bits. Source: Intel SDM volume 1, "EFLAGS Register"; volume 3, "System Flags".</summary>
public static class Rflags
{
    public const ulong Carry = 1 << 0;
    public const ulong AlwaysOne = 1 << 1;
    public const ulong Parity = 1 << 2;
    public const ulong Adjust = 1 << 4;
    public const ulong Zero = 1 << 6;
    public const ulong Sign = 1 << 7;
    public const ulong Trap = 1 << 8;
    public const ulong Interrupt = 1 << 9;
    public const ulong Direction = 1 << 10;
    public const ulong Overflow = 1 << 11;
    public const int IoplShift = 12;
    public const ulong Iopl = 3 << IoplShift;
    public const ulong NestedTask = 1 << 14;
    public const ulong Resume = 1 << 16;
    public const ulong Virtual8086 = 1 << 17;
    public const ulong AlignmentCheck = 1 << 18;
    public const ulong VirtualInterrupt = 1 << 19;
    public const ulong VirtualInterruptPending = 1 << 20;
    public const ulong Identification = 1 << 21;

    /// <summary>The six flags that arithmetic sets.</summary>
    public const ulong Arithmetic = Carry | Parity | Adjust | Zero | Sign | Overflow;

    /// <summary>All defined bits, bit 1 among them.</summary>
    public const ulong Defined = 0x3F_7FD7;
}
