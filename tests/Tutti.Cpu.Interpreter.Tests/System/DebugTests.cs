using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.System;

/// <summary>Single-stepping, breakpoints on data and ports, RF. Source: Intel SDM volume 3, chapter "Debug".</summary>
public sealed class DebugTests
{
    private const int Execute = 0;
    private const int Write = 1;
    private const int Port = 2;
    private const int ReadOrWrite = 3;

    private static void Step(TestMachine machine, byte[] code, ulong flags = Rflags.Trap)
    {
        machine.Memory.TryWrite(TestMachine.Code, code);
        machine.Registers.Rflags = Rflags.AlwaysOne | flags;
        machine.Apply();
    }

    private static void Break(TestMachine machine, int index, ulong address, int condition, int lengthCode)
    {
        machine.Registers.Dr[index] = address;
        machine.Registers.Dr[7] |= 0x400UL | (2UL << (index * 2)) | ((ulong)(condition | (lengthCode << 2)) << (16 + (index * 4)));
    }

    [Fact]
    public void SingleStepTrapsAfterEachRepetition()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Write(TestMachine.Data, 0x0403_0201u);
        machine.Registers.Gpr[1] = 3;
        machine.Registers.Gpr[6] = TestMachine.Data;
        machine.Registers.Gpr[7] = TestMachine.Data + 0x100;
        Step(machine, [0xF3, 0xA4, 0x90]);
        foreach (int left in (int[])[2, 1, 0])
        {
            Assert.Equal(1, machine.RunToStub());
            Assert.Equal((ulong)left, machine.Registers.Gpr[1]);
            Assert.Equal(TestMachine.Code + (left == 0 ? 2UL : 0), machine.Frame(0));
            Assert.Equal((byte)(left == 0 ? 3 : 0), machine.Read<byte>(TestMachine.Data + 0x102));
            Assert.NotEqual(0UL, machine.Registers.Dr[6] & Dr6.SingleStep);

            // Back by IRET, which steps on.
            machine.Memory.TryWrite(TestMachine.UserCode, [0x48, 0xCF]);
            machine.Registers.Rip = TestMachine.UserCode;
            machine.Apply();
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void SingleStepOverSyscallTrapsAtTheHandlerUnlessItsMaskClearsTrap(bool masked)
    {
        using TestMachine machine = TestMachine.Long();
        machine.Registers.Msrs[Msr.Star] = (0x18UL << 48) | ((ulong)TestMachine.KernelCode << 32);
        machine.Registers.Msrs[Msr.Lstar] = TestMachine.Code;
        machine.Registers.Msrs[Msr.Sfmask] = masked ? Rflags.Trap : 0;
        machine.Registers.Rflags = Rflags.AlwaysOne | Rflags.Trap;
        machine.Registers.Gpr[4] = TestMachine.KernelStack;
        machine.EnterUser();
        machine.Memory.TryWrite(TestMachine.UserCode, [0x0F, 0x05]);
        machine.Memory.TryWrite(TestMachine.Code, [0x0F, 0x0B]);
        Assert.Equal(masked ? 6 : 1, machine.RunToStub());
        Assert.Equal(TestMachine.Code, machine.Frame(0));
        Assert.Equal(TestMachine.KernelCode, machine.Frame(1));
        Assert.Equal(masked ? 0 : Dr6.SingleStep, machine.Registers.Dr[6] & Dr6.SingleStep);
    }

    /// <summary>
    /// SYSRET looks at the TF that it loads: #DB comes before the first instruction of user code, and is not lost where that is SYSCALL
    /// with TF in its mask. Linux keeps from SYSRET for that.
    /// </summary>
    [Theory]
    [InlineData(true, false, new byte[] { 0x0F, 0x05 })]
    [InlineData(true, false, new byte[] { 0x90 })]
    [InlineData(true, true, new byte[] { 0x90 })]
    [InlineData(false, true, new byte[] { 0x0F, 0x0B })]
    [InlineData(false, false, new byte[] { 0x0F, 0x0B })]
    public void SysretTrapsByTheFlagThatItLoads(bool loads, bool had, byte[] user)
    {
        using TestMachine machine = TestMachine.Long();
        machine.Registers.Msrs[Msr.Star] = (0x18UL << 48) | ((ulong)TestMachine.KernelCode << 32);
        machine.Registers.Msrs[Msr.Lstar] = TestMachine.Code;
        machine.Registers.Msrs[Msr.Sfmask] = Rflags.Trap | Rflags.Direction | Rflags.AlignmentCheck | Rflags.NestedTask;
        machine.Registers.Gpr[1] = TestMachine.UserCode;
        machine.Registers.Gpr[11] = Rflags.AlwaysOne | Rflags.Carry | (loads ? Rflags.Trap : 0);
        machine.Memory.TryWrite(TestMachine.UserCode, [.. user, 0x0F, 0x0B]);
        Step(machine, [0x48, 0x0F, 0x07, 0x0F, 0x0B], had ? Rflags.Trap : 0);
        Assert.Equal(loads ? 1 : 6, machine.RunToStub());
        Assert.Equal(TestMachine.UserCode, machine.Frame(0));
        Assert.Equal(3UL, machine.Frame(1) & 3);
        Assert.Equal(loads, (machine.Frame(2) & Rflags.Trap) != 0);
        Assert.Equal(loads ? Dr6.SingleStep : 0, machine.Registers.Dr[6] & Dr6.SingleStep);
    }

    /// <summary>LSS brings the stack pointer with it and holds nothing back; the real processor of the oracle traps so.</summary>
    [Fact]
    public void LoadOfStackAndPointerTogetherIsSteppedBehindItself()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Write(TestMachine.Data, 0x1234u | ((ulong)TestMachine.KernelData << 32));
        machine.Registers.Gpr[0] = TestMachine.Data;
        Step(machine, [0x0F, 0xB2, 0x08, 0x90]); // lss ecx,[rax]
        Assert.Equal(1, machine.RunToStub());
        Assert.Equal(TestMachine.Code + 3, machine.Frame(0));
        Assert.Equal(0x1234UL, machine.Registers.Gpr[1]);
        Assert.NotEqual(0UL, machine.Registers.Dr[6] & Dr6.SingleStep);
    }

    /// <summary>kvm-unit-tests, x86/debug.c: what an earlier exception left in B0 to B3 does not stay, BS does.</summary>
    [Fact]
    public void BreakpointBitsTellOfTheLastExceptionAlone()
    {
        using TestMachine machine = TestMachine.Long();
        Break(machine, 2, TestMachine.Data, Write, 3);
        machine.Registers.Dr[6] = Dr6.AlwaysOne | Dr6.SingleStep | 2;
        machine.Registers.Gpr[0] = TestMachine.Data;
        Step(machine, [0x89, 0x18, 0x90], 0); // mov [rax],ebx
        Assert.Equal(1, machine.RunToStub());
        Assert.Equal(TestMachine.Code + 2, machine.Frame(0));
        Assert.Equal(Dr6.AlwaysOne | Dr6.SingleStep | 4, machine.Registers.Dr[6]);
    }

    /// <summary>The same, "MOV SS + watchpoint": INT1 behind the load is one #DB with what the load has hit; INT 1 is one of its own before that.</summary>
    [Theory]
    [InlineData(new byte[] { 0xF1 }, true)]
    [InlineData(new byte[] { 0x2E, 0x2E, 0xF1 }, true)]
    [InlineData(new byte[] { 0xCD, 0x01 }, false)]
    public void HeldBreakpointIsToldWithInt1(byte[] instruction, bool together)
    {
        using TestMachine machine = TestMachine.Long();
        machine.Write(TestMachine.Data, (ulong)TestMachine.KernelData);
        Break(machine, 1, TestMachine.Data, ReadOrWrite, 1);
        machine.Registers.Gpr[0] = TestMachine.Data;
        Step(machine, [0x8E, 0x10, .. instruction, 0x90], 0); // mov ss,[rax]
        Assert.Equal(1, machine.RunToStub());
        ulong behind = TestMachine.Code + 2 + (ulong)instruction.Length;
        Assert.Equal(together ? behind : TestMachine.Stubs + TestMachine.StubSize, machine.Frame(0));
        Assert.Equal(2UL, machine.Registers.Dr[6] & Dr6.BreakpointMask);
    }

    /// <summary>
    /// 86Box, issue 2577: RETF that faults behind a POPF that sets TF is not stepped over; it is run again after its fault has been mended, and
    /// then steps.
    /// </summary>
    [Fact]
    public void FaultOfAReturnThatIsSteppedLeavesItToBeRunAgain()
    {
        const ushort Missing = TestMachine.FreeSelector;
        const ulong Target = TestMachine.Code + 0x100;
        using TestMachine machine = TestMachine.Long();
        machine.SetDescriptor(Missing, TestMachine.Segment(0xFFFFF, 0x1B, 0xA));
        machine.Assemble(TestMachine.Code, 64, a =>
        {
            a.push(Missing);
            a.push((int)Target);
            a.push((int)(Rflags.AlwaysOne | Rflags.Trap));
            a.popfq();
            a.db(0x48, 0xCB); // retfq
        });
        machine.Apply();
        Assert.Equal(11, machine.RunToStub());
        Assert.Equal(Missing, machine.Frame(0));
        ulong faulting = machine.Frame(1);
        Assert.Equal(0xCB48, machine.Read<ushort>(faulting));
        Assert.NotEqual(0UL, machine.Frame(3) & Rflags.Trap);
        Assert.Equal(0UL, machine.Registers.Dr[6] & Dr6.SingleStep);
        machine.SetDescriptor(Missing, TestMachine.Segment(0xFFFFF, 0x9B, 0xA));
        machine.Memory.TryWrite(TestMachine.UserCode, [0x48, 0x83, 0xC4, 8, 0x48, 0xCF]); // add rsp,8; iretq
        machine.Registers.Rip = TestMachine.UserCode;
        machine.Apply();
        Assert.Equal(1, machine.RunToStub());
        Assert.Equal(Target, machine.Frame(0));
        Assert.NotEqual(0UL, machine.Registers.Dr[6] & Dr6.SingleStep);
    }

    [Fact]
    public void SoftwareInterruptTakesTheTrapAway()
    {
        using TestMachine machine = TestMachine.Long();
        Step(machine, [0xCD, 0x55]);
        Assert.Equal(0x55, machine.RunToStub());
        Assert.Equal(TestMachine.Code + 2, machine.Frame(0));
        Assert.NotEqual(0UL, machine.Frame(2) & Rflags.Trap);
        Assert.Equal(0UL, machine.Registers.Dr[6] & Dr6.SingleStep);
    }

    [Fact]
    public void HaltWithTrapFlagTrapsBehindItself()
    {
        using TestMachine machine = TestMachine.Long();
        Step(machine, [0xF4]);
        Assert.Equal(1, machine.RunToStub());
        Assert.Equal(TestMachine.Code + 1, machine.Frame(0));
    }

    /// <summary>The target has run before, so that a way to its code is known without a look at what else there is to do.</summary>
    [Fact]
    public void IretThatClearsTrapTrapsBeforeItsTarget()
    {
        const ulong Target = TestMachine.Code + 0x100;
        using TestMachine machine = TestMachine.Long();
        foreach (ulong at in (ulong[])[TestMachine.Code, Target])
        {
            machine.Assemble(at, 64, a =>
            {
                if (at == Target)
                {
                    a.inc(Iced.Intel.AssemblerRegisters.ebx);
                }

                a.mov(Iced.Intel.AssemblerRegisters.rax, Iced.Intel.AssemblerRegisters.rsp);
                a.push(TestMachine.KernelData);
                a.push(Iced.Intel.AssemblerRegisters.rax);
                a.push((int)Rflags.AlwaysOne);
                a.push(TestMachine.KernelCode);
                a.push((int)Target);
                a.push((int)(Rflags.AlwaysOne | (at == Target ? Rflags.Trap : 0)));
                a.popfq();
                a.iretq();
            });
        }

        machine.Apply();
        Assert.Equal(ExceptionVector.Debug, machine.RunToStub());
        Assert.Equal(Target, machine.Frame(0));
        Assert.Equal(1UL, machine.Registers.Gpr[3]);
    }

    [Fact]
    public void PopfThatClearsTrapStillTraps()
    {
        using TestMachine machine = TestMachine.Long();
        Step(machine, [0x9D, 0x90]);
        machine.Write(TestMachine.KernelStack, Rflags.AlwaysOne);
        Assert.Equal(1, machine.RunToStub());
        Assert.Equal(TestMachine.Code + 1, machine.Frame(0));
        Assert.Equal(0UL, machine.Frame(2) & Rflags.Trap);
    }

    [Fact]
    public void FaultingInstructionIsNotStepped()
    {
        using TestMachine machine = TestMachine.Long();
        Step(machine, [0x0F, 0x0B]);
        Assert.Equal(6, machine.RunToStub());
        Assert.Equal(0UL, machine.Registers.Dr[6] & Dr6.SingleStep);
    }

    /// <summary>Offset of an 8-byte store from a page's end, breakpoint offset and length code there, and whether it hits.</summary>
    [Theory]
    [InlineData(-4, 0, 3, true)] // the part behind the page's end
    [InlineData(-4, -1, 0, true)] // the last byte before it
    [InlineData(-4, -8, 3, false)]
    [InlineData(-4, 4, 3, false)]
    [InlineData(-4, 4, 2, true)] // 8 bytes, so rounded down to 0
    [InlineData(-8, 0, 2, false)]
    [InlineData(-8, -8, 2, true)]
    [InlineData(-7, 0, 0, true)]
    [InlineData(0, 7, 0, true)]
    [InlineData(0, 8, 0, false)]
    [InlineData(1, 0, 0, false)]
    public void DataBreakpointIsMetOnBothPagesOfAnAccess(int store, int breakpoint, int lengthCode, bool hits)
    {
        using TestMachine machine = TestMachine.Long();
        const ulong Edge = TestMachine.Data + 0x1000;
        Break(machine, 2, (ulong)((long)Edge + breakpoint), Write, lengthCode);
        machine.Registers.Gpr[3] = (ulong)((long)Edge + store);

        // A read of the same bytes first: not what this breakpoint looks for.
        Step(machine, [0x48, 0x8B, 0x0B, 0x48, 0x89, 0x03, 0x90, 0x0F, 0x0B], 0);
        Assert.Equal(hits ? 1 : 6, machine.RunToStub());
        Assert.Equal(hits ? 4UL : 0, machine.Registers.Dr[6] & 0xF);
        Assert.Equal(TestMachine.Code + (hits ? 6UL : 7), machine.Frame(0));
    }

    [Fact]
    public void DataBreakpointAndSingleStepAreToldTogether()
    {
        using TestMachine machine = TestMachine.Long();
        Break(machine, 1, TestMachine.Data, ReadOrWrite, 0);
        machine.Registers.Gpr[3] = TestMachine.Data;
        Step(machine, [0x8A, 0x03, 0x90]);
        Assert.Equal(1, machine.RunToStub());
        Assert.Equal(Dr6.AlwaysOne | Dr6.SingleStep | 2, machine.Registers.Dr[6]);
    }

    [Theory]
    [InlineData(0x80, 0, true, true)]
    [InlineData(0x80, 0, false, false)] // CR4.DE clear
    [InlineData(0x81, 0, true, false)]
    [InlineData(0x7E, 3, true, false)] // the address is rounded down to its length: 7C to 7F
    [InlineData(0x82, 3, true, true)] // 80 to 83
    public void PortBreakpointTrapsBehindTheInstruction(int port, int lengthCode, bool enabled, bool hits)
    {
        using TestMachine machine = TestMachine.Long();
        Break(machine, 0, (ulong)port, Port, lengthCode);
        machine.Registers.Cr4 |= enabled ? Cr4.DebuggingExtensions : 0;
        Step(machine, [0xE6, 0x80, 0x90, 0x0F, 0x0B], 0);
        Assert.Equal(hits ? 1 : 6, machine.RunToStub());
        Assert.Equal(TestMachine.Code + (hits ? 2UL : 3), machine.Frame(0));
        Assert.Single(machine.PortWrites);
    }

    [Fact]
    public void ResumeFlagHoldsForOneInstructionOnly()
    {
        using TestMachine machine = TestMachine.Long();
        Break(machine, 0, TestMachine.Code, Execute, 0);
        Step(machine, [0xFF, 0xC3, 0xEB, 0xFC], Rflags.Resume); // inc ebx; jmp back
        Assert.Equal(1, machine.RunToStub());
        Assert.Equal(1UL, machine.Registers.Gpr[3]);
        Assert.Equal(TestMachine.Code, machine.Frame(0));
    }

    [Fact]
    public void CodeBreakpointBehindAStackLoadIsLeftOut()
    {
        using TestMachine machine = TestMachine.Long();
        Break(machine, 0, TestMachine.Code + 2, Execute, 0);
        machine.Registers.Gpr[0] = TestMachine.KernelData;

        // mov ss, eax; nop (its breakpoint is held off for good); ud2
        Step(machine, [0x8E, 0xD0, 0x90, 0x0F, 0x0B], 0);
        Assert.Equal(6, machine.RunToStub());
    }

    /// <summary>MOV SS from watched memory: the trap waits for the next instruction, even where that goes elsewhere.</summary>
    [Theory]
    [InlineData(new byte[] { 0x90, 0x0F, 0x0B }, 3UL, TestMachine.Code)]
    [InlineData(new byte[] { 0xCD, 0x55 }, 0UL, TestMachine.Stubs + (0x55 * TestMachine.StubSize))] // int 55h
    public void BreakpointOnTheSourceOfAStackLoadIsHeldForOneInstruction(byte[] next, ulong offset, ulong from)
    {
        using TestMachine machine = TestMachine.Long();
        machine.Write(TestMachine.Data, TestMachine.KernelData);
        Break(machine, 3, TestMachine.Data, ReadOrWrite, 1);
        machine.Registers.Gpr[3] = TestMachine.Data;
        Step(machine, [0x8E, 0x13, .. next], 0); // mov ss, [rbx]
        Assert.Equal(1, machine.RunToStub());
        Assert.Equal(Dr6.AlwaysOne | 8, machine.Registers.Dr[6]);
        Assert.Equal(from + offset, machine.Frame(0));
    }

    [Fact]
    public void BreakpointInARepetitionTrapsBehindTheElement()
    {
        using TestMachine machine = TestMachine.Long();
        Break(machine, 0, TestMachine.Data + 2, Write, 0);
        machine.Registers.Gpr[1] = 5;
        machine.Registers.Gpr[7] = TestMachine.Data;
        Step(machine, [0xF3, 0xAA, 0x0F, 0x0B], 0); // rep stosb
        Assert.Equal(1, machine.RunToStub());
        Assert.Equal(2UL, machine.Registers.Gpr[1]);
        Assert.Equal(TestMachine.Code, machine.Frame(0));
    }

    [Fact]
    public void FaultThatAnInstructionMeetsUnderResumePushesItSet()
    {
        using TestMachine machine = TestMachine.Long();
        Break(machine, 0, TestMachine.Code, Execute, 0);
        Step(machine, [0x0F, 0x0B], Rflags.Resume);
        Assert.Equal(6, machine.RunToStub());
        Assert.NotEqual(0UL, machine.Frame(2) & Rflags.Resume);
        Assert.Equal(0UL, machine.Registers.Dr[6] & 1);
    }
}
