using Tutti.Cpu.Interpreter.Tests.System;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Translator.Tests;

/// <summary>Direct jumps and calls to other pages, which lead straight to their target's code as long as that is there.</summary>
public sealed class FarLinkTests
{
    private const ulong Here = TestMachine.UserCode;
    private const ulong There = 0xC000;
    private const ulong Other = 0xD000;
    private const ulong Rights = PageTableEntry.Present | PageTableEntry.Writable | PageTableEntry.User | 0x60;
    private const int Rounds = 2000;

    [Theory]
    [InlineData(0)]
    [InlineData(3)]
    public void Calls_and_jumps_that_come_often_do_not_leave(int level)
    {
        using TestMachine machine = TestMachine.Long();
        Caller(machine);
        Callee(machine, There, 1);
        Run(machine, level);
        Assert.Equal((ulong)Rounds, machine.Registers.Gpr[0]);
        long[] exits = Assert.IsType<Translator>(machine.Cpu.Tier).Counters.Exits;
        Assert.InRange(exits[(int)ExitKind.Link], 1, 60);
        Assert.InRange(exits[(int)ExitKind.Jump], 1, 60);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(3)]
    public void A_page_that_is_another_one_now_has_the_other_ones_code(int level)
    {
        using TestMachine machine = TestMachine.Long();
        Caller(machine);
        Callee(machine, There, 1);
        Callee(machine, Other, 3);
        for (int i = 0; i < 4; i++)
        {
            bool isOther = i % 2 != 0;
            machine.SetPage(There, (isOther ? Other : There) | Rights);
            Run(machine, level);
            Assert.Equal((isOther ? 3UL : 1UL) * Rounds, machine.Registers.Gpr[0]);
        }
    }

    [Fact]
    public void Invlpg_is_heeded_by_the_code_behind_it()
    {
        using TestMachine machine = TestMachine.Long();
        Callee(machine, There, 1);
        Callee(machine, Other, 3);
        machine.Assemble(Here, 64, static a =>
        {
            Iced.Intel.Label again = a.CreateLabel();
            a.mov(ebx, 3);
            a.Label(ref again);
            a.mov(ecx, 300);
            Iced.Intel.Label round = a.CreateLabel();
            a.Label(ref round);
            a.call(There);
            a.dec(ecx);
            a.jnz(round);
            a.xor(__qword_ptr[rdi], (int)(There ^ Other));
            a.invlpg(__[rsi]);
            a.dec(ebx);
            a.jnz(again);
            a.ud2();
        });
        machine.Registers.Gpr[6] = There;
        machine.Registers.Gpr[7] = TestMachine.PageEntry(There);
        machine.SetPage(There, There | Rights);
        Run(machine, 0);
        Assert.Equal(300UL + (3 * 300) + 300, machine.Registers.Gpr[0]);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(3)]
    public void A_target_that_is_written_is_translated_anew(int level)
    {
        using TestMachine machine = TestMachine.Long();
        Callee(machine, There, 1);
        machine.Assemble(Here, 64, static a =>
        {
            Iced.Intel.Label round = a.CreateLabel();
            a.mov(ecx, Rounds);
            a.Label(ref round);
            a.call(There);
            a.dec(ecx);
            a.test(ecx, 0xFF);
            a.jnz(round);

            // The immediate of the ADD.
            a.inc(__byte_ptr[rsi + 2]);
            a.test(ecx, ecx);
            a.jnz(round);
            a.ud2();
        });
        machine.Registers.Gpr[6] = There;
        ulong expected = 0;
        ulong added = 1;
        for (int i = Rounds - 1; i >= 0; i--)
        {
            expected += added;
            added += (i & 0xFF) == 0 ? 1UL : 0;
        }

        Run(machine, level);
        Assert.Equal(expected, machine.Registers.Gpr[0]);
    }

    /// <summary>Jumps without an access to memory, or a test of anything, over two pages.</summary>
    [Theory]
    [InlineData(false, 0)]
    [InlineData(true, 0)]
    [InlineData(false, 3)]
    [InlineData(true, 3)]
    public void A_loop_over_pages_can_be_left(bool isConditional, int level)
    {
        using TestMachine machine = TestMachine.Long();
        foreach ((ulong from, ulong to) in (ReadOnlySpan<(ulong, ulong)>)[(Here, There), (There, Here)])
        {
            machine.Assemble(from, 64, a =>
            {
                a.inc(rdi);
                if (isConditional)
                {
                    a.jnz(to);
                    a.ud2();
                }
                else
                {
                    a.jmp(to);
                }
            });
        }

        Start(machine, level);
        machine.RunUntilRequested();
        Assert.True(machine.Registers.Gpr[7] > 1000);
        Assert.Contains(machine.Registers.Rip & ~0xFUL, (ulong[])[Here, There]);
    }

    /// <summary>RAX grows by what the code at <see cref="There"/> adds.</summary>
    private static void Caller(TestMachine machine) => machine.Assemble(Here, 64, static a =>
    {
        Iced.Intel.Label round = a.CreateLabel();
        a.mov(ecx, Rounds);
        a.Label(ref round);
        a.call(There);
        a.dec(ecx);
        a.jnz(round);
        a.ud2();
    });

    private static void Callee(TestMachine machine, ulong address, int added) => machine.Assemble(address, 64, a =>
    {
        a.add(rax, added);
        a.ret();
    });

    private static void Start(TestMachine machine, int level)
    {
        machine.Registers.Rip = Here;
        machine.Registers.Gpr[0] = 0;
        if (level == 3)
        {
            machine.EnterUser();
            machine.Registers.Rip = Here;
        }

        machine.Apply();
    }

    private static void Run(TestMachine machine, int level)
    {
        Start(machine, level);
        Assert.Equal(6, machine.RunToStub());
    }
}
