using Iced.Intel;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.Oracle;

/// <summary>
/// Where the makers' processors do not do the same: the engine does what AMD's do, which CPUID shows, and is held to that on AMD's only.
/// </summary>
internal static class MakerDifferences
{
    /// <summary>Whether the flags that a fault leaves may differ on this host.</summary>
    public static bool Flags(in Instruction instruction, int hostVector) =>
        // Intel gives a CMPS or SCAS that faults the flags from before all of its elements, AMD those of the last one that was compared.
        !HostFeatures.IsAmd && hostVector >= 0 && IsRepeated(instruction) && (IsCompare(instruction.Mnemonic) || IsScan(instruction.Mnemonic));

    /// <summary>Whether both faults may differ on this host.</summary>
    public static bool Fault(in Instruction instruction, Outcome host, Outcome mine)
    {
        // Of two operands in memory Intel and AMD's family 25 read that at RDI first, other AMD that at RSI.
        bool isOrder = IsCompare(instruction.Mnemonic) && IsOfAddress(host.Vector) && IsOfAddress(mine.Vector);
        if (HostFeatures.IsAmd)
        {
            return isOrder;
        }

        // Intel reads the upper bound only where the index is not below the lower one.
        bool isBound = instruction.Mnemonic == Mnemonic.Bound && host.Vector == ExceptionVector.BoundRange && IsOfAddress(mine.Vector);

        // Intel names the first byte of the element that is not to be had, AMD the first byte of it that lies in the page.
        bool isElement = instruction.Mnemonic is Mnemonic.Vmaskmovps or Mnemonic.Vmaskmovpd or Mnemonic.Vpmaskmovd or Mnemonic.Vpmaskmovq
            && host.Vector == ExceptionVector.PageFault && mine.Vector == ExceptionVector.PageFault
            && host.Error == mine.Error && host.FaultAddress >> 12 == mine.FaultAddress >> 12;

        // Intel raises the exception of the conversion before that of the store.
        bool isConverted = instruction.Mnemonic == Mnemonic.Vcvtps2ph && host.Vector == ExceptionVector.SimdFloatingPoint && IsOfAddress(mine.Vector);
        return isOrder || isBound || isElement || isConverted;
    }

    /// <summary>Whether the state of the x87 and vector units that a fault leaves may differ on this host.</summary>
    public static bool Vectors(in Instruction instruction, int hostVector) =>
        // Before a fault Intel has done part of the work: a gather has made its mask whole elements of ones and zeros, a store of an MMX
        // register has set TOP to 0, VCVTPS2PH has set the flags in MXCSR.
        !HostFeatures.IsAmd && hostVector >= 0
            && (instruction.IsVsib || instruction.Code is Code.Movq_rm64_mm or Code.Movq_mmm64_mm or Code.Movd_rm32_mm or Code.Movntq_m64_mm
                || instruction.Mnemonic == Mnemonic.Vcvtps2ph);

    /// <summary>The bits of a general register that are compared on this host.</summary>
    public static ulong Compared(in Instruction instruction, int register) =>
        // Before its first element Intel clears the upper halves of RCX, RSI and RDI where addresses have 32 bits, AMD with the first element.
        !HostFeatures.IsAmd && register is 1 or 6 or 7 && IsRepeated(instruction) && UsesShortAddresses(instruction) ? uint.MaxValue : ulong.MaxValue;

    private static bool IsRepeated(in Instruction instruction) => instruction.HasRepPrefix || instruction.HasRepnePrefix;

    private static bool IsCompare(Mnemonic mnemonic) => mnemonic is Mnemonic.Cmpsb or Mnemonic.Cmpsw or Mnemonic.Cmpsd or Mnemonic.Cmpsq;

    private static bool IsScan(Mnemonic mnemonic) => mnemonic is Mnemonic.Scasb or Mnemonic.Scasw or Mnemonic.Scasd or Mnemonic.Scasq;

    private static bool IsOfAddress(int vector) => vector is ExceptionVector.PageFault or ExceptionVector.GeneralProtection or ExceptionVector.StackFault;

    private static bool UsesShortAddresses(in Instruction instruction) =>
        instruction.Op0Kind is OpKind.MemoryESEDI or OpKind.MemorySegESI || instruction.Op1Kind is OpKind.MemoryESEDI or OpKind.MemorySegESI;
}
