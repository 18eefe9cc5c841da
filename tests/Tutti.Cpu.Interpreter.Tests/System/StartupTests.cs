using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Interpreter.Tests.System;

/// <summary>INIT and STARTUP messages through local APICs. Source: Intel SDM volume 3, section "MP Initialization Protocol".</summary>
public sealed class StartupTests
{
    private const uint CommandLow = 0xFEE0_0300;
    private const uint CommandHigh = 0xFEE0_0310;
    private const uint Init = 0x4500;
    private const uint Startup = 0x4600;
    private const byte FirstVector = 0x09;
    private const byte SecondVector = 0x0A;

    // What the second vCPU leaves for the first.
    private const int Running = 0x7000;
    private const int CodeSelector = 0x7004;
    private const int Counter = 0x7008;
    private const int Mode = 0x700C;
    private const int SecondStart = 0x7010;
    private const int SecondMode = 0x7014;
    private const int CounterOfFirst = 0x7018;

    [Fact]
    public void SecondProcessorStartsAtTheVectorsPageInRealModeAndBothRun()
    {
        using StartupMachine machine = new();
        Assemble(machine, TestMachine.Code, 32, WriteFirst);
        Assemble(machine, (ulong)FirstVector << 12, 16, WriteSecond);
        Assemble(machine, (ulong)SecondVector << 12, 16, a =>
        {
            a.smsw(eax);
            a.mov(__dword_ptr[SecondMode], eax);
            a.mov(__word_ptr[SecondStart], cs);
            a.hlt();
        });
        machine.Run();
        Assert.Equal(FirstVector << 8, machine.Read<ushort>(CodeSelector));
        Assert.Equal(0x10u, machine.Read<uint>(Mode) & 0xFFFF);
        Assert.True(machine.Read<uint>(CounterOfFirst) >= 1000);

        // It was in protected mode when INIT came.
        Assert.Equal(SecondVector << 8, machine.Read<ushort>(SecondStart));
        Assert.Equal(0x10u, machine.Read<uint>(SecondMode) & 0xFFFF);
        ProcessorRegisters registers = new();
        machine.Processors[1].GetRegisters(registers);
        Assert.Equal((ulong)SecondVector << 12, registers.Segments[1].Base);
    }

    /// <summary>Starts the other, waits until it counts, tells it to start again (ignored), then INIT and another start.</summary>
    private static void WriteFirst(Assembler a)
    {
        Label waits = a.CreateLabel();
        Label counts = a.CreateLabel();
        Label goesOn = a.CreateLabel();
        Label again = a.CreateLabel();
        a.mov(__dword_ptr[CommandHigh], 1 << 24);
        a.mov(__dword_ptr[CommandLow], Init);
        a.mov(__dword_ptr[CommandLow], Startup | FirstVector);
        a.Label(ref waits);
        a.cmp(__dword_ptr[Running], 1);
        a.jne(waits);

        // A processor that runs takes no STARTUP: the next thousand must still be counted by the first code.
        a.mov(__dword_ptr[CommandLow], Startup | SecondVector);
        a.mov(ebx, __dword_ptr[Counter]);
        a.add(ebx, 1000);
        a.Label(ref counts);
        a.inc(__dword_ptr[CounterOfFirst]);
        a.cmp(__dword_ptr[Counter], ebx);
        a.jl(counts);
        a.cmp(__dword_ptr[CounterOfFirst], 1000);
        a.jl(counts);
        a.cmp(__dword_ptr[SecondStart], 0);
        a.je(goesOn);
        a.mov(__dword_ptr[SecondStart], 0xBAD);
        a.@out(TestMachine.ExitPort, al);
        a.hlt();
        a.Label(ref goesOn);
        a.mov(__dword_ptr[CommandLow], Init);
        a.mov(__dword_ptr[CommandLow], Startup | SecondVector);
        a.Label(ref again);
        a.cmp(__dword_ptr[SecondStart], 0);
        a.je(again);
        a.@out(TestMachine.ExitPort, al);
        a.hlt();
    }

    private static void WriteSecond(Assembler a)
    {
        Label counts = a.CreateLabel();
        a.smsw(eax);
        a.mov(__dword_ptr[Mode], eax);
        a.mov(__word_ptr[CodeSelector], cs);
        a.or(al, 1);
        a.lmsw(ax);
        a.mov(__dword_ptr[Running], 1);
        a.Label(ref counts);
        a.inc(__dword_ptr[Counter]);
        a.jmp(counts);
    }

    private static void Assemble(StartupMachine machine, ulong address, int bitness, Action<Assembler> write)
    {
        var assembler = new Assembler(bitness);
        write(assembler);
        var stream = new MemoryStream();

        // Offsets within the segment; only branches inside the code use them.
        assembler.Assemble(new StreamCodeWriter(stream), bitness == 16 ? 0 : address);
        Assert.True(machine.Memory.TryWrite(address, stream.ToArray()));
    }
}
