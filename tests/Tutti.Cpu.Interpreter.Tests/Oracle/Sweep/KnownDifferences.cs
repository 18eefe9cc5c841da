using Iced.Intel;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.Oracle.Sweep;

/// <summary>Where the engine does something else than this host on purpose, each with the reason.</summary>
internal static class KnownDifferences
{
    private static readonly HashSet<CpuidFeature> Shown = [.. Enum.GetValues<CpuidFeature>().Where(IsShown)];

    /// <summary>The reason, or null where the difference is none that is known.</summary>
    public static string? Find(SweptEncoding encoding, Outcome host, Outcome guest)
    {
        if (FindByMaker(encoding) is { } maker)
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

    private static string? FindByMaker(SweptEncoding encoding)
    {
        bool isIntel = !HostFeatures.IsAmd;
        switch (encoding.Map)
        {
            case SweptMap.Escape0F when isIntel && encoding.Opcode == 0x0D && !encoding.IsMemory:
                return "PREFETCH with a register is #UD on AMD, which CPUID shows, and a NOP on Intel";
            case SweptMap.Escape0F when isIntel && encoding.Opcode == 0x07 && encoding.Bits == 32:
                return "SYSRET is no instruction of compatibility mode on Intel; on AMD, which CPUID shows, it is";
            case SweptMap.Escape0F when isIntel && encoding.Opcode == 0x35:
                return "SYSEXIT is no instruction of long mode on AMD, which CPUID shows; on Intel it is";
            case SweptMap.OneByte when HostFeatures.IsAmd && encoding.Bits == 64 && encoding.OperandSize
                && encoding.Opcode is (>= 0x70 and <= 0x7F) or (>= 0xE0 and <= 0xE3) or 0xE8 or 0xE9 or 0xEB or 0xC2 or 0xC3 or 0xFF:
            case SweptMap.Escape0F when HostFeatures.IsAmd && encoding.Bits == 64 && encoding.OperandSize && encoding.Opcode is >= 0x80 and <= 0x8F:
                return "near branches with prefix 66 in 64-bit mode are done as Intel does them; AMD cuts RIP to 16 bits, and software uses none";
            default:
                return null;
        }
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
