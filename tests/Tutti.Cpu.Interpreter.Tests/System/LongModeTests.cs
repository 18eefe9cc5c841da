using Iced.Intel;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Interpreter.Tests.System;

public sealed class LongModeTests
{
    private const ulong ReturnFlags = Rflags.AlwaysOne | Rflags.Interrupt;

    private static void Exit(Assembler a)
    {
        a.@out(TestMachine.ExitPort, al);
        a.hlt();
    }

    public static TheoryData<int, byte[], uint, bool> Faults() => new()
    {
        { 0, [0x31, 0xC9, 0xF7, 0xF1], 0, false },                          // xor ecx,ecx; div ecx
        { 6, [0x0F, 0x0B], 0, false },                                      // ud2
        { 6, [0xF0, 0x90], 0, false },                                      // lock nop
        { 13, [0x0F, 0x32], 0, true },                                      // rdmsr of an unknown register
        { 13, [0xB8, 0x78, 0x00, 0x00, 0x00, 0x8E, 0xD8], 0x78, true },     // mov ds, selector of an empty slot
        { 13, [0xB8, 0xF8, 0xFF, 0x00, 0x00, 0x8E, 0xD8], 0xFFF8, true },   // mov ds, selector behind the limit
        { 14, [0xA1, 0, 0, 0x40, 0, 0, 0, 0, 0], 0, true },                 // mov eax, [0x400000]
        { 13, [0x48, 0xB8, 0, 0, 0, 0, 0, 0x80, 0, 0, 0x8B, 0x00], 0, true },        // mov eax, [non-canonical]
        { 12, [0x48, 0xBD, 0, 0, 0, 0, 0, 0x80, 0, 0, 0x8B, 0x45, 0x00], 0, true },  // mov eax, [rbp], non-canonical
    };

    [Theory]
    [MemberData(nameof(Faults))]
    public void FaultPushesItsErrorCodeAndPointsAtTheInstruction(int vector, byte[] code, uint error, bool hasError)
    {
        using TestMachine machine = TestMachine.Long();
        machine.Registers.Gpr[1] = 0xDEAD;
        machine.Registers.Rflags = ReturnFlags;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, code);
        Assert.Equal(vector, machine.RunToStub());
        int first = hasError ? 1 : 0;
        if (hasError)
        {
            Assert.Equal(error, machine.Frame(0));
        }

        ulong rip = machine.Frame(first);
        Decoder decoder = Decoder.Create(64, code);
        ulong last = 0;
        while (decoder.IP < (ulong)code.Length)
        {
            last = decoder.IP;
            decoder.Decode();
        }

        Assert.Equal(TestMachine.Code + last, rip);
        Assert.Equal(TestMachine.KernelCode, machine.Frame(first + 1));
        Assert.Equal(Rflags.Resume, machine.Frame(first + 2) & (Rflags.Resume | Rflags.Trap));
        Assert.Equal(TestMachine.KernelStack, machine.Frame(first + 3));
        Assert.Equal(TestMachine.KernelData, machine.Frame(first + 4));
        Assert.Equal(TestMachine.KernelData, machine.Registers.Segments[2].Selector);
        Assert.Equal(0UL, machine.Registers.Rflags & Rflags.Interrupt);
    }

    [Fact]
    public void ExceptionFromUserSwitchesToTheStackOfTheTaskAndNullsSs()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Registers.Rflags = ReturnFlags;
        machine.Memory.TryWrite(TestMachine.UserCode, [0xFA]);
        machine.EnterUser();
        Assert.Equal(13, machine.RunToStub());
        Assert.Equal(TestMachine.InnerStack - 48, machine.Registers.Gpr[4]);
        Assert.Equal(0, machine.Registers.Segments[2].Selector);
        Assert.Equal(0UL, machine.Frame(0));
        Assert.Equal(TestMachine.UserCode, machine.Frame(1));
        Assert.Equal(TestMachine.UserCode64, machine.Frame(2));
        Assert.Equal(TestMachine.UserStack, machine.Frame(4));
        Assert.Equal(TestMachine.UserData, machine.Frame(5));
    }

    [Fact]
    public void InterruptStackTableGivesTheStackEvenWithoutAChangeOfLevel()
    {
        using TestMachine machine = TestMachine.Long();
        machine.SetGate(3, 0x8E, ist: 1);
        machine.Memory.TryWrite(TestMachine.Code, [0xCC]);
        Assert.Equal(3, machine.RunToStub());
        Assert.Equal(TestMachine.IstStack - 40, machine.Registers.Gpr[4]);
        Assert.Equal(TestMachine.Code + 1, machine.Frame(0));
        Assert.Equal(TestMachine.KernelData, machine.Registers.Segments[2].Selector);
    }

    [Fact]
    public void StackIsAlignedTo16BytesBeforeTheFrameIsPushed()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Registers.Gpr[4] = TestMachine.KernelStack - 5;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [0xCC]);
        Assert.Equal(3, machine.RunToStub());
        Assert.Equal(TestMachine.KernelStack - 16 - 40, machine.Registers.Gpr[4]);
        Assert.Equal(TestMachine.KernelStack - 5, machine.Frame(3));
    }

    [Theory]
    [InlineData(0x80, true)]
    [InlineData(0x81, false)]
    public void SoftwareInterruptFromUserNeedsTheGateToAllowIt(int vector, bool allowed)
    {
        using TestMachine machine = TestMachine.Long();
        machine.SetGate(0x80, 0xEE);
        machine.Memory.TryWrite(TestMachine.UserCode, [0xCD, (byte)vector]);
        machine.EnterUser();
        Assert.Equal(allowed ? vector : 13, machine.RunToStub());
        if (!allowed)
        {
            Assert.Equal((ulong)((vector * 8) + 2), machine.Frame(0));
            Assert.Equal(TestMachine.UserCode, machine.Frame(1));
        }
        else
        {
            Assert.Equal(TestMachine.UserCode + 2, machine.Frame(0));
        }
    }

    [Fact]
    public void NotPresentGateIsASegmentNotPresentFaultWithTheGateAsErrorCode()
    {
        using TestMachine machine = TestMachine.Long();
        machine.SetGate(0x50, 0x0E);
        machine.Memory.TryWrite(TestMachine.Code, [0xCD, 0x50]);
        Assert.Equal(11, machine.RunToStub());
        Assert.Equal((0x50UL * 8) + 2, machine.Frame(0));
    }

    [Theory]
    [InlineData(13, 8)] // #GP whose gate is not present: #NP while delivering #GP
    [InlineData(6, 11)] // #UD is benign: #NP is delivered itself
    public void SecondFaultBecomesADoubleFaultByItsClass(int first, int expected)
    {
        using TestMachine machine = TestMachine.Long();
        machine.SetGate(first, 0x0E);
        machine.Registers.Gpr[1] = 0xDEAD;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, first == 13 ? [0x0F, 0x32] : [0x0F, 0x0B]);
        Assert.Equal(expected, machine.RunToStub());
        Assert.Equal(expected == 8 ? 0UL : ((ulong)first * 8) + 3, machine.Frame(0));
        Assert.Equal(TestMachine.Code, machine.Frame(1));
    }

    [Fact]
    public void PageFaultWhileDeliveringAPageFaultIsADoubleFault()
    {
        using TestMachine machine = TestMachine.Long();
        machine.SetGate(8, 0x8E, ist: 1);
        machine.SetPage(TestMachine.KernelStack - 0x1000, 0);
        machine.Memory.TryWrite(TestMachine.Code, [0xA1, 0, 0, 0x40, 0, 0, 0, 0, 0]);
        Assert.Equal(8, machine.RunToStub());
        Assert.Equal(TestMachine.KernelStack - 48, machine.Registers.Cr2 & ~0xFUL);
    }

    [Fact]
    public void FaultWhileDeliveringADoubleFaultEndsInATripleFault()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Registers.IdtLimit = 0;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [0x0F, 0x0B]);
        Assert.Equal(ProcessorExitKind.TripleFault, machine.Cpu.Run().Kind);
    }

    [Fact]
    public void IretqReturnsToUserAndLoadsFlagsAndStack()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Assemble(TestMachine.Code, 64, a =>
        {
            a.push(TestMachine.UserData);
            a.push((int)TestMachine.UserStack);
            a.push((int)(Rflags.AlwaysOne | Rflags.Interrupt | Rflags.Carry));
            a.push(TestMachine.UserCode64);
            a.push((int)TestMachine.UserCode);
            a.iretq();
        });
        machine.Memory.TryWrite(TestMachine.UserCode, [0x0F, 0x0B]);
        Assert.Equal(6, machine.RunToStub());
        Assert.Equal(TestMachine.UserCode, machine.Frame(0));
        Assert.Equal(TestMachine.UserCode64, machine.Frame(1));
        Assert.Equal(Rflags.AlwaysOne | Rflags.Interrupt | Rflags.Carry | Rflags.Resume, machine.Frame(2));
        Assert.Equal(TestMachine.UserStack, machine.Frame(3));
        Assert.Equal(TestMachine.UserData, machine.Frame(4));
    }

    [Fact]
    public void IretToCompatibilityModeRuns32BitCode()
    {
        using TestMachine machine = TestMachine.Long();
        machine.SetGate(0x80, 0xEE);
        machine.Assemble(TestMachine.Code, 64, a =>
        {
            a.push(TestMachine.UserData);
            a.push((int)TestMachine.UserStack);
            a.push((int)Rflags.AlwaysOne);
            a.push(TestMachine.UserCode32);
            a.push((int)TestMachine.UserCode);
            a.iretq();
        });
        machine.Assemble(TestMachine.UserCode, 32, a =>
        {
            a.mov(eax, -1);
            a.inc(eax); // one byte, which 64-bit mode reads as a REX prefix
            a.push(eax);
            a.@int(0x80);
        });
        Assert.Equal(0x80, machine.RunToStub());
        Assert.Equal(0UL, machine.Registers.Gpr[0]);
        Assert.Equal(TestMachine.UserStack - 4, machine.Frame(3));
        Assert.Equal(TestMachine.UserCode32, machine.Frame(1));
    }

    [Theory]
    [InlineData(TestMachine.UserCode64, TestMachine.UserData, 0x8000_0000_0000UL, 0)] // RIP is not canonical
    [InlineData(0, TestMachine.UserData, 0x9000UL, 0)]
    [InlineData(TestMachine.UserCode64, TestMachine.KernelData, 0x9000UL, TestMachine.KernelData)]
    [InlineData(TestMachine.UserData, TestMachine.UserData, 0x9000UL, TestMachine.UserData & ~3)]
    [InlineData(TestMachine.UserCode64, 0, 0x9000UL, 0)]
    public void IretqRefusesWhatIsNotASegmentOfTheNewLevel(int cs, int ss, ulong rip, int error)
    {
        using TestMachine machine = TestMachine.Long();
        ulong[] frame = [rip, (ulong)cs, Rflags.AlwaysOne, TestMachine.UserStack, (ulong)ss];
        for (int i = 0; i < frame.Length; i++)
        {
            machine.Write(TestMachine.Data + ((ulong)i * 8), frame[i]);
        }

        machine.Registers.Gpr[4] = TestMachine.Data;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [0x48, 0xCF]);
        machine.SetGate(13, 0x8E, ist: 1);
        Assert.Equal(13, machine.RunToStub());
        Assert.Equal((ulong)error, machine.Frame(0));
        Assert.Equal(TestMachine.Code, machine.Frame(1));
        Assert.Equal(TestMachine.Data, machine.Frame(4));
    }

    [Fact]
    public void SyscallAndSysretGoBetweenTheLevels()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Registers.Msrs[Msr.Star] = (0x18UL << 48) | ((ulong)TestMachine.KernelCode << 32);
        machine.Registers.Msrs[Msr.Lstar] = TestMachine.Code;
        machine.Registers.Msrs[Msr.Sfmask] = Rflags.Interrupt | Rflags.Trap;
        machine.Registers.Rflags = ReturnFlags;
        machine.EnterUser();
        machine.Assemble(TestMachine.UserCode, 64, a =>
        {
            a.syscall();
            a.mov(ebx, 5);
            a.ud2();
        });
        machine.Assemble(TestMachine.Code, 64, a =>
        {
            a.pushfq();
            a.pop(r14);
            a.mov(r15, cs);
            a.sysretq();
        });
        Assert.Equal(6, machine.RunToStub());
        Assert.Equal(5UL, machine.Registers.Gpr[3]);
        Assert.Equal(0UL, machine.Registers.Gpr[14] & Rflags.Interrupt);
        Assert.Equal(TestMachine.KernelCode, machine.Registers.Gpr[15]);
        Assert.Equal(TestMachine.UserCode + 2, machine.Registers.Gpr[1]);
        Assert.Equal(ReturnFlags, machine.Registers.Gpr[11]);
        Assert.Equal(0x2BUL, machine.Frame(1));
        Assert.Equal(0x23UL, machine.Frame(4));
        Assert.NotEqual(0UL, machine.Frame(2) & Rflags.Interrupt);
    }

    [Theory]
    [InlineData(new byte[] { 0x0F, 0x34 })]
    [InlineData(new byte[] { 0x0F, 0x35 })]
    public void SysenterAndSysexitAreInvalidInLongMode(byte[] code)
    {
        using TestMachine machine = TestMachine.Long();
        machine.Registers.Msrs[Msr.SysenterCs] = TestMachine.KernelCode;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, code);
        Assert.Equal(6, machine.RunToStub());
    }

    [Fact]
    public void SwapgsExchangesTheBases()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Registers.Msrs[Msr.KernelGsBase] = TestMachine.Data;
        machine.Registers.Segments[5] = machine.Registers.Segments[5] with { Base = 0x1234 };
        machine.Apply();
        machine.Write(TestMachine.Data + 8, 0x55UL);
        machine.Assemble(TestMachine.Code, 64, a =>
        {
            a.swapgs();
            a.mov(rbx, __.gs[8]);
            Exit(a);
        });
        machine.RunToExit();
        Assert.Equal(0x55UL, machine.Registers.Gpr[3]);
        Assert.Equal(0x1234UL, machine.Registers.Msrs[Msr.KernelGsBase]);
    }

    [Fact]
    public void InterruptIsTakenBehindTheInstructionAfterSti()
    {
        using TestMachine machine = TestMachine.Long();
        machine.QueueInterrupt(0x61);
        machine.Assemble(TestMachine.Code, 64, a =>
        {
            a.nop();
            a.sti();
            a.inc(ebx);
            a.inc(ebx);
            a.inc(ebx);
            Exit(a);
        });
        Assert.Equal(0x61, machine.RunToStub());
        Assert.Equal(1UL, machine.Registers.Gpr[3]);
        Assert.Equal(TestMachine.Code + 4, machine.Frame(0));
    }

    [Fact]
    public void HaltedProcessorWakesForAnInterruptAndReturnsBehindHlt()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Memory.TryWrite(TestMachine.Code, [0xFB, 0xF4, 0x90]);
        var wake = new Thread(() =>
        {
            Thread.Sleep(50);
            machine.QueueInterrupt(0x62);
        });
        wake.Start();
        Assert.Equal(0x62, machine.RunToStub());
        wake.Join();
        Assert.Equal(TestMachine.Code + 2, machine.Frame(0));
    }

    [Fact]
    public void SecondNmiWaitsForTheIretOfTheFirst()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Cpu.SignalNmi();
        machine.Memory.TryWrite(TestMachine.Code, [0x90, 0xEB, 0xFD]);
        Assert.Equal(2, machine.RunToStub());
        Assert.True(machine.Registers.NmiBlocked);
        machine.Assemble(TestMachine.UserCode, 64, a =>
        {
            a.inc(ebx);
            a.iretq();
        });
        machine.Registers.Rip = TestMachine.UserCode;
        machine.Apply();
        machine.Cpu.SignalNmi();
        Assert.Equal(2, machine.RunToStub());
        Assert.Equal(1UL, machine.Registers.Gpr[3]);
        Assert.Equal(TestMachine.KernelStack - 40, machine.Registers.Gpr[4]);
    }

    [Fact]
    public void RegistersThatAreSetSayWhetherAnNmiWaits()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Assemble(TestMachine.Code, 64, a => a.ud2());
        machine.Apply();
        machine.Cpu.SignalNmi();
        machine.Cpu.GetRegisters(machine.Registers);
        Assert.True(machine.Registers.NmiPending);
        machine.Registers.NmiPending = false;
        machine.Apply();
        Assert.Equal(6, machine.RunToStub());
    }

    [Fact]
    public void SingleStepTrapsBehindEachInstruction()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Assemble(TestMachine.Code, 64, a =>
        {
            a.pushfq();
            a.or(__qword_ptr[rsp], (int)Rflags.Trap);
            a.popfq();
            a.inc(ebx);
            a.inc(ebx);
        });
        Assert.Equal(1, machine.RunToStub());
        Assert.Equal(1UL, machine.Registers.Gpr[3]);
        Assert.Equal(Dr6.AlwaysOne | Dr6.SingleStep, machine.Registers.Dr[6]);
        Assert.NotEqual(0UL, machine.Frame(2) & Rflags.Trap);
        Assert.Equal(0UL, machine.Registers.Rflags & Rflags.Trap);
    }

    [Fact]
    public void LoadOfSsHoldsOffTheSingleStepTrap()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Registers.Rflags = Rflags.AlwaysOne | Rflags.Trap;
        machine.Registers.Gpr[0] = TestMachine.KernelData;
        machine.Apply();
        machine.Assemble(TestMachine.Code, 64, a =>
        {
            a.mov(ss, eax);
            a.inc(ebx);
            a.inc(ebx);
        });
        Assert.Equal(1, machine.RunToStub());
        Assert.Equal(1UL, machine.Registers.Gpr[3]);
    }

    [Fact]
    public void CodeBreakpointFaultsBeforeTheInstructionUnlessResumeIsSet()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Assemble(TestMachine.Code, 64, a =>
        {
            a.inc(ebx);
            a.inc(ebx);
            Exit(a);
        });
        machine.Registers.Dr[0] = TestMachine.Code + 2;
        machine.Registers.Dr[7] = 0x402;
        machine.Apply();
        Assert.Equal(1, machine.RunToStub());
        Assert.Equal(1UL, machine.Registers.Gpr[3]);
        Assert.Equal(Dr6.AlwaysOne | 1, machine.Registers.Dr[6]);
        Assert.Equal(TestMachine.Code + 2, machine.Frame(0));

        machine.Write(machine.Registers.Gpr[4] + 16, Rflags.AlwaysOne | Rflags.Resume);
        machine.Registers.Rip = TestMachine.UserCode;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.UserCode, [0x48, 0xCF]);
        machine.RunToExit();
        Assert.Equal(2UL, machine.Registers.Gpr[3]);
        Assert.Equal(0UL, machine.Registers.Rflags & Rflags.Resume);
    }

    [Theory]
    [InlineData(1, 1)] // write: only the store
    [InlineData(3, 0)] // read or write: the load comes first
    public void DataBreakpointTrapsBehindTheAccess(int condition, ulong storesBefore)
    {
        using TestMachine machine = TestMachine.Long();
        machine.Assemble(TestMachine.Code, 64, a =>
        {
            a.mov(rax, __[(ulong)TestMachine.Data]);
            a.inc(ebx);
            a.mov(__[(ulong)TestMachine.Data], rax);
            a.inc(ebx);
        });
        machine.Registers.Dr[3] = TestMachine.Data + 4;
        machine.Registers.Dr[7] = 0x480 | ((ulong)condition << 28);
        machine.Apply();
        Assert.Equal(1, machine.RunToStub());
        Assert.Equal(storesBefore, machine.Registers.Gpr[3]);
        Assert.Equal(Dr6.AlwaysOne | 8, machine.Registers.Dr[6]);
    }

    [Fact]
    public void GeneralDetectFaultsOnAccessToADebugRegister()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Registers.Dr[7] = 0x400 | Dr7.GeneralDetect;
        machine.Apply();
        machine.Assemble(TestMachine.Code, 64, a => a.mov(rax, dr7));
        Assert.Equal(1, machine.RunToStub());
        Assert.Equal(Dr6.AlwaysOne | Dr6.RegisterAccess, machine.Registers.Dr[6]);
        Assert.Equal(0UL, machine.Registers.Dr[7] & Dr7.GeneralDetect);
        Assert.Equal(TestMachine.Code, machine.Frame(0));
    }

    [Fact]
    public void FarCallReachesCompatibilityModeAndReturns()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Write(TestMachine.Data, (uint)TestMachine.UserCode);
        machine.Write(TestMachine.Data + 4, TestMachine.KernelCode32);
        machine.Assemble(TestMachine.UserCode, 32, a =>
        {
            a.mov(ecx, cs);
            a.dec(edx);
            a.retf();
        });
        machine.Registers.Gpr[3] = TestMachine.Data;
        machine.Registers.Gpr[2] = 0;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [0xFF, 0x1B, 0xE6, TestMachine.ExitPort, 0xF4]);
        machine.RunToExit();
        Assert.Equal(TestMachine.KernelCode32, machine.Registers.Gpr[1]);
        Assert.Equal(0xFFFF_FFFFUL, machine.Registers.Gpr[2]);
        Assert.Equal(TestMachine.KernelStack, machine.Registers.Gpr[4]);
        Assert.Equal(TestMachine.KernelCode, machine.Registers.Segments[1].Selector);
    }

    [Fact]
    public void CallGateSwitchesStacksAndFarReturnGoesBack()
    {
        using TestMachine machine = TestMachine.Long();
        machine.SetDescriptor(TestMachine.FreeSelector, (TestMachine.Code & 0xFFFF) | ((ulong)TestMachine.KernelCode << 16) | (0xECUL << 40));
        machine.Write(TestMachine.Data, 0x1234u);
        machine.Write(TestMachine.Data + 4, (ushort)(TestMachine.FreeSelector | 3));
        machine.Registers.Gpr[3] = TestMachine.Data;
        machine.EnterUser();
        machine.Memory.TryWrite(TestMachine.UserCode, [0xFF, 0x1B, 0x0F, 0x0B]);
        machine.Assemble(TestMachine.Code, 64, a =>
        {
            a.mov(rcx, rsp);
            a.mov(rdx, __qword_ptr[rsp + 24]);
            a.db(0x48, 0xCB); // retfq
        });
        Assert.Equal(6, machine.RunToStub());
        Assert.Equal(TestMachine.InnerStack - 32, machine.Registers.Gpr[1]);
        Assert.Equal(TestMachine.UserData, machine.Registers.Gpr[2]);
        Assert.Equal(TestMachine.UserCode + 2, machine.Frame(0));
        Assert.Equal(TestMachine.UserStack, machine.Frame(3));
    }
}
