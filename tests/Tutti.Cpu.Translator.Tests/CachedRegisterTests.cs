using Tutti.Cpu.Interpreter.Tests.System;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Translator.Tests;

/// <summary>Guest registers that are in the state, of which R14 may have the last one: nothing takes R14 for what it no longer has.</summary>
public class CachedRegisterTests
{
    private const ulong Place = TestMachine.Data + 0x200;

    [Fact]
    public void A_push_of_memory_leaves_nothing_of_its_address_behind()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Write(Place, 0x1234_5678_9ABCUL);
        machine.Write(Place + 8, 77UL);
        machine.Assemble(TestMachine.Code, 64, static a =>
        {
            a.push(__qword_ptr[r14]);
            a.mov(rax, __[r14 + 8]);
            a.pop(rbx);
            a.ud2();
        });
        machine.Registers.Gpr[14] = Place;
        machine.Apply();
        Assert.Equal(6, machine.RunToStub());
        Assert.Equal(77UL, machine.Registers.Gpr[0]);
        Assert.Equal(0x1234_5678_9ABCUL, machine.Registers.Gpr[3]);
    }

    [Fact]
    public void A_division_by_memory_leaves_nothing_of_its_address_behind()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Write(Place, 7UL);
        machine.Write(Place + 8, 77UL);
        machine.Assemble(TestMachine.Code, 64, static a =>
        {
            a.mov(eax, 50);
            a.cdq();
            a.div(__dword_ptr[r15]);
            a.add(rax, __[r15 + 8]);
            a.ud2();
        });
        machine.Registers.Gpr[15] = Place;
        machine.Apply();
        Assert.Equal(6, machine.RunToStub());
        Assert.Equal(84UL, machine.Registers.Gpr[0]);
    }

    /// <summary>Values that go from one such register to the next, over misses that are mended in between.</summary>
    [Fact]
    public void Values_outlive_the_misses_of_the_instructions_that_use_them()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Assemble(TestMachine.Code, 64, static a =>
        {
            a.lea(r15, __[rdi + 5]);
            a.mov(__[rbx], r15);
            a.shl(r15, 3);
            a.mov(__[rbx + 0x1000], r15);
            a.mov(r10, r15);
            a.xor(r15, r15);
            a.mov(__[rbx + 0x2000], r10);
            a.add(r10, r10);
            a.xchg(r10, r11);
            a.mov(__[rbx + 0x3008], r11);
            a.mov(__[rbx + 0x3010], r15);
            a.ud2();
        });
        machine.Registers.Gpr[3] = TestMachine.Data;
        machine.Registers.Gpr[7] = 2;
        machine.Registers.Gpr[11] = 9;
        machine.Apply();
        Assert.Equal(6, machine.RunToStub());
        Assert.Equal(7UL, machine.Read<ulong>(TestMachine.Data));
        Assert.Equal(56UL, machine.Read<ulong>(TestMachine.Data + 0x1000));
        Assert.Equal(56UL, machine.Read<ulong>(TestMachine.Data + 0x2000));
        Assert.Equal(112UL, machine.Read<ulong>(TestMachine.Data + 0x3008));
        Assert.Equal(0UL, machine.Read<ulong>(TestMachine.Data + 0x3010));
        Assert.Equal(9UL, machine.Registers.Gpr[10]);
        Assert.Equal(0UL, machine.Registers.Gpr[15]);
    }
}
