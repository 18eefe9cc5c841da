using System.Runtime.Intrinsics.X86;
using Iced.Intel;
using Tutti.Cpu.Interpreter.Tests.System;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Translator.Tests;

/// <summary>Two address spaces with a PCID each: what is known of one stays while the guest is in the other, and is never used there.</summary>
public sealed class AddressSpaceTests
{
    private const ulong There = 0xC000;
    private const ulong Other = 0xD000;
    private const ulong Data = TestMachine.Data;
    private const ulong OtherData = Data ^ 0x1000;
    private const ulong OtherTables = TestMachine.PageTables + 0x8000;
    private const ulong NoFlush = 1UL << 63;
    private const int Vector = 0x80;
    private const int Rounds = 400;
    private const ulong Handler = TestMachine.Code + 0x400;
    private const ulong Rights = PageTableEntry.Present | PageTableEntry.Writable | PageTableEntry.User | PageTableEntry.Accessed | PageTableEntry.Dirty;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Code_and_data_are_those_of_the_address_space(bool hasWindow)
    {
        using TestMachine machine = Machine(hasWindow);
        Run(machine, NoFlush, Rounds);
        Assert.Equal((Rounds / 2) * (1UL + 3), machine.Registers.Gpr[0]);
        Assert.Equal(Rounds / 2UL, machine.Read<ulong>(Data));
        Assert.Equal(Rounds / 2UL, machine.Read<ulong>(OtherData));

        // Each is met once in each address space, and not at each switch.
        long[] exits = Assert.IsType<Translator>(machine.Cpu.Tier).Counters.Exits;
        Assert.InRange(exits[(int)ExitKind.Jump] + exits[(int)ExitKind.Link] + exits[(int)ExitKind.Landed], 4, Rounds / 4);
    }

    /// <summary>More flushes than there are numbers for address spaces.</summary>
    [Fact]
    public void Flushes_are_heeded_for_ever()
    {
        const int Many = (2 * JumpSalts.Count) + 1000;
        using TestMachine machine = Machine(hasWindow: false);
        Run(machine, 0, Many);
        Assert.Equal((Many / 2) * (1UL + 3), machine.Registers.Gpr[0]);
    }

    /// <summary>Pages of the second address space become others while the first is the current one.</summary>
    [Theory]
    [InlineData(false, Flush.WriteOfCr3)]
    [InlineData(true, Flush.WriteOfCr3)]
    [InlineData(false, Flush.Single)]
    [InlineData(true, Flush.Single)]
    [InlineData(false, Flush.AllButGlobal)]
    [InlineData(true, Flush.AllButGlobal)]
    [InlineData(false, Flush.All)]
    [InlineData(true, Flush.All)]
    public void What_has_changed_is_found_after_a_flush(bool hasWindow, Flush flush)
    {
        using TestMachine machine = Machine(hasWindow);
        Run(machine, NoFlush, Rounds, a =>
        {
            a.xor(__qword_ptr[r8 + (int)((There >> 12) * 8)], (int)(There ^ Other));
            a.xor(__qword_ptr[r8 + (int)((Data >> 12) * 8)], (int)(Data ^ OtherData));
            if (flush == Flush.WriteOfCr3)
            {
                a.mov(rdx, cr3);
                a.xor(rdx, r13);
                a.mov(cr3, rdx);
                a.xor(rdx, r13);
                a.or(rdx, r12);
                a.mov(cr3, rdx);
            }
            else
            {
                a.mov(__qword_ptr[r9], 2);
                a.mov(__qword_ptr[r9 + 8], 0);
                a.mov(edx, (int)flush);
                a.invpcid(rdx, __xmmword_ptr[r9]);
            }
        });

        // The second one shows the first one's pages every other time.
        Assert.Equal(((Rounds / 2) * 1UL) + ((Rounds / 4) * (1UL + 3)), machine.Registers.Gpr[0]);
        Assert.Equal(Rounds * 3UL / 4, machine.Read<ulong>(Data));
        Assert.Equal(Rounds / 4UL, machine.Read<ulong>(OtherData));
    }

    [Fact]
    public void No_two_numbers_share_an_entry()
    {
        var seen = new HashSet<uint>();
        for (int number = 0; number < JumpSalts.Count; number++)
        {
            uint hash = (uint)Sse42.X64.Crc32(JumpSalts.Get(number), 0);
            Assert.Equal(0U, hash & 1);
            Assert.True(seen.Add(hash & ((StateLayout.JumpCount / 2) - 1)));
        }
    }

    /// <summary>How translations are dropped; the types of INVPCID have their numbers.</summary>
    public enum Flush
    {
        WriteOfCr3 = 0,
        Single = 1,
        All = 2,
        AllButGlobal = 3,
    }

    /// <summary>The second address space has other pages in two places.</summary>
    private static TestMachine Machine(bool hasWindow)
    {
        TestMachine machine = TestMachine.Long();
        Assert.IsType<Translator>(machine.Cpu.Tier).Windows.IsAlways = hasWindow;
        machine.Write(OtherTables, OtherTables + 0x1000 | Rights);
        machine.Write(OtherTables + 0x1000, OtherTables + 0x2000 | Rights);
        machine.Write(OtherTables + 0x2000, OtherTables + 0x3000 | Rights);
        for (ulong page = 0; page < 512; page++)
        {
            machine.Write(OtherTables + 0x3000 + (page * 8), (page << 12) | Rights);
        }

        // The supervisor's own code is global, as kernels have it.
        foreach (ulong page in (ReadOnlySpan<ulong>)[Handler & ~0xFFFUL, TestMachine.Stubs + ((Vector * TestMachine.StubSize) & ~0xFFFUL)])
        {
            machine.SetPage(page, page | Rights | PageTableEntry.Global);
            machine.Write(OtherTables + 0x3000 + ((page >> 12) * 8), page | Rights | PageTableEntry.Global);
        }

        machine.Write(OtherTables + 0x3000 + ((There >> 12) * 8), Other | Rights);
        machine.Write(OtherTables + 0x3000 + ((Data >> 12) * 8), OtherData | Rights);
        foreach ((ulong address, int added) in (ReadOnlySpan<(ulong, int)>)[(There, 1), (Other, 3)])
        {
            machine.Assemble(address, 64, a =>
            {
                a.add(rax, added);
                a.ret();
            });
        }

        return machine;
    }

    /// <summary>Calls code and counts in memory, in one address space after the other.</summary>
    /// <param name="keeps">What is set in CR3 at each change.</param>
    /// <param name="before">What the supervisor does before it goes to the second one.</param>
    private static void Run(TestMachine machine, ulong keeps, int rounds, Action<Assembler>? before = null)
    {
        machine.SetGate(Vector, 0xEE);
        machine.Assemble(TestMachine.Stubs + (Vector * TestMachine.StubSize), 64, static a => a.jmp(Handler));
        machine.Assemble(Handler, 64, a =>
        {
            Label isSecond = a.CreateLabel();
            a.mov(rdx, cr3);
            a.test(dl, 1);
            a.jz(isSecond);
            before?.Invoke(a);
            a.Label(ref isSecond);
            a.mov(rdx, cr3);
            a.xor(rdx, r13);
            a.or(rdx, r12);
            a.mov(cr3, rdx);
            a.iretq();
        });
        machine.Assemble(TestMachine.UserCode, 64, a =>
        {
            Label round = a.CreateLabel();
            a.mov(ecx, rounds);
            a.Label(ref round);
            a.call(There);
            a.inc(__qword_ptr[rbx]);
            a.@int(Vector);
            a.dec(ecx);
            a.jnz(round);
            a.ud2();
        });
        ProcessorRegisters registers = machine.Registers;
        registers.Cr4 |= Cr4.PcidEnable | Cr4.PageGlobalEnable;
        registers.Cr3 = TestMachine.PageTables | 1;
        machine.EnterUser();
        registers.Gpr[0] = 0;
        registers.Gpr[3] = Data;
        registers.Gpr[8] = OtherTables + 0x3000;
        registers.Gpr[9] = 0xF000;
        registers.Gpr[12] = keeps;
        registers.Gpr[13] = TestMachine.PageTables ^ OtherTables ^ 3;
        machine.Apply();
        Assert.Equal(6, machine.RunToStub());
    }
}
