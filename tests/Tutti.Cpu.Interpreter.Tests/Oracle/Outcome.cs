using System.Globalization;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.Oracle;

/// <summary>What an instruction left behind on one side.</summary>
internal sealed class Outcome
{
    /// <summary>Number of the pad at which control came out, -1 when it did not.</summary>
    public int Landing { get; set; }

    /// <summary>Exception vector, -1 when there was none.</summary>
    public int Vector { get; set; }

    public ulong Error { get; set; }

    /// <summary>CR2 of a page fault.</summary>
    public ulong FaultAddress { get; set; }

    /// <summary>RIP at which the exception was taken.</summary>
    public ulong FaultRip { get; set; }

    public ulong[] Gpr { get; } = new ulong[16];

    public ulong Flags { get; set; }

    public byte[] Fx { get; } = new byte[512];

    /// <summary>Upper halves of YMM0 to YMM15.</summary>
    public byte[] Ymm { get; } = new byte[256];

    /// <summary>How control came out, in words.</summary>
    public string Ending => Vector < 0
        ? $"went on at pad {Landing}"
        : string.Create(CultureInfo.InvariantCulture, $"exception {Vector} error {Error:x}")
            + (Vector == ExceptionVector.PageFault ? $" cr2 {FaultAddress:x}" : string.Empty) + $" at {FaultRip:x}";

    public void Faulted(int vector, ulong error, ulong address, ulong rip)
    {
        Landing = -1;
        Vector = vector;
        Error = ExceptionVector.HasErrorCode(vector) ? error : 0;
        FaultAddress = vector == ExceptionVector.PageFault ? address : 0;
        FaultRip = rip;
    }

    public void Landed(int pad)
    {
        Landing = pad;
        Vector = -1;
        Error = 0;
        FaultAddress = 0;
        FaultRip = 0;
    }
}
