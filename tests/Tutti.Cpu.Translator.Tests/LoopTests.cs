using Iced.Intel;
using Tutti.Cpu.Interpreter.Tests.System;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Translator.Tests;

/// <summary>Loops whose vector registers are loaded before they begin.</summary>
public class LoopTests
{
    private const int Rounds = 20_000;

    [Fact]
    public void A_loop_over_vectors_computes_what_it_should_and_keeps_them_over_misses()
    {
        using TestMachine machine = VectorLoop(out _);
        machine.Registers.Gpr[7] = Rounds;
        machine.Registers.Gpr[3] = TestMachine.Data;
        machine.Apply();

        // Requests to come out leave from the middle of the loop, and it is entered there again.
        using var request = new Timer(_ => machine.Cpu.RequestExit(), null, 0, 1);
        int vector;
        do
        {
            vector = machine.RunToStub();
            machine.Apply();
        }
        while (vector < 0);

        Assert.Equal(6, vector);
        Assert.Equal(3UL * Rounds, machine.Registers.Gpr[0]);
    }

    [Fact]
    public void Vectors_that_may_not_be_used_fault_where_they_are_used()
    {
        using TestMachine machine = VectorLoop(out ulong use);
        machine.Registers.Cr0 |= Cr0.TaskSwitched;
        machine.Registers.Gpr[7] = Rounds;
        machine.Registers.Gpr[3] = TestMachine.Data;
        machine.Apply();

        Assert.Equal(7, machine.RunToStub());
        Assert.Equal(use, machine.Frame(0));
        Assert.Equal(1UL, machine.Registers.Gpr[6]);
    }

    /// <summary>RDI times: counts in RSI, adds the eight bytes that RBX points to, which are 3, in XMM0; then XMM0 to RAX.</summary>
    private static TestMachine VectorLoop(out ulong use)
    {
        TestMachine machine = TestMachine.Long();
        machine.Write(TestMachine.Data, 3UL);
        var assembler = new Assembler(64);
        Label loop = assembler.CreateLabel();
        Label add = assembler.CreateLabel();
        assembler.Label(ref loop);
        assembler.inc(rsi);
        assembler.Label(ref add);
        assembler.movq(xmm1, __[rbx]);
        assembler.paddq(xmm0, xmm1);
        assembler.dec(rdi);
        assembler.jne(loop);
        assembler.movq(rax, xmm0);
        assembler.ud2();
        var stream = new MemoryStream();
        AssemblerResult result = assembler.Assemble(new StreamCodeWriter(stream), TestMachine.Code, BlockEncoderOptions.ReturnNewInstructionOffsets);
        Assert.True(machine.Memory.TryWrite(TestMachine.Code, stream.ToArray()));
        use = result.GetLabelRIP(add);
        return machine;
    }
}
