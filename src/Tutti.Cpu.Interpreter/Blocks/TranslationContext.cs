using Iced.Intel;

namespace Tutti.Cpu.Interpreter;

/// <summary>Which <see cref="IAddress"/> fits a memory operand.</summary>
internal enum AddressKind
{
    Flat,
    Long,
    Segmented,
}

/// <summary>Which operands an instruction has.</summary>
internal enum OperandForm
{
    RegisterRegister,
    RegisterImmediate,
    RegisterMemory,
    MemoryRegister,
    MemoryImmediate,
}

/// <summary>What translators of single instructions know of the block being built, and tell its builder.</summary>
internal unsafe struct TranslationContext
{
    /// <summary><see cref="CodeMode"/> bits of the block.</summary>
    public uint Mode;

    /// <summary>RIP of the block's first instruction as the decoder counts it.</summary>
    public ulong BlockRip;

    /// <summary>How the memory operand, if any, is addressed.</summary>
    public AddressKind Address;

    /// <summary>Set by a translator: control does not simply go on behind this instruction.</summary>
    public bool EndsBlock;

    /// <summary>Set by the translator of a CMP or TEST that a conditional branch right behind it may be fused with.</summary>
    public Op* Fusable;

    public OperandForm FusableForm;

    public int FusableWidthLog2;

    public bool FusableIsTest;

    /// <summary>The <see cref="Fusable"/> of the instruction before this one, or null.</summary>
    public Op* Previous;

    /// <summary>Set by a translator: the instruction went into <see cref="Previous"/> and needs no op of its own.</summary>
    public bool Fused;

    public readonly bool Is64 => (Mode & CodeMode.BitnessMask) == CodeMode.Bits64;
}

/// <summary>Where a register lives in <see cref="CpuState"/>.</summary>
internal static class RegisterOffset
{
    /// <summary>Byte offset of a general register of any width (AH is 1), of the zero register for None.</summary>
    public static byte Of(Register register)
    {
        if (register == Register.None)
        {
            return CpuState.ZeroOffset;
        }

        if (register is >= Register.AH and <= Register.BH)
        {
            return (byte)(((register - Register.AH) * 8) + 1);
        }

        if (register is Register.RIP or Register.EIP)
        {
            return CpuState.RipOffset;
        }

        Register full = register.GetFullRegister();
        if (full is < Register.RAX or > Register.R15)
        {
            throw new ArgumentOutOfRangeException(nameof(register), register, "Not a general register.");
        }

        return (byte)((full - Register.RAX) * 8);
    }

    /// <summary>Log2 of a general register's width in bytes.</summary>
    public static int SizeLog2(Register register) => register.GetSize() switch { 1 => 0, 2 => 1, 4 => 2, _ => 3 };

    /// <summary>ES, CS, SS, DS, FS, GS as 0 to 5.</summary>
    public static byte Segment(Register segment) => (byte)(segment - Register.ES);
}
