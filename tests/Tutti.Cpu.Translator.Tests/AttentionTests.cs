using Iced.Intel;
using Tutti.Cpu.Interpreter.Tests.System;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Translator.Tests;

/// <summary>
/// Another thread asks for attention at any instant, between any two instructions of emitted code: the vCPU's thread may have been preempted
/// there. What the guest computes is the same.
/// </summary>
public sealed class AttentionTests
{
    private const ulong Low = 0xE_0000;
    private const ulong High = Low + 0x1000;

    /// <summary>RAM of the two pages: they do not lie behind one another.</summary>
    private const ulong LowRam = 0x11_0000;
    private const ulong HighRam = 0x12_0000;

    /// <summary>Not 0 when the loop is to end.</summary>
    private const ulong Flag = 0xC000;

    private const ulong InLow = 3;
    private const ulong InHigh = 5;

    /// <summary>What lies behind the first page's RAM.</summary>
    private const ulong Behind = 1000;

    private const ulong Present = 7;

    private static readonly TimeSpan s_time = TimeSpan.FromSeconds(4);

    /// <summary>RAX, RDX: what the code has read, or written and read back, which is right where it equals RSI; RBX points to one page or the other.</summary>
    public static TheoryData<string> Accesses => ["reads", "writes", "uneven", "stack"];

    [Theory]
    [MemberData(nameof(Accesses))]
    public void What_moves_to_the_next_page_reaches_that_one(string kind)
    {
        using TestMachine machine = TwoPages();
        machine.Assemble(TestMachine.UserCode, 64, a =>
        {
            Label wrong = a.CreateLabel();
            Label loop = a.CreateLabel();
            Label stay = a.CreateLabel();
            a.Label(ref loop);

            // So seldom that the accesses are not taken for ones that never stay in a page.
            a.test(dil, 15);
            a.jne(stay);
            a.xor(rbx, 0x1000);
            a.xor(rsi, (int)(InLow ^ InHigh));
            a.Label(ref stay);
            Access(a, kind);
            a.cmp(rax, rsi);
            a.jne(wrong);
            a.cmp(rdx, rsi);
            a.jne(wrong);
            a.inc(rdi);
            a.cmp(__dword_ptr[r8], 0);
            a.je(loop);
            a.ud2();
            a.Label(ref wrong);
            a.ud2();
        });
        machine.Registers.Gpr[3] = High;
        machine.Registers.Gpr[6] = InHigh;
        machine.Registers.Gpr[8] = Flag;
        RunDisturbed(machine);
    }

    private static void Access(Assembler a, string kind)
    {
        switch (kind)
        {
            case "reads":
                a.mov(rax, __[rbx + 8]);
                a.mov(rdx, __[rbx + 16]);
                break;
            case "writes":
                a.mov(__[rbx + 24], rsi);
                a.mov(__[rbx + 32], rsi);

                // RBX + 24 and RBX + 32, by another group.
                a.mov(r9, rbx);
                a.mov(rax, __[r9 + 24]);
                a.mov(rdx, __[r9 + 32]);
                break;
            case "uneven":
                a.mov(rax, __[rbx + 43]);
                a.mov(rdx, rax);
                break;
            default:
                a.lea(rsp, __[rbx + 0x100]);
                a.pop(r14);
                a.pop(r15);
                a.mov(rax, r14);
                a.mov(rdx, r15);
                break;
        }
    }

    private static TestMachine TwoPages()
    {
        TestMachine machine = TestMachine.Long();
        HotCode hot = HotCodeTests.Hot(machine, isEverything: true);
        for (int i = 0; i < StateLayout.SiteCount; i++)
        {
            // As in a program with many functions: their frames have all the records.
            hot.TakeFrame();
        }

        machine.SetPage(Low, LowRam | Present);
        machine.SetPage(High, HighRam | Present);
        Fill(machine, LowRam, InLow);
        Fill(machine, LowRam + 0x1000, Behind);
        Fill(machine, HighRam, InHigh);
        Fill(machine, HighRam + 0x1000, Behind);
        return machine;
    }

    /// <summary>Each aligned word is the value, and so is the one at 43.</summary>
    private static void Fill(TestMachine machine, ulong page, ulong value)
    {
        for (ulong at = 0; at < 4096; at += 8)
        {
            machine.Write(page + at, value);
        }

        machine.Write(page + 40, 0UL);
        machine.Write(page + 43, value);
    }

    /// <summary>Runs a loop that counts its rounds in RDI, until the flag ends it or it has seen a wrong value.</summary>
    private static void RunDisturbed(TestMachine machine)
    {
        machine.EnterUser();
        bool done = false;
        var disturber = new Thread(() =>
        {
            long end = Environment.TickCount64 + (long)s_time.TotalMilliseconds;
            while (!Volatile.Read(ref done) && Environment.TickCount64 < end)
            {
                for (int i = 0; i < 100; i++)
                {
                    // No reason, so that nothing but the lookups changes.
                    machine.Cpu.Signal(0);
                    Thread.SpinWait(20);
                }
            }

            machine.Write(Flag, 1);
        });
        disturber.Start();
        int vector = machine.RunToStub();
        bool isWrong = machine.Read<int>(Flag) == 0;
        Volatile.Write(ref done, true);
        disturber.Join();
        Assert.Equal(6, vector);
        Assert.False(isWrong, $"After {machine.Registers.Gpr[7]} rounds RAX is {machine.Registers.Gpr[0]}, RDX {machine.Registers.Gpr[2]}, where {machine.Registers.Gpr[6]} is right");
        Assert.True(machine.Registers.Gpr[7] > 1000, "Hardly a round.");
    }
}
