using Iced.Intel;
using Tutti.Cpu.Interpreter.Tests.System;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Translator.Tests;

/// <summary>Places inside a block to which jumps lead, from the block and from others.</summary>
public sealed class LabelTests
{
    private const ulong Start = TestMachine.UserCode;
    private const ulong Side = TestMachine.UserCode + 0x800;
    private const ulong Data = TestMachine.Data;

    /// <summary>What is known on the one way, a register that is loaded, an address that has been looked up, is not on the other.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void What_holds_on_one_way_only_is_not_taken_for_granted(bool jumps)
    {
        using TestMachine machine = TestMachine.Long();
        machine.Write(Data + 8, 7UL);
        machine.Write(Data + 0x1008, 70UL);
        machine.Write(Data + 16, 0x4000_0000_4000_0000UL);
        Code(machine, static a =>
        {
            Label join = a.CreateLabel();
            a.test(edx, edx);
            a.jz(join);
            a.mov(r10, __[rbx + 8]);
            a.mov(r11, __[r10 - 7 + (long)Data + 8]);
            a.add(rbx, 0x1000);
            a.movq(xmm1, __qword_ptr[rdi + 16]);
            a.Label(ref join);
            a.add(rax, __[rbx + 8]);
            a.add(rax, r10);
            a.paddd(xmm0, xmm1);
            a.movq(__qword_ptr[rdi + 24], xmm0);
        });
        machine.Registers.Gpr[2] = jumps ? 0UL : 1;
        machine.Registers.Gpr[7] = Data;
        machine.Registers.Gpr[10] = 1;
        Run(machine, Start);
        Assert.Equal(jumps ? 7UL + 1 : 70UL + 7, machine.Registers.Gpr[0]);
        Assert.Equal(jumps ? 0UL : 0x4000_0000_4000_0000UL, machine.Read<ulong>(Data + 24));
    }

    [Fact]
    public void Other_blocks_enter_at_a_label_and_see_that_code_change()
    {
        using TestMachine machine = TestMachine.Long();
        for (int added = 1; added < 4; added++)
        {
            ulong inside = 0;
            Code(machine, a =>
            {
                Label join = a.CreateLabel();
                a.test(edx, edx);
                a.jz(join);
                a.mov(eax, 100);
                a.Label(ref join);
                a.add(rax, added);
                inside = 2 + 2 + 5;
            });
            ulong label = Start + inside;
            machine.Assemble(Side, 64, a => a.jmp(label));
            foreach ((ulong rip, ulong rdx, ulong before) in (ReadOnlySpan<(ulong, ulong, ulong)>)[(Start, 0, 0), (Start, 1, 100), (Side, 1, 0)])
            {
                machine.Registers.Gpr[2] = rdx;
                Run(machine, rip);
                Assert.Equal(before + (ulong)added, machine.Registers.Gpr[0]);
            }
        }
    }

    [Fact]
    public void Code_that_is_reached_on_two_ways_is_translated_once()
    {
        using TestMachine machine = TestMachine.Long();
        Code(machine, static a =>
        {
            Label join = a.CreateLabel();
            a.test(edx, edx);
            a.jz(join);
            a.inc(rax);
            a.Label(ref join);
            for (int i = 0; i < 20; i++)
            {
                a.inc(rax);
            }
        });
        machine.Registers.Gpr[2] = 1;
        Run(machine, Start);
        TranslationCache cache = Assert.IsType<Translator>(machine.Cpu.Tier).Cache;
        long before = cache.InstructionsTranslated;
        machine.Registers.Gpr[2] = 0;
        Run(machine, Start);
        Run(machine, Start + 4 + 3);
        Assert.InRange(cache.InstructionsTranslated - before, 0, 1);
        Assert.Equal(20UL, machine.Registers.Gpr[0]);
    }

    private static void Code(TestMachine machine, Action<Assembler> write) => machine.Assemble(Start, 64, a =>
    {
        write(a);
        a.ud2();
    });

    private static void Run(TestMachine machine, ulong rip)
    {
        machine.EnterUser();
        machine.Registers.Rip = rip;
        machine.Registers.Gpr[0] = 0;
        machine.Registers.Gpr[3] = Data;
        machine.Apply();
        Assert.Equal(6, machine.RunToStub());
    }
}
