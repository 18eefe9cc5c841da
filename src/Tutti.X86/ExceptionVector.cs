namespace Tutti.X86;

/// <summary>Exception vectors. Source: Intel SDM volume 3, "Exception and Interrupt Reference".</summary>
public static class ExceptionVector
{
    public const int DivideError = 0;
    public const int Debug = 1;
    public const int Nmi = 2;
    public const int Breakpoint = 3;
    public const int Overflow = 4;
    public const int BoundRange = 5;
    public const int InvalidOpcode = 6;
    public const int DeviceNotAvailable = 7;
    public const int DoubleFault = 8;
    public const int InvalidTss = 10;
    public const int SegmentNotPresent = 11;
    public const int StackFault = 12;
    public const int GeneralProtection = 13;
    public const int PageFault = 14;
    public const int FloatingPoint = 16;
    public const int AlignmentCheck = 17;
    public const int MachineCheck = 18;
    public const int SimdFloatingPoint = 19;

    /// <summary>Whether delivery pushes an error code.</summary>
    public static bool HasErrorCode(int vector) => vector is 8 or (>= 10 and <= 14) or 17;
}

/// <summary>Bits of the page-fault error code. Source: Intel SDM volume 3, "Page-Fault Exceptions".</summary>
public static class PageFaultError
{
    public const uint Present = 1 << 0;
    public const uint Write = 1 << 1;
    public const uint User = 1 << 2;
    public const uint ReservedBit = 1 << 3;
    public const uint InstructionFetch = 1 << 4;

    /// <summary>PK: PKRU denies the access to the page's protection key.</summary>
    public const uint ProtectionKey = 1 << 5;
}
