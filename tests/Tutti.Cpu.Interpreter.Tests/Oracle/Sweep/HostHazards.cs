namespace Tutti.Cpu.Interpreter.Tests.Oracle.Sweep;

/// <summary>Encodings that may not run on the host's processor: they would reach its kernel or hypervisor, or take this thread's state along.</summary>
internal static class HostHazards
{
    /// <summary>Why not, or null where it may run.</summary>
    public static string? Find(SweptEncoding encoding) => encoding.Map switch
    {
        SweptMap.OneByte => FindOneByte(encoding),
        SweptMap.Escape0F => FindEscape(encoding),
        _ => null,
    };

    private static string? FindOneByte(SweptEncoding encoding) => encoding.Opcode switch
    {
        0xCD => "INT calls the host's kernel",
        0x8E => "a segment register of the host's thread would change",
        0x07 or 0x17 or 0x1F or 0xC4 or 0xC5 when encoding.Bits == 32 => "a segment register of the host's thread would change",
        0x9A or 0xEA when encoding.Bits == 32 => "a far pointer means what the host's descriptor tables say",
        (>= 0x70 and <= 0x7F) or 0xEB or (>= 0xE0 and <= 0xE3) when (sbyte)encoding.ModRm is < 0 and >= -GuestDecoder.MaxLength => "a branch to itself or into its own bytes has no end",
        0xC7 when encoding.ModRm == 0xF8 => "XBEGIN, where the host has it, starts a transaction that everything ends",
        _ => null,
    };

    private static string? FindEscape(SweptEncoding encoding)
    {
        switch (encoding.Opcode)
        {
            case 0x05 or 0x34:
                return "SYSCALL and SYSENTER call the host's kernel";
            case 0xA1 or 0xA9 or 0xB2 or 0xB4 or 0xB5:
                return "a segment register of the host's thread would change";
            case 0x00 when encoding.Reg is 0 or 1:
            case 0x01 when encoding.Reg is 4 || (encoding.IsMemory && encoding.Reg is 0 or 1):
                return "SGDT, SIDT, SLDT, STR and SMSW may be emulated by the host's kernel (CR4.UMIP)";
            case 0x00 when encoding.Reg is 4 or 5:
                return "VERR and VERW ask the host's descriptor tables";
            case 0x02 or 0x03:
                return "LAR and LSL ask the host's descriptor tables";
            case 0x01 when !encoding.IsMemory && (encoding.ModRm is (>= 0xC0 and <= 0xC9) or 0xCF or 0xD4 or 0xD7 or (>= 0xD8 and <= 0xDF)):
                return "it may call the hypervisor below the host, or an enclave";
            case 0x01 when encoding.ModRm is 0xEE or 0xEF:
                return "WRPKRU, where the host has it, takes the process's own pages away";
            case 0x01 when encoding.ModRm is 0xFA or 0xFB:
                return "MONITORX and MWAITX, where the host has them, wait";
            case 0xAE when !encoding.IsMemory && encoding.Reg <= 3 && encoding.Repeat == 0xF3:
                return "FSGSBASE would move the host's thread pointer";
            default:
                return null;
        }
    }
}
