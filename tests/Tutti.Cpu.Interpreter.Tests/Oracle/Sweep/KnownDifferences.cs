using Iced.Intel;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.Oracle.Sweep;

/// <summary>Where the engine does something else than this host on purpose, each with the reason.</summary>
internal static class KnownDifferences
{
    private const string CutBranch = "near branches with prefix 66 in 64-bit mode are done as Intel does them; AMD cuts RIP to 16 bits, and software uses none";
    private const string OtherLoop = "no manual gives LOOPE and LOOPNE a repeat prefix; AMD's family 25 takes the condition from it";
    private static readonly HashSet<CpuidFeature> Shown = [.. Enum.GetValues<CpuidFeature>().Where(IsShown)];

    /// <summary>The reason, or null where the difference is none that is known.</summary>
    public static string? Find(SweptEncoding encoding, Outcome host, Outcome guest)
    {
        if ((HostFeatures.IsAmd ? FindOnAmd(encoding, host, guest) : FindOnIntel(encoding)) is { } maker)
        {
            return maker;
        }

        bool guestRefuses = guest.Vector == ExceptionVector.InvalidOpcode;
        if (guestRefuses && !encoding.IsHint && Hidden(encoding.Instruction) is { } feature)
        {
            return $"CPUID does not show {feature}";
        }

        bool isMaskedStore = encoding.Opcode == 0xF7 && encoding.Map is SweptMap.Escape0F or SweptMap.Vex;
        if (isMaskedStore && guest.FaultRip == SweepRunner.End)
        {
            return "whether a masked store that stores nothing faults is the processor's own affair";
        }

        // FXSAVE, XSAVE and their kin, FLDENV, FNSTENV, FRSTOR, FNSAVE.
        bool isImage = encoding.IsMemory && (encoding.Map == SweptMap.Escape0F ? encoding.Opcode is 0xAE or 0xC7
            : encoding.Map == SweptMap.OneByte && encoding.Opcode is 0xD9 or 0xDD && encoding.Reg is 4 or 6);
        return isImage && host.Vector == ExceptionVector.PageFault && guest.Vector == ExceptionVector.PageFault && host.Error == guest.Error
            ? "which byte of a state image a page fault names is the processor's own affair"
            : null;
    }

    /// <summary>The same where an operand lies at the edge of a page.</summary>
    public static string? FindAtEdge(SweptEncoding encoding, Outcome host, Outcome guest, ulong address)
    {
        if (encoding.Instruction.Code == Code.Movsxd_r16_rm16 && !HostFeatures.IsAmd)
        {
            return "MOVSXD with prefix 66 reads four bytes on AMD, which CPUID shows, and two on Intel";
        }

        if (encoding.Instruction.Mnemonic == Mnemonic.Bound && host.Vector == ExceptionVector.BoundRange)
        {
            return "whether BOUND reads the upper bound of an index that is below the lower one is the processor's own affair";
        }

        return Find(encoding, host, guest);
    }

    private static string? FindOnIntel(SweptEncoding encoding) => encoding.Map switch
    {
        SweptMap.Escape0F when encoding.Opcode == 0x0D && !encoding.IsMemory => "PREFETCH with a register is #UD on AMD, which CPUID shows, and a NOP on Intel",
        SweptMap.Escape0F when encoding.Opcode == 0x07 && encoding.Bits == 32 => "SYSRET is no instruction of compatibility mode on Intel; on AMD, which CPUID shows, it is",
        SweptMap.Escape0F when encoding.Opcode == 0x35 => "SYSEXIT is no instruction of long mode on AMD, which CPUID shows; on Intel it is",
        _ => null,
    };

    private static string? FindOnAmd(SweptEncoding encoding, Outcome host, Outcome guest)
    {
        bool guestRefuses = guest.Vector == ExceptionVector.InvalidOpcode;
        return encoding.Map switch
        {
            SweptMap.OneByte => FindOneByteOnAmd(encoding, host, guest),
            SweptMap.Escape0F when encoding.Bits == 64 && encoding.OperandSize && encoding.Opcode is >= 0x80 and <= 0x8F => CutBranch,
            SweptMap.Escape0F when encoding.HasLock && encoding.Opcode is 0x20 or 0x22 && guestRefuses && host.Vector == ExceptionVector.GeneralProtection =>
                "LOCK MOV CR0 is MOV CR8, and privileged, on processors with ALTMOVCR8, which CPUID does not show",
            SweptMap.Escape0F when encoding.Opcode == 0x01 && encoding.ModRm is 0xFE or 0xFF && guestRefuses && host.Vector == ExceptionVector.GeneralProtection =>
                "INVLPGB and what belongs to SEV-SNP, all privileged, are not shown by CPUID",
            SweptMap.Vex when encoding.Bits == 64 && encoding.Bytes[0] == 0x40
                && host.Vector == ExceptionVector.InvalidOpcode && guest.Vector == ExceptionVector.GeneralProtection =>
                "whether a VEX prefix behind REX or a length of more than 15 bytes is told first is the processor's own affair",
            SweptMap.Vex when encoding.Instruction.IsInvalid && encoding.Opcode is 0x00 or 0x01 && guestRefuses =>
                "VPERMQ and VPERMPD are defined with VEX.W = 1 alone; AMD's family 25 takes them with 0, too",
            SweptMap.Vex when encoding.Bits == 32 && encoding.Opcode is 0x16 or 0x22 && host.Vector == ExceptionVector.InvalidOpcode =>
                "VEX.W = 1 of VPEXTRD and VPINSRD is #UD outside 64-bit mode on AMD; here, as on Intel, it has no meaning there",
            SweptMap.Escape0F38 or SweptMap.Escape0F3A when encoding.Instruction.Mnemonic.ToString().StartsWith("Sha", StringComparison.Ordinal)
                && host.Vector == ExceptionVector.PageFault && guest.Vector == ExceptionVector.GeneralProtection =>
                "whether an operand of SHA that is not aligned or a page of it that is not there is told first is the processor's own affair",
            _ => null,
        };
    }

    private static string? FindOneByteOnAmd(SweptEncoding encoding, Outcome host, Outcome guest)
    {
        bool isBranch = encoding.Opcode is (>= 0x70 and <= 0x7F) or (>= 0xE0 and <= 0xE3) or 0xE8 or 0xE9 or 0xEB or 0xC2 or 0xC3 or 0xFF;
        if (isBranch && encoding.Bits == 64 && encoding.OperandSize)
        {
            return CutBranch;
        }

        return encoding.Opcode switch
        {
            0xE0 when encoding.Repeat == 0xF3 => OtherLoop,
            0xE1 when encoding.Repeat == 0xF2 => OtherLoop,
            0xF1 when host.Vector == ExceptionVector.Debug && guest.Vector == ExceptionVector.Debug && host.FaultRip == guest.FaultRip - (ulong)encoding.Instruction.Length =>
                "INT1 is a trap; a hypervisor that intercepts #DB with AMD-V is given, and gives back, the address of INT1 itself",
            0xFF when encoding.Bits == 64 && encoding.Reg is 3 or 5 && encoding.Instruction.MemorySize == MemorySize.SegPtr64 =>
                "with REX.W the pointer of a far branch has an offset of 64 bits, as on Intel; on AMD it has 32",
            _ => null,
        };
    }

    /// <summary>A feature that an instruction needs and CPUID does not show; null where there is none.</summary>
    private static string? Hidden(in Instruction instruction)
    {
        if (instruction.IsInvalid)
        {
            return null;
        }

        foreach (CpuidFeature feature in instruction.CpuidFeatures)
        {
            if (!Shown.Contains(feature))
            {
                return feature.ToString();
            }
        }

        return null;
    }

    private static bool IsShown(CpuidFeature feature) => HostFeatures.IsShown(feature) || feature.ToString().StartsWith("INTEL", StringComparison.Ordinal)
        || feature.ToString().StartsWith("FPU", StringComparison.Ordinal) || feature is CpuidFeature.X64;
}
