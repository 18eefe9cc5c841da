using Iced.Intel;
using Tutti.Cpu.Interpreter.Tests.System;
using Tutti.Host;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Translator.Tests.System;

/// <summary>RDTSC as host code: the guest's clock, read without a call.</summary>
public sealed unsafe class CounterTests
{
    /// <summary>Nanoseconds on the guest's clock where the counter begins.</summary>
    private const long Start = 5_000_000_000;

    private const ulong Offset = 1UL << 40;

    [CounterFact]
    public void It_counts_the_nanoseconds_of_the_clock_and_the_offset()
    {
        using TestMachine machine = Make(HostCounter.Value);
        ulong before = Now(machine);
        machine.RunToExit();
        ulong after = Now(machine);
        Assert.InRange(machine.Registers.Gpr[8], before, after);
        Assert.InRange(machine.Registers.Gpr[9], machine.Registers.Gpr[8], after);
        Assert.Equal(0x1234UL, machine.Registers.Gpr[1]);
        Assert.Equal(Rflags.Carry, machine.Registers.Rflags & Rflags.Arithmetic);
        Assert.Equal(0, Interpreted(machine));
    }

    [CounterFact]
    public void A_counter_that_has_begun_anew_is_left_to_the_clock()
    {
        using TestMachine machine = Make(HostCounter.Value + (1UL << 60));
        machine.Nanoseconds = 77;
        machine.RunToExit();
        Assert.Equal(77 + Offset, machine.Registers.Gpr[8]);
        Assert.Equal(77 + Offset, machine.Registers.Gpr[9]);
        Assert.Equal(2, Interpreted(machine));
    }

    [CounterFact]
    public void A_clock_that_stands_still_is_asked()
    {
        using TestMachine machine = Make(HostCounter.Value);
        machine.Counter = null;
        machine.Nanoseconds = 99;
        machine.RunToExit();
        Assert.Equal(99 + Offset, machine.Registers.Gpr[8]);
        machine.Registers.Rip = TestMachine.Code;
        machine.Apply();
        machine.Counter = new CounterClock(HostCounter.Value, HostCounter.Rate, Start);
        machine.RunToExit();
        Assert.InRange(machine.Registers.Gpr[8], (ulong)Start + Offset, Now(machine));
    }

    [CounterFact]
    public void User_code_that_must_not_read_it_faults()
    {
        using TestMachine machine = Make(HostCounter.Value);
        machine.Assemble(TestMachine.UserCode, 64, a => a.rdtsc());
        machine.Registers.Cr4 |= Cr4.TimeStampDisable;
        machine.Registers.Gpr[0] = 0x1111;
        machine.EnterUser();
        Assert.Equal(ExceptionVector.GeneralProtection, machine.RunToStub());
        Assert.Equal(TestMachine.UserCode, machine.Frame(1));
        Assert.Equal(0x1111UL, machine.Registers.Gpr[0]);
    }

    private static ulong Now(TestMachine machine) => (ulong)machine.Counter!.At(HostCounter.Value) + Offset;

    /// <summary>RDTSC to R8, RDTSCP to R9 and RCX, with the carry flag set.</summary>
    private static TestMachine Make(ulong start)
    {
        TestMachine machine = TestMachine.Long();
        machine.Counter = new CounterClock(start, HostCounter.Rate, Start);
        machine.Cpu.State->TscOffset = (long)Offset;
        machine.Cpu.State->TscAux = 0x1234;
        machine.Assemble(TestMachine.Code, 64, a =>
        {
            a.xor(eax, eax);
            a.add(al, 1);
            a.stc();
            a.rdtsc();
            Join(a, r8);
            a.rdtscp();
            Join(a, r9);
            a.@out(TestMachine.ExitPort, al);
            a.hlt();
        });
        return machine;
    }

    /// <summary>EDX:EAX in one register, by instructions that leave the flags alone.</summary>
    private static void Join(Assembler a, AssemblerRegister64 to)
    {
        a.rorx(rdx, rdx, 32);
        a.lea(to, __[rdx + rax]);
    }

    private static long Interpreted(TestMachine machine) => machine.Cpu.ReadCounters()
        .Where(counter => counter.Name.StartsWith("RDTSC", StringComparison.OrdinalIgnoreCase)).Sum(counter => counter.Value);
}
