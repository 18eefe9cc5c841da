using Iced.Intel;
using Tutti.Cpu.Interpreter.Tests.System;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Translator.Tests;

/// <summary>Blocks that go on where a jump within the page leads.</summary>
public class FollowedJumpTests
{
    private const ulong Back = TestMachine.Code;
    private const ulong Start = TestMachine.Code + 0x400;
    private const ulong Ahead = TestMachine.Code + 0x800;

    [Fact]
    public void Code_that_a_jump_has_led_back_to_is_seen_to_change()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Assemble(Start, 64, static a =>
        {
            a.mov(rax, 1);
            a.jmp(Back);
        });
        machine.Assemble(Ahead, 64, static a => a.ud2());
        foreach (ulong added in (ulong[])[5, 5, 70, 6])
        {
            machine.Assemble(Back, 64, a =>
            {
                a.add(rax, (int)added);
                a.jmp(Ahead);
            });
            machine.Registers.Rip = Start;
            machine.Apply();
            Assert.Equal(6, machine.RunToStub());
            Assert.Equal(1 + added, machine.Registers.Gpr[0]);
            Assert.Equal(Ahead, machine.Frame(0));
        }
    }

    /// <summary>Each loop of jumps without an access to memory, from each of its places.</summary>
    [Theory]
    [InlineData(Start, Back)]
    [InlineData(Back, Start)]
    [InlineData(Back, Ahead, Start)]
    [InlineData(Ahead, Back, Start)]
    [InlineData(Start, Ahead, Back)]
    [InlineData(Ahead, Start, Back)]
    public void A_loop_of_jumps_can_be_left(params ulong[] places)
    {
        using TestMachine machine = TestMachine.Long();
        for (int i = 0; i < places.Length; i++)
        {
            ulong next = places[(i + 1) % places.Length];
            machine.Assemble(places[i], 64, a =>
            {
                a.inc(rdi);
                a.jmp(next);
            });
        }

        machine.Registers.Rip = places[0];
        machine.Apply();
        machine.RunUntilRequested();
        Assert.True(machine.Registers.Gpr[7] > 1000);
        Assert.Contains(machine.Registers.Rip & ~0xFUL, places);
    }
}
