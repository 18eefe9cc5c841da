using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.Oracle;

/// <summary>The flags that Jcc, SETcc and CMOVcc look at. Source: Intel SDM volume 1, appendix B.</summary>
internal static class ConditionFlags
{
    /// <param name="condition">The low four bits of the opcode, 0 to 15.</param>
    public static ulong ReadBy(int condition) => (condition >> 1) switch
    {
        0 => Rflags.Overflow,
        1 => Rflags.Carry,
        2 => Rflags.Zero,
        3 => Rflags.Carry | Rflags.Zero,
        4 => Rflags.Sign,
        5 => Rflags.Parity,
        6 => Rflags.Sign | Rflags.Overflow,
        _ => Rflags.Sign | Rflags.Overflow | Rflags.Zero,
    };
}
