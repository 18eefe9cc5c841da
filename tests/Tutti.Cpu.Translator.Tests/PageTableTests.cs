using Tutti.Cpu.Interpreter.Tests.System;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Translator.Tests;

/// <summary>What one miss brings into the tables of translated code.</summary>
public sealed class PageTableTests
{
    private const ulong Page = TestMachine.Data;
    private const ulong Writable = 7;
    private const ulong ReadOnly = 5;

    [Fact]
    public void A_page_that_has_been_read_is_written_without_another_miss()
    {
        using TestMachine machine = ReadAndWrite(Writable);
        long[] exits = Assert.IsType<Translator>(machine.Cpu.Tier).Counters.Exits;
        long before = exits[(int)ExitKind.TlbMiss];
        Assert.Equal(6, machine.RunToStub());
        Assert.Equal(1, exits[(int)ExitKind.TlbMiss] - before);
        Assert.Equal(8UL, machine.Read<ulong>(Page + 8));
    }

    [Fact]
    public void To_have_been_read_gives_no_right_to_write()
    {
        using TestMachine machine = ReadAndWrite(ReadOnly);
        Assert.Equal(14, machine.RunToStub());
        Assert.Equal(Page + 8, machine.Registers.Cr2);
        Assert.Equal(7UL, machine.Read<ulong>(Page + 8));
    }

    [Fact]
    public void A_right_to_write_that_is_taken_away_is_gone_from_the_tables_too()
    {
        using TestMachine machine = ReadAndWrite(Writable);
        Assert.Equal(6, machine.RunToStub());
        machine.SetPage(Page, Page | ReadOnly);
        machine.Registers.Rip = TestMachine.UserCode;
        machine.EnterUser();
        Assert.Equal(14, machine.RunToStub());
        Assert.Equal(8UL, machine.Read<ulong>(Page + 8));
    }

    private static TestMachine ReadAndWrite(ulong rights)
    {
        TestMachine machine = TestMachine.Long();
        HotCodeTests.Hot(machine, isEverything: false);
        machine.SetPage(Page, Page | rights | 0x60);
        machine.Write(Page + 8, 7UL);
        machine.Assemble(TestMachine.UserCode, 64, static a =>
        {
            a.mov(rax, __[rbx + 8]);
            a.inc(rax);
            a.mov(__[rbx + 8], rax);
            a.ud2();
        });
        machine.Registers.Gpr[3] = Page;
        machine.EnterUser();
        return machine;
    }
}
