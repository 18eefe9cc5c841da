using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Interpreter.Tests.System;

public sealed class AllocationTests
{
    private const int Rounds = 20_000;

    [Fact]
    public void TheRunLoopAllocatesNothing()
    {
        using TestMachine machine = TestMachine.Long();

        // The page fault's handler drops the error code, steps over the 3 bytes of the access and returns.
        machine.Assemble(TestMachine.Stubs + (ExceptionVector.PageFault * TestMachine.StubSize), 64, a =>
        {
            a.add(rsp, 8);
            a.add(__qword_ptr[rsp], 3);
            a.iretq();
        });
        machine.Assemble(TestMachine.Stubs + (0x31 * TestMachine.StubSize), 64, a => a.iretq());
        machine.Assemble(TestMachine.Code, 64, a =>
        {
            Iced.Intel.Label loop = a.CreateLabel();
            a.mov(ecx, Rounds);
            a.Label(ref loop);
            a.mov(rax, __[TestMachine.Data]);
            a.add(__qword_ptr[TestMachine.Data + 8], rax);
            a.@lock.inc(__qword_ptr[TestMachine.Data + 16]);
            a.push(rcx);
            a.pop(rbx);
            a.@int(0x31);
            a.mov(rax, cr3);
            a.mov(cr3, rax);
            a.invlpg(__[TestMachine.Data]);
            a.rdtsc();
            a.@in(al, 0x80);
            a.movups(xmm0, __[TestMachine.Data]);
            a.addps(xmm0, xmm0);
            a.fld1();
            a.fstp(st0);
            a.mov(rdi, 0x40_0000);
            a.mov(rax, __[rdi]);
            a.dec(ecx);
            a.jnz(loop);
            a.@out(TestMachine.ExitPort, al);
            a.hlt();
        });

        Run(machine);
        ulong before = machine.Cpu.InstructionCount;
        long allocated = Run(machine);
        Assert.True(!TestedEngine.CountsInstructions || machine.Cpu.InstructionCount - before > 20UL * Rounds);

        // What the runtime does once for itself on this thread comes once; what a path of the loop allocates comes with every run.
        for (int again = 0; again < 2 && allocated != 0; again++)
        {
            allocated = Run(machine);
        }

        Assert.Equal(0, allocated);
    }

    /// <summary>Runs the guest once more and gives the bytes that its thread allocated meanwhile.</summary>
    private static long Run(TestMachine machine)
    {
        machine.Registers.Rip = TestMachine.Code;
        machine.Registers.Gpr[4] = TestMachine.KernelStack;
        machine.Apply();
        long before = GC.GetAllocatedBytesForCurrentThread();
        ProcessorExit exit = machine.Cpu.Run();
        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.Equal(ProcessorExitKind.Requested, exit.Kind);
        Assert.True(!TestedEngine.CountsInstructions || machine.Cpu.InstructionCount > Rounds);
        machine.Cpu.GetRegisters(machine.Registers);
        machine.Registers.Activity = ProcessorActivity.Running;
        return allocated;
    }
}
