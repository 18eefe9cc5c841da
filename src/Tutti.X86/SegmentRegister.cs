namespace Tutti.X86;

/// <summary>A segment register with its hidden part.</summary>
/// <param name="Selector">The visible selector.</param>
/// <param name="Base">Linear base address.</param>
/// <param name="Limit">Limit in bytes, granularity already applied.</param>
/// <param name="Attributes">Descriptor bits 40 to 47 in bits 0 to 7 (type, S, DPL, P), bits 52 to 55 in bits 12 to 15 (AVL, L, D/B, G): the VMX access-rights layout.</param>
public readonly record struct SegmentRegister(ushort Selector, ulong Base, uint Limit, ushort Attributes);

/// <summary>Bits of <see cref="SegmentRegister.Attributes"/>. Source: Intel SDM volume 3, "Segment Descriptors".</summary>
public static class SegmentAttributes
{
    public const ushort TypeMask = 0xF;
    public const ushort Accessed = 1 << 0;

    /// <summary>Data: writable. Code: readable.</summary>
    public const ushort WritableOrReadable = 1 << 1;

    /// <summary>Data: grows down. Code: conforming.</summary>
    public const ushort ExpandDownOrConforming = 1 << 2;

    public const ushort Code = 1 << 3;

    /// <summary>S: set for code and data, clear for system segments.</summary>
    public const ushort NonSystem = 1 << 4;

    public const int DplShift = 5;
    public const ushort Present = 1 << 7;
    public const ushort Available = 1 << 12;
    public const ushort Long = 1 << 13;

    /// <summary>D/B: 32-bit default size.</summary>
    public const ushort Big = 1 << 14;

    public const ushort Granularity = 1 << 15;
}
