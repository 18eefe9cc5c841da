using Iced.Intel;
using Tutti.Cpu.Interpreter.Tests.System;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Translator.Tests;

/// <summary>User memory that the host's page tables show: what is shown follows the guest's tables.</summary>
public class WindowTests
{
    private const ulong First = TestMachine.Data;
    private const ulong Second = First ^ 0x1000;
    private const ulong ReadOnly = PageTableEntry.Present | PageTableEntry.User;
    private const ulong Writable = ReadOnly | PageTableEntry.Writable;

    [Fact]
    public void Accesses_go_by_the_window()
    {
        using TestMachine machine = Machine(out UserWindows windows);
        machine.Write(First + 8, 5UL);
        Code(machine, static a =>
        {
            a.mov(rax, __[rbx + 8]);
            a.push(rax);
            a.pop(r15);
            a.add(__[rbx + 16], r15);
            a.@lock.add(__dword_ptr[rbx + rcx * 4 + 0x18], 1);
        });
        machine.Registers.Gpr[1] = 2;
        Run(machine, 6);

        Assert.Equal(5UL, machine.Read<ulong>(First + 16));
        Assert.Equal(1U, machine.Read<uint>(First + 0x20));
        Assert.Equal(1, windows.Count);
        Assert.InRange(windows.Faults, 2, 20);
        Assert.True(windows.MappedPages > 0);
    }

    [Fact]
    public void A_page_that_is_another_one_now_is_shown_anew()
    {
        using TestMachine machine = Machine(out UserWindows windows);
        machine.Write(First, 3UL);
        machine.Write(Second, 30UL);
        Code(machine, static a => a.mov(rax, __[rbx]));
        Run(machine, 6);
        foreach (ulong page in (ulong[])[First, Second, Second, First])
        {
            machine.SetPage(First, page | Writable);
            Run(machine, 6);
            Assert.Equal(page == First ? 3UL : 30UL, machine.Registers.Gpr[0]);
        }

        Assert.Equal(1, windows.Count);
    }

    [Fact]
    public void Invlpg_hides_the_page_that_it_names()
    {
        using TestMachine machine = Machine(out UserWindows windows);
        const int Vector = 0x80;
        const ulong Handler = TestMachine.UserCode + 0x400;
        const ulong Entry = TestMachine.PageTables + 0x3000 + ((First >> 12) * 8);
        machine.SetGate(Vector, 0xEE);
        machine.Assemble(TestMachine.Stubs + (Vector * TestMachine.StubSize), 64, static a => a.jmp(Handler));
        machine.Assemble(Handler, 64, static a =>
        {
            a.mov(rdx, Entry);
            a.mov(__[rdx], rdi);
            a.invlpg(__[rbx]);
            a.iretq();
        });
        machine.Write(First, 3UL);
        machine.Write(Second, 30UL);
        Code(machine, static a =>
        {
            a.add(__qword_ptr[rbx], 1);
            a.mov(rdi, Second | Writable);
            a.@int(Vector);
            a.mov(rax, __[rbx]);
            a.add(__qword_ptr[rbx], 1);
            a.mov(rdi, First | ReadOnly);
            a.@int(Vector);
            a.mov(rcx, __[rbx]);
            a.mov(__[rbx], rcx);
        });
        Run(machine, 14);

        Assert.Equal(30UL, machine.Registers.Gpr[0]);
        Assert.Equal(4UL, machine.Registers.Gpr[1]);
        Assert.Equal(31UL, machine.Read<ulong>(Second));
        Assert.Equal(PageFaultError.Present | PageFaultError.Write | PageFaultError.User, machine.Frame(0));

        // The handler's INVLPG alone: nothing else has been compared since the first entry.
        Assert.Equal(1, windows.Comparisons);
    }

    [Fact]
    public void Rights_that_are_taken_away_are_gone()
    {
        using TestMachine machine = Machine(out _);
        Code(machine, static a => a.mov(__[rbx], rsp));
        Run(machine, 6);

        machine.SetPage(First, First | ReadOnly);
        Run(machine, 14);
        Assert.Equal(PageFaultError.Present | PageFaultError.Write | PageFaultError.User, machine.Frame(0));

        machine.SetPage(First, 0);
        Run(machine, 14);
        Assert.Equal(PageFaultError.Write | PageFaultError.User, machine.Frame(0));

        machine.SetPage(First, First | PageTableEntry.Present | PageTableEntry.Writable);
        Run(machine, 14);

        machine.SetPage(First, First | Writable);
        Run(machine, 6);
    }

    [Fact]
    public void Accessed_and_dirty_bits_are_set_again_after_the_guest_has_cleared_them()
    {
        using TestMachine machine = Machine(out _);
        Code(machine, static a => a.mov(__[rbx], rsp));
        const ulong Place = TestMachine.PageTables + 0x3000 + ((First >> 12) * 8);
        for (int i = 0; i < 3; i++)
        {
            machine.SetPage(First, First | Writable);
            Run(machine, 6);
            Assert.Equal(PageTableEntry.Accessed | PageTableEntry.Dirty, machine.Read<ulong>(Place) & (PageTableEntry.Accessed | PageTableEntry.Dirty));
        }
    }

    [Fact]
    public void A_read_does_not_show_a_page_to_write()
    {
        using TestMachine machine = Machine(out _);
        machine.SetPage(First, First | Writable);
        Code(machine, static a => a.mov(rax, __[rbx]));
        Run(machine, 6);
        const ulong Place = TestMachine.PageTables + 0x3000 + ((First >> 12) * 8);
        Assert.Equal(0UL, machine.Read<ulong>(Place) & PageTableEntry.Dirty);

        Code(machine, static a => a.mov(__[rbx], rsp), TestMachine.UserCode + 0x100);
        machine.Registers.Rip = TestMachine.UserCode + 0x100;
        Run(machine, 6, TestMachine.UserCode + 0x100);
        Assert.Equal(PageTableEntry.Dirty, machine.Read<ulong>(Place) & PageTableEntry.Dirty);
    }

    [Fact]
    public void A_write_to_decoded_code_is_seen()
    {
        using TestMachine machine = Machine(out _);

        // MOV BYTE [RBX], 2 changes the immediate of the MOV EAX, 1 that lies in RBX's page, which has been shown to write before it was code.
        Code(machine, static a =>
        {
            a.mov(__byte_ptr[rbx + 0x800], 0);
            a.mov(rdx, rbx);
            a.call(rdx);
            a.mov(ecx, eax);
            a.mov(__byte_ptr[rbx + 1], 2);
            a.call(rdx);
        });
        machine.Write(First, 0xC3_0000_0001_B8UL);
        Run(machine, 6);
        Assert.Equal(1UL, machine.Registers.Gpr[1]);
        Assert.Equal(2UL, machine.Registers.Gpr[0]);
    }

    [Fact]
    public void Addresses_that_no_region_has_fault_as_the_processor_says()
    {
        using TestMachine machine = Machine(out _);
        foreach ((ulong address, int vector) in ((ulong, int)[])
            [(0x7FFF_FFFF_F000, 14), (0x0000_5000_0000_0000, 14), (0xFFFF_8000_0000_0000, 14), (0x8000_0000_0000_0000, 13), (0xA000_0000_0000_0000, 13), (0x0000_8000_0000_0000, 13)])
        {
            Code(machine, static a => a.mov(rax, __[rbx]));
            machine.Registers.Gpr[0] = 99;
            Run(machine, vector, rbx: address);
            Assert.Equal(99UL, machine.Registers.Gpr[0]);
            if (vector == 14)
            {
                Assert.Equal(address, machine.Registers.Cr2);
            }
        }
    }

    private static TestMachine Machine(out UserWindows windows)
    {
        TestMachine machine = TestMachine.Long();
        windows = Assert.IsType<Translator>(machine.Cpu.Tier).Windows;
        windows.IsAlways = true;
        return machine;
    }

    private static void Code(TestMachine machine, Action<Assembler> write, ulong address = TestMachine.UserCode) => machine.Assemble(address, 64, a =>
    {
        write(a);
        a.ud2();
    });

    private static void Run(TestMachine machine, int vector, ulong rip = TestMachine.UserCode, ulong rbx = First)
    {
        machine.Registers.Rip = rip;
        machine.EnterUser();
        machine.Registers.Rip = rip;
        machine.Registers.Gpr[3] = rbx;
        machine.Apply();
        Assert.Equal(vector, machine.RunToStub());
    }
}
