using Iced.Intel;
using Tutti.Cpu.Interpreter.Tests.Vector;
using Tutti.Host;

namespace Tutti.Cpu.Interpreter.Tests.Review;

/// <summary>
/// Instructions that the host runs on guest memory touch no more than their operand: it stands at either end of a mapping
/// that unreadable addresses follow, where one byte too many ends the test process.
/// </summary>
public sealed unsafe class PageEndTests
{
    private const int Displacement = 64;

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void VectorInstructionsStayInsideTheirOperand(bool atEnd)
    {
        using var cpu = new BareCpu();
        using var mapping = new HostMapping(4096);
        ulong start = (ulong)mapping.Address;
        cpu.State->Tlb[(start >> 12) & (TlbEntry.Count - 1)] = new TlbEntry { ReadTag = start, WriteTag = start };
        var random = new Random(7);
        Op* op = stackalloc Op[2];
        int run = 0;
        foreach (Code code in Forms.All())
        {
            if (!Forms.TryMake(code, true, random, out Instruction made) || code.ToString().StartsWith("Cl", StringComparison.Ordinal))
            {
                continue;
            }

            Instruction instruction = BareCpu.Decode(made);
            ulong size = (ulong)instruction.MemorySize.GetSize();
            if (size == 0 || !cpu.TryTranslate(instruction, op))
            {
                continue;
            }

            ulong address = atEnd ? start + 4096 - size : start;
            cpu.State->Gpr[3] = address - Displacement;
            cpu.State->Gpr[7] = address;
            *(ushort*)cpu.State->FxArea = 0x37F;
            *(ushort*)(cpu.State->FxArea + 2) = 0;
            cpu.Mxcsr = 0x1F80;
            new Span<byte>((void*)start, 4096).Clear();
            Assert.True(cpu.Run(op) is -1, $"{code} faults");
            run++;
        }

        Assert.InRange(run, 300, int.MaxValue);
    }
}
