using Iced.Intel;
using Tutti.Cpu.Interpreter.Tests.System;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Translator.Tests;

/// <summary>The stack in hot code: one lookup serves a frame, as long as RSP is what it was.</summary>
public class FrameTests
{
    private const ulong Top = TestMachine.Data + 0x8000;
    private const ulong First = TestMachine.Data;
    private const ulong Second = First ^ 0x1000;

    [Theory]
    [InlineData(0)]
    [InlineData(8)]
    [InlineData(12)]
    public void A_function_that_calls_itself_finds_each_of_its_frames_again(int shift)
    {
        using TestMachine machine = TestMachine.Long();
        HotCodeTests.Hot(machine, isEverything: true);
        machine.Assemble(TestMachine.UserCode, 64, static a =>
        {
            Label function = a.CreateLabel();
            Label back = a.CreateLabel();
            a.call(function);
            a.ud2();
            a.Label(ref function);
            a.push(rbx);
            a.push(r12);
            a.push(r15);
            a.sub(rsp, 0x28);
            a.mov(rbx, rdi);
            a.mov(__[rsp + 8], rdi);
            a.lea(r15, __[rdi * 2]);
            a.mov(__[rsp + 16], r15);
            a.dec(rdi);
            a.jz(back);
            a.call(function);
            a.Label(ref back);
            a.add(rax, __[rsp + 8]);
            a.add(rdx, __[rsp + 16]);
            a.add(rsi, rbx);
            a.add(rsp, 0x28);
            a.pop(r15);
            a.pop(r12);
            a.pop(rbx);
            a.ret();
        });
        machine.Registers.Gpr[3] = 77;
        machine.Registers.Gpr[7] = 200;
        machine.EnterUser();
        machine.Registers.Gpr[4] = Top - (ulong)shift;
        machine.Apply();

        Assert.Equal(6, machine.RunToStub());
        Assert.Equal(200UL * 201 / 2, machine.Registers.Gpr[0]);
        Assert.Equal(200UL * 201, machine.Registers.Gpr[2]);
        Assert.Equal(200UL * 201 / 2, machine.Registers.Gpr[6]);
        Assert.Equal(77UL, machine.Registers.Gpr[3]);
    }

    [Fact]
    public void A_frame_whose_page_is_another_one_now_is_looked_up_again()
    {
        using TestMachine machine = TestMachine.Long();
        HotCodeTests.Hot(machine, isEverything: true);
        machine.Write(First + 8, 3UL);
        machine.Write(First + 16, 4UL);
        machine.Write(Second + 8, 30UL);
        machine.Write(Second + 16, 40UL);
        machine.Assemble(TestMachine.UserCode, 64, static a =>
        {
            a.mov(rax, __[rsp + 8]);
            a.add(rax, __[rsp + 16]);
            a.ud2();
        });
        machine.EnterUser();
        machine.Registers.Gpr[4] = First;
        foreach (ulong page in (ulong[])[First, First, Second, First])
        {
            machine.SetPage(First, page | 7);
            machine.Registers.Rip = TestMachine.UserCode;
            machine.EnterUser();
            machine.Registers.Gpr[4] = First;
            machine.Apply();
            Assert.Equal(6, machine.RunToStub());
            Assert.Equal(page == First ? 7UL : 70UL, machine.Registers.Gpr[0]);
        }
    }

    [Fact]
    public void Words_that_are_not_aligned_have_both_ends_compared()
    {
        using TestMachine machine = TestMachine.Long();
        HotCode hot = HotCodeTests.Hot(machine, isEverything: true);
        machine.Write(First + 3, 5UL);
        machine.Assemble(TestMachine.UserCode, 64, static a =>
        {
            Label loop = a.CreateLabel();
            a.Label(ref loop);
            a.add(rax, __[rbx + 3]);
            a.dec(rdi);
            a.jne(loop);
            a.ud2();
        });
        machine.Registers.Gpr[3] = First;
        machine.Registers.Gpr[7] = 100_000;
        machine.EnterUser();
        machine.Apply();

        Assert.Equal(6, machine.RunToStub());
        Assert.Equal(500_000UL, machine.Registers.Gpr[0]);
        Assert.True(hot.IsUneven(TestMachine.UserCode));
        Assert.Equal(0, hot.SpreadCount);
    }

    [Fact]
    public void A_frame_has_a_record_of_its_own()
    {
        var hot = new HotCode();
        HashSet<int> taken = [.. Enumerable.Range(0, StateLayout.SiteCount).Select(_ => hot.TakeFrame())];
        Assert.Equal(StateLayout.SiteCount, taken.Count);
        Assert.DoesNotContain(-1, taken);
        Assert.Equal(-1, hot.TakeFrame());
        hot.ForgetSites();
        Assert.Contains(hot.TakeFrame(), taken);
    }
}
