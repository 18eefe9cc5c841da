namespace Tutti.X86;

/// <summary>
/// The first 8 bytes of a segment, system or gate descriptor. Source: Intel SDM volume 3, "Segment Descriptors",
/// "System Descriptor Types"; AMD APM volume 2, chapter 4.
/// </summary>
/// <param name="Raw">The bytes as a little-endian number.</param>
public readonly record struct Descriptor(ulong Raw)
{
    /// <summary>Access byte and flags, as in <see cref="SegmentAttributes"/>.</summary>
    public ushort Attributes => (ushort)((Raw >> 40) & 0xF0FF);

    /// <summary>Bits 31:0 of the base; 16-byte descriptors of long mode hold the rest in their second half.</summary>
    public uint Base => (uint)(((Raw >> 16) & 0xFF_FFFF) | ((Raw >> 32) & 0xFF00_0000));

    /// <summary>Limit in bytes, granularity applied.</summary>
    public uint Limit
    {
        get
        {
            uint limit = (uint)((Raw & 0xFFFF) | ((Raw >> 32) & 0xF_0000));
            return (Raw & (1UL << 55)) != 0 ? (limit << 12) | 0xFFF : limit;
        }
    }

    /// <summary>The type field, 0 to 15.</summary>
    public int Type => (int)(Raw >> 40) & 0xF;

    public int Dpl => (int)(Raw >> 45) & 3;

    public bool Present => (Raw & (1UL << 47)) != 0;

    public bool IsSystem => (Raw & (1UL << 44)) == 0;

    public bool IsCode => !IsSystem && (Type & 8) != 0;

    public bool IsConformingCode => !IsSystem && (Type & 0xC) == 0xC;

    public bool IsReadable => !IsSystem && ((Type & 8) == 0 || (Type & 2) != 0);

    public bool IsWritableData => !IsSystem && (Type & 0xA) == 2;

    public bool IsAccessed => (Raw & (1UL << 40)) != 0;

    /// <summary>L: 64-bit code.</summary>
    public bool IsLong => (Raw & (1UL << 53)) != 0;

    /// <summary>D/B: 32-bit default size.</summary>
    public bool IsBig => (Raw & (1UL << 54)) != 0;

    /// <summary>Gates: the selector of the target.</summary>
    public ushort GateSelector => (ushort)(Raw >> 16);

    /// <summary>Gates: bits 31:0 of the target's offset.</summary>
    public uint GateOffset => (uint)((Raw & 0xFFFF) | ((Raw >> 32) & 0xFFFF_0000));

    /// <summary>Call gates outside long mode: words or doublewords to copy, 0 to 31.</summary>
    public int GateParameterCount => (int)(Raw >> 32) & 0x1F;

    /// <summary>Interrupt gates of long mode: 1 to 7 names a stack of the TSS, 0 none.</summary>
    public int GateStackTable => (int)(Raw >> 32) & 7;
}

/// <summary>Types of system descriptors. Source: Intel SDM volume 3, "System-Segment and Gate-Descriptor Types".</summary>
public static class SystemDescriptorType
{
    public const int AvailableTss16 = 1;
    public const int LocalDescriptorTable = 2;
    public const int BusyTss16 = 3;
    public const int CallGate16 = 4;
    public const int TaskGate = 5;
    public const int InterruptGate16 = 6;
    public const int TrapGate16 = 7;

    /// <summary>32-bit TSS, or the 64-bit one in long mode.</summary>
    public const int AvailableTss = 9;

    public const int BusyTss = 11;
    public const int CallGate = 12;
    public const int InterruptGate = 14;
    public const int TrapGate = 15;
}
