using Iced.Intel;
using Tutti.Cpu.Interpreter.Tests.System;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Translator.Tests;

/// <summary>RETs that find their way back by the return ring: only to where the guest's own RET would go, whatever has become of that since the CALL.</summary>
public sealed class ReturnRingTests
{
    private const ulong Here = TestMachine.UserCode;
    private const ulong There = 0xC000;
    private const ulong Other = 0xD000;
    private const ulong Rights = PageTableEntry.Present | PageTableEntry.Writable | PageTableEntry.User | 0x60;
    private const int GeneralProtection = 13;
    private const int PageFault = 14;
    private const int InvalidOpcode = 6;

    /// <summary>User mode's memory by the tables, and by a window; the supervisor's.</summary>
    public enum Mode
    {
        User,
        Window,
        Supervisor,
    }

    public static TheoryData<Mode> Modes => [.. Enum.GetValues<Mode>()];

    [Theory]
    [MemberData(nameof(Modes))]
    public void The_first_return_of_a_call_does_not_leave(Mode mode)
    {
        const int Calls = 40;
        using TestMachine machine = Machine(mode);
        machine.Assemble(There, 64, static a => { a.inc(rax); a.ret(); });
        machine.Assemble(There + 0x20, 64, static a => { a.add(rax, 100); a.ret(); });
        machine.Assemble(Here, 64, static a =>
        {
            for (int i = 0; i < Calls; i++)
            {
                a.call(There);
                a.call(rsi);
            }

            a.ud2();
        });
        machine.Registers.Gpr[6] = There + 0x20;
        Run(machine, mode, InvalidOpcode);
        Assert.Equal(101UL * Calls, machine.Registers.Gpr[0]);

        // One each for the two functions; what follows each call is a jump within the page.
        Assert.InRange(Assert.IsType<Translator>(machine.Cpu.Tier).Counters.Exits[(int)ExitKind.Jump], 0, 4);
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void A_return_address_that_was_changed_is_heeded(Mode mode)
    {
        using TestMachine machine = Machine(mode);
        machine.Assemble(There, 64, static a =>
        {
            // Every other time past INC RAX.
            Label same = a.CreateLabel();
            a.test(cl, 1);
            a.jz(same);
            a.add(__qword_ptr[rsp], 3);
            a.Label(ref same);
            a.ret();
        });
        machine.Assemble(Here, 64, static a =>
        {
            Label round = a.CreateLabel();
            a.mov(ecx, 100);
            a.Label(ref round);
            a.call(There);
            a.inc(rax);
            a.dec(ecx);
            a.jnz(round);
            a.ud2();
        });
        Run(machine, mode, InvalidOpcode);
        Assert.Equal(50UL, machine.Registers.Gpr[0]);
    }

    /// <summary>More calls inside one another than the ring has entries, each of which adds what it finds behind itself.</summary>
    [Theory]
    [MemberData(nameof(Modes))]
    public void Calls_may_be_deeper_than_the_ring(Mode mode)
    {
        const int Depth = 3 * StateLayout.RingCount;
        using TestMachine machine = Machine(mode);
        machine.Assemble(There, 64, static a =>
        {
            Label end = a.CreateLabel();
            a.dec(ecx);
            a.jz(end);
            a.call(There);
            a.inc(rax);
            a.Label(ref end);
            a.ret();
        });
        machine.Assemble(Here, 64, static a =>
        {
            a.mov(ecx, Depth);
            a.call(There);
            a.ud2();
        });
        Run(machine, mode, InvalidOpcode);
        Assert.Equal(Depth - 1UL, machine.Registers.Gpr[0]);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_caller_whose_page_is_another_one_now_has_the_other_ones_code(bool byRoot)
    {
        using TestMachine machine = Machine(Mode.Supervisor);
        machine.Assemble(There, 64, a =>
        {
            a.xor(__qword_ptr[rdi], (int)(Here ^ Other));
            if (byRoot)
            {
                a.mov(rdx, cr3);
                a.mov(cr3, rdx);
            }
            else
            {
                a.invlpg(__[rsi]);
            }

            a.ret();
        });
        foreach ((ulong page, int added) in (ReadOnlySpan<(ulong, int)>)[(Here, 1), (Other, 1000)])
        {
            machine.Assemble(page, 64, a =>
            {
                Label round = a.CreateLabel();
                a.mov(ecx, 101);
                a.Label(ref round);
                a.db(0xE8);
                a.dd((uint)(There - Here - 10));
                a.add(rax, added);
                a.dec(ecx);
                a.jnz(round);
                a.ud2();
            });
        }

        machine.Registers.Gpr[6] = Here;
        machine.Registers.Gpr[7] = TestMachine.PageEntry(Here);
        machine.SetPage(Here, Here | Rights);
        Run(machine, Mode.Supervisor, InvalidOpcode);
        Assert.Equal((51UL * 1000) + 50, machine.Registers.Gpr[0]);
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void What_is_written_behind_a_call_is_run(Mode mode)
    {
        using TestMachine machine = Machine(mode);

        // The immediate of the ADD behind the call.
        machine.Assemble(There, 64, static a => { a.inc(__byte_ptr[rsi]); a.ret(); });
        machine.Assemble(Here, 64, static a =>
        {
            Label round = a.CreateLabel();
            a.mov(ecx, 20);
            a.Label(ref round);
            a.call(There);
            a.add(rax, 0);
            a.dec(ecx);
            a.jnz(round);
            a.ud2();
        });
        machine.Registers.Gpr[6] = Here + 12;
        Run(machine, mode, InvalidOpcode);
        Assert.Equal(210UL, machine.Registers.Gpr[0]);
    }

    /// <summary>A supervisor calls, and goes to user mode, where RET finds the same address at the same place of the stack.</summary>
    [Fact]
    public void Levels_have_rings_of_their_own()
    {
        ulong stack = Stack(Mode.User);
        using TestMachine machine = Machine(Mode.User);
        machine.Assemble(There, 64, static a => a.ret());
        machine.Assemble(Here, 64, a =>
        {
            a.call(There);
            a.cli();
            a.mov(rdx, stack);
            a.push(TestMachine.UserData);
            a.push(rdx);
            a.push(2);
            a.push(TestMachine.UserCode64);
            a.push((int)Other);
            a.iretq();
        });
        machine.Assemble(Other, 64, static a =>
        {
            a.inc(rdi);
            a.mov(rdx, Here + 5);
            a.push(rdx);
            a.ret();
        });
        Run(machine, Mode.Supervisor, GeneralProtection, stack);
        Assert.Equal(1UL, machine.Registers.Gpr[7]);
        Assert.Equal(Here + 5, machine.Frame(1));
        Assert.Equal(TestMachine.UserCode64, (ushort)machine.Frame(2));
    }

    /// <summary>What entries hold that hold nothing: the guest may know the address.</summary>
    [Theory]
    [MemberData(nameof(Modes))]
    public void A_return_to_0_faults_there(Mode mode)
    {
        using TestMachine machine = Machine(mode);
        machine.SetPage(0, 0);
        machine.Assemble(Here, 64, static a => { a.xor(edx, edx); a.push(rdx); a.ret(); });
        Run(machine, mode, PageFault);
        Assert.Equal(0UL, machine.Registers.Cr2);
        Assert.Equal(0UL, machine.Frame(1));
        Assert.Equal(Stack(mode), machine.Frame(4));
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void A_return_to_what_is_not_canonical_faults_before_it_pops(Mode mode)
    {
        using TestMachine machine = Machine(mode);
        machine.Assemble(Here, 64, static a => { a.mov(rdx, 1UL << 63); a.push(rdx); a.ret(); });
        Run(machine, mode, GeneralProtection);
        Assert.Equal(Here + 11, machine.Frame(1));
        Assert.Equal(Stack(mode) - 8, machine.Frame(4));
    }

    /// <summary>RETs that come back to themselves: nothing else of the loop asks whether anybody wants attention.</summary>
    [Theory]
    [MemberData(nameof(Modes))]
    public void A_loop_of_returns_can_be_left(Mode mode)
    {
        using TestMachine machine = Machine(mode);
        machine.Assemble(There, 64, static a =>
        {
            // The address stays below RSP, and the entry in the ring.
            a.inc(rdi);
            a.ret();
        });
        machine.Assemble(Here, 64, static a =>
        {
            a.call(There);
            a.lea(rsp, __[rsp - 8]);
            a.jmp(There);
        });
        Start(machine, mode, Stack(mode));
        machine.RunUntilRequested();
        Assert.True(machine.Registers.Gpr[7] > 1000);
        Assert.Contains(machine.Registers.Rip & ~0xFUL, (ulong[])[Here, There]);
    }

    private static TestMachine Machine(Mode mode)
    {
        TestMachine machine = TestMachine.Long();
        HotCodeTests.Hot(machine, isEverything: false);
        Assert.IsType<Translator>(machine.Cpu.Tier).Windows.IsAlways = mode == Mode.Window;
        return machine;
    }

    /// <summary>A return address at the very end of the ring's span is the one that none is remembered for.</summary>
    private static ulong Stack(Mode mode) => (mode == Mode.Supervisor ? TestMachine.KernelStack : TestMachine.UserStack) - 0x40;

    private static void Start(TestMachine machine, Mode mode, ulong rsp)
    {
        if (mode != Mode.Supervisor)
        {
            machine.EnterUser();
        }

        machine.Registers.Gpr[4] = rsp;
        machine.Registers.Rip = Here;
        machine.Apply();
    }

    private static void Run(TestMachine machine, Mode mode, int vector, ulong rsp = 0)
    {
        Start(machine, mode, rsp == 0 ? Stack(mode) : rsp);
        Assert.Equal(vector, machine.RunToStub());
    }
}
