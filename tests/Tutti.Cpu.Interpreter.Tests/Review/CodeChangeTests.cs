using Tutti.Cpu.Interpreter.Tests.System;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.Review;

public sealed unsafe class CodeChangeTests
{
    private const ulong Target = TestMachine.Code + 0x100;

    [Fact]
    public void BranchToChangedCodeLeadsToTheNewBlock()
    {
        using TestMachine machine = TestMachine.Long();

        // Twice: jmp to the target, which returns here; then the target's immediate is changed and it is called twice more.
        machine.Assemble(TestMachine.Code, 64, a =>
        {
            a.mov(Iced.Intel.AssemblerRegisters.esp, (uint)TestMachine.KernelStack);
            for (int i = 0; i < 4; i++)
            {
                if (i == 2)
                {
                    a.mov(Iced.Intel.AssemblerRegisters.__dword_ptr[Target + 1], 5);
                }

                a.call(TestMachine.Code + 0x80);
            }

            a.@out(TestMachine.ExitPort, Iced.Intel.AssemblerRegisters.al);
            a.hlt();
        });
        machine.Assemble(TestMachine.Code + 0x80, 64, a => a.jmp(Target));
        machine.Assemble(Target, 64, a =>
        {
            a.mov(Iced.Intel.AssemblerRegisters.eax, 3);
            a.ret();
        });
        machine.RunToExit();
        Assert.Equal(5UL, machine.Registers.Gpr[0]);
        if (machine.Cpu.Tier != null)
        {
            // Its blocks are not the interpreter's.
            return;
        }

        machine.Cpu.State->Rip = Target;
        Op* current = BlockInterpreter.From(machine.Cpu.State).Code.Find();
        machine.Cpu.State->Rip = TestMachine.Code + 0x80;
        Op* jump = BlockInterpreter.From(machine.Cpu.State).Code.Find();
        Assert.True(jump->Link == current, "The branch is linked to a block that is no more.");
    }

    [Fact]
    public void DataBreakpointInTheLastPageOfTheAddressSpaceIsMet()
    {
        using TestMachine machine = TestMachine.Long();
        ulong rights = PageTableEntry.Present | PageTableEntry.Writable | PageTableEntry.User;
        machine.Write(TestMachine.PageTables + (511 * 8), (TestMachine.PageTables + 0x1000) | rights);
        machine.Write(TestMachine.PageTables + 0x1000 + (511 * 8), (TestMachine.PageTables + 0x2000) | rights);
        machine.Write(TestMachine.PageTables + 0x2000 + (511 * 8), (TestMachine.PageTables + 0x3000) | rights);
        machine.Registers.Dr[0] = 0xFFFF_FFFF_FFFF_FFF8;
        machine.Registers.Dr[7] = 0x400 | 2 | (0b1001UL << 16); // G0, 8 bytes, writes
        machine.Registers.Gpr[0] = 0xFFFF_FFFF_FFFF_FFF0;
        machine.Apply();

        // mov [rax], rax fills the TLB where it may; mov [rax+8], rax meets the breakpoint.
        machine.Memory.TryWrite(TestMachine.Code, [0x48, 0x89, 0x00, 0x48, 0x89, 0x40, 0x08, 0xE6, TestMachine.ExitPort, 0xEB, 0xFE]);
        Assert.Equal(1, machine.RunToStub());
        Assert.Equal(TestMachine.Code + 7, machine.Frame(0));
    }
}
