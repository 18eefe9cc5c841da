using Iced.Intel;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Interpreter.Tests.System;

/// <summary>Real mode, protected mode without long mode, virtual-8086 mode, hardware tasks.</summary>
public sealed class LegacyModeTests
{
    /// <summary>86Box, issue 4214: selector 4 is no null selector but slot 0 of the LDT, which a 16-bit TSS brings along.</summary>
    [Fact]
    public void TaskOf16BitsBeginsInSlotZeroOfItsLdt()
    {
        const ushort Ldt = TestMachine.FreeSelector;
        using TestMachine machine = TestMachine.Protected();
        machine.SetDescriptor(TestMachine.OtherTssSelector, TestMachine.Segment(43, 0x81, 0, (uint)TestMachine.OtherTss));
        machine.SetDescriptor(Ldt, TestMachine.Segment(15, 0x82, 0, (uint)TestMachine.Data));
        machine.Write(TestMachine.Data, TestMachine.Segment(0xFFFF, 0x9A, 0));
        machine.Write(TestMachine.Data + 8, TestMachine.Segment(0xFFFF, 0x92, 0));
        foreach ((uint at, ushort value) in (ReadOnlySpan<(uint, ushort)>)
            [(14, (ushort)TestMachine.UserCode), (16, 2), (26, 0x7000), (34, 12), (36, 4), (38, 12), (40, 12), (42, Ldt)])
        {
            machine.Write(TestMachine.OtherTss + at, value);
        }

        machine.Memory.TryWrite(TestMachine.Code, [0xEA, 0, 0, 0, 0, (byte)TestMachine.OtherTssSelector, 0]);
        machine.Memory.TryWrite(TestMachine.UserCode, [0x0F, 0x0B]);
        Assert.Equal(6, machine.RunToStub());
        Assert.Equal(TestMachine.UserCode, machine.Frame(0, 4));
        Assert.Equal(4UL, machine.Frame(1, 4));
    }

    /// <summary>86Box, issue 2583: what lies outside its segment is #GP, whatever page it would be in.</summary>
    [Theory]
    [InlineData(0x8000_0000u, 0xFFFu, 13)]
    [InlineData(0x8000_0000u, uint.MaxValue, 14)]
    [InlineData(0xFFEu, 0xFFFu, 13)]
    public void LimitIsLookedAtBeforeThePage(uint offset, uint limit, int vector)
    {
        using TestMachine machine = PagingFormat.All[0].CreateMachine();
        machine.Registers.Segments[3] = new SegmentRegister(TestMachine.KernelData, 0, limit, 0xC093);
        machine.Registers.Gpr[3] = offset;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [0x8B, 0x03]); // mov eax,[ebx]
        Assert.Equal(vector, machine.RunToStub());
    }

    private const uint UserFlags = (uint)(Rflags.AlwaysOne | Rflags.Interrupt);

    private static void EnterVirtual8086(TestMachine machine, ulong flags, byte[] code)
    {
        for (int i = 0; i < 6; i++)
        {
            machine.Registers.Segments[i] = new SegmentRegister(0x500, 0x5000, 0xFFFF, 0xF3);
        }

        machine.Memory.TryWrite(0x5000, code);
        machine.Registers.Rip = 0;
        machine.Registers.Gpr[4] = 0xF00;
        machine.Registers.Rflags = flags | Rflags.Virtual8086 | Rflags.AlwaysOne;
        machine.Apply();
    }

    [Fact]
    public void PowerOnBeginsAtTheResetVector()
    {
        using var machine = new TestMachine();
        machine.Cpu.GetRegisters(machine.Registers);
        Assert.Equal(0xFFF0UL, machine.Registers.Rip);
        Assert.Equal(new SegmentRegister(0xF000, 0xFFFF_0000, 0xFFFF, 0x9B), machine.Registers.Segments[1]);
        Assert.Equal(0x6000_0010UL, machine.Registers.Cr0);
        Assert.Equal(2UL, machine.Registers.Rflags);
    }

    [Fact]
    public void RealModeInterruptPushesThreeWordsAndIretGoesBack()
    {
        using TestMachine machine = TestMachine.Real();
        machine.Registers.Rflags = UserFlags;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [0xCD, 0x21]);
        Assert.Equal(0x21, machine.RunToStub());
        Assert.Equal(TestMachine.Code + 2, machine.Frame(0, 2));
        Assert.Equal(0UL, machine.Frame(1, 2));
        Assert.Equal(UserFlags, machine.Frame(2, 2));
        Assert.Equal(0UL, machine.Registers.Rflags & Rflags.Interrupt);
        machine.Assemble(TestMachine.UserCode, 16, a => a.iret());
        machine.Memory.TryWrite(TestMachine.Code + 2, [0xE6, TestMachine.ExitPort, 0xF4]);
        machine.Registers.Segments[1] = new SegmentRegister(0, 0, 0xFFFF, 0x9B);
        machine.Registers.Rip = TestMachine.UserCode;
        machine.Apply();
        machine.RunToExit();
        Assert.Equal(0x7000UL, machine.Registers.Gpr[4]);
        Assert.NotEqual(0UL, machine.Registers.Rflags & Rflags.Interrupt);
    }

    [Fact]
    public void RealModeFaultHasNoErrorCode()
    {
        using TestMachine machine = TestMachine.Real();
        machine.Assemble(TestMachine.Code, 16, a =>
        {
            a.mov(bx, 0xFFFF);
            a.mov(ax, __word_ptr[bx]);
        });
        Assert.Equal(13, machine.RunToStub());
        Assert.Equal(TestMachine.Code + 3, machine.Frame(0, 2));
        Assert.Equal(0x7000UL - 6, machine.Registers.Gpr[4]);
    }

    [Fact]
    public void RealModeGoesToLongModeAsAKernelDoes()
    {
        using TestMachine machine = TestMachine.Real();
        ulong rights = PageTableEntry.Present | PageTableEntry.Writable;
        machine.Write(TestMachine.PageTables, TestMachine.PageTables + 0x1000 | rights);
        machine.Write(TestMachine.PageTables + 0x1000, TestMachine.PageTables + 0x2000 | rights);
        machine.Write(TestMachine.PageTables + 0x2000, PageTableEntry.PageSize | rights);
        machine.SetDescriptor(0x08, TestMachine.Segment(0xFFFFF, 0x9B, 0xA));
        machine.Write(TestMachine.Data, (ushort)0xFF);
        machine.Write(TestMachine.Data + 2, (uint)TestMachine.Gdt);
        machine.Assemble(TestMachine.Code, 16, a =>
        {
            a.lgdt(__[(int)TestMachine.Data]);
            a.mov(eax, (int)(Cr4.PhysicalAddressExtension | Cr4.PageGlobalEnable));
            a.mov(cr4, eax);
            a.mov(eax, (int)TestMachine.PageTables);
            a.mov(cr3, eax);
            a.mov(ecx, unchecked((int)Msr.Efer));
            a.rdmsr();
            a.bts(eax, 8);
            a.wrmsr();
            a.mov(eax, cr0);
            a.or(eax, unchecked((int)(Cr0.Paging | Cr0.ProtectionEnable)));
            a.mov(cr0, eax);
            a.db(0xEA, 0x00, 0x90, 0x08, 0x00); // jmp 0008:9000
        });
        machine.Assemble(TestMachine.UserCode, 64, a =>
        {
            a.mov(rbx, 0x1_2345_6789L);
            a.@out(TestMachine.ExitPort, al);
            a.hlt();
        });
        machine.RunToExit();
        Assert.Equal(0x1_2345_6789UL, machine.Registers.Gpr[3]);
        Assert.Equal(Efer.LongModeEnable | Efer.LongModeActive, machine.Registers.Efer);
    }

    [Fact]
    public void ProtectedModeExceptionFromUserSwitchesToTheStackOfTheTss()
    {
        using TestMachine machine = TestMachine.Protected();
        machine.Registers.Rflags = UserFlags;
        machine.EnterUser();
        machine.Memory.TryWrite(TestMachine.UserCode, [0xFA]);
        Assert.Equal(13, machine.RunToStub());
        Assert.Equal(TestMachine.InnerStack - 24, machine.Registers.Gpr[4]);
        Assert.Equal(TestMachine.KernelData, machine.Registers.Segments[2].Selector);
        Assert.Equal([0UL, TestMachine.UserCode, TestMachine.UserCode32, UserFlags | Rflags.Resume, TestMachine.UserStack, TestMachine.UserData], Enumerable.Range(0, 6).Select(i => machine.Frame(i, 4)));
    }

    [Fact]
    public void ProtectedModeIretReturnsToTheOuterLevelAndDropsInnerSegments()
    {
        using TestMachine machine = TestMachine.Protected();
        machine.SetGate(0x80, 0xEE);
        machine.Assemble(TestMachine.Code, 32, a =>
        {
            a.push(TestMachine.UserData);
            a.push((int)TestMachine.UserStack);
            a.push((int)UserFlags);
            a.push(TestMachine.UserCode32);
            a.push((int)TestMachine.UserCode);
            a.iretd();
        });
        machine.Assemble(TestMachine.UserCode, 32, a =>
        {
            a.mov(ebx, ds);
            a.@int(0x80);
        });
        Assert.Equal(0x80, machine.RunToStub());
        Assert.Equal(0UL, machine.Registers.Gpr[3]);
        Assert.Equal(TestMachine.UserCode32, machine.Frame(1, 4));
        Assert.Equal(TestMachine.UserData, machine.Frame(4, 4));
    }

    [Fact]
    public void CallGateCopiesParametersToTheInnerStackAndRetfDropsThem()
    {
        using TestMachine machine = TestMachine.Protected();
        machine.SetGate(0x80, 0xEE);
        machine.SetDescriptor(TestMachine.FreeSelector, (TestMachine.Code & 0xFFFF) | ((ulong)TestMachine.KernelCode << 16) | (2UL << 32) | (0xECUL << 40));
        machine.EnterUser();
        machine.Assemble(TestMachine.UserCode, 32, a =>
        {
            a.push(0x111);
            a.push(0x222);
            a.db(0x9A, 0, 0, 0, 0, (byte)(TestMachine.FreeSelector | 3), 0);
            a.@int(0x80);
        });
        machine.Assemble(TestMachine.Code, 32, a =>
        {
            a.mov(ebx, __dword_ptr[esp + 8]);
            a.mov(ecx, __dword_ptr[esp + 12]);
            a.mov(edx, esp);
            a.retf(8);
        });
        Assert.Equal(0x80, machine.RunToStub());
        Assert.Equal(0x222UL, machine.Registers.Gpr[3]);
        Assert.Equal(0x111UL, machine.Registers.Gpr[1]);
        Assert.Equal(TestMachine.InnerStack - 24, machine.Registers.Gpr[2]);
        Assert.Equal(TestMachine.UserStack, machine.Frame(3, 4));
    }

    [Theory]
    [InlineData(0x9B, 0xC, 6)] // readable code is fine: UD2 is reached
    [InlineData(0x13, 0xC, 11)] // not present
    [InlineData(0x99, 0xC, 13)] // execute-only code
    [InlineData(0x89, 0x0, 13)] // a TSS
    public void DataSegmentLoadIsChecked(byte access, byte flags, int expected)
    {
        using TestMachine machine = TestMachine.Protected();
        machine.SetDescriptor(TestMachine.FreeSelector, TestMachine.Segment(0xFFFFF, access, flags));
        machine.Assemble(TestMachine.Code, 32, a =>
        {
            a.mov(eax, TestMachine.FreeSelector);
            a.mov(ds, eax);
            a.ud2();
        });
        Assert.Equal(expected, machine.RunToStub());
        if (expected != 6)
        {
            Assert.Equal(TestMachine.FreeSelector, machine.Frame(0, 4));
        }
    }

    [Theory]
    [InlineData(0xFFF, 0x97, 0x1000u, true)]
    [InlineData(0xFFF, 0x97, 0xFFFu, false)]
    [InlineData(0xFFF, 0x93, 0xFFCu, true)]
    [InlineData(0xFFF, 0x93, 0xFFDu, false)]
    public void LimitHoldsForExpandUpAndExpandDownSegments(int limit, byte access, uint offset, bool inside)
    {
        using TestMachine machine = TestMachine.Protected();
        machine.SetDescriptor(TestMachine.FreeSelector, TestMachine.Segment((uint)limit, access, 4));
        machine.Assemble(TestMachine.Code, 32, a =>
        {
            a.mov(eax, TestMachine.FreeSelector);
            a.mov(ds, eax);
            a.mov(eax, __[offset]);
            a.ud2();
        });
        Assert.Equal(inside ? 6 : 13, machine.RunToStub());
    }

    [Fact]
    public void Virtual8086InterruptPushesAllSegmentsAndIretRestoresThem()
    {
        using TestMachine machine = TestMachine.Protected();
        EnterVirtual8086(machine, Rflags.Iopl, [0xCD, 0x55, 0xCD, 0x56]);
        machine.SetGate(0x55, 0xEE);
        machine.SetGate(0x56, 0xEE);
        machine.Memory.TryWrite(TestMachine.Stubs + (0x55 * TestMachine.StubSize), [0xCF]);
        Assert.Equal(0x56, machine.RunToStub());
        Assert.Equal(4UL, machine.Frame(0, 4));
        Assert.Equal(0x500UL, machine.Frame(1, 4));
        Assert.Equal(Rflags.Virtual8086 | Rflags.Iopl | Rflags.AlwaysOne, machine.Frame(2, 4));
        Assert.Equal([0xF00UL, 0x500UL, 0x500UL, 0x500UL, 0x500UL, 0x500UL], Enumerable.Range(3, 6).Select(i => machine.Frame(i, 4)));
        Assert.Equal(0, machine.Registers.Segments[3].Selector);
        Assert.Equal(0UL, machine.Registers.Rflags & Rflags.Virtual8086);
    }

    [Theory]
    [InlineData(new byte[] { 0xCD, 0x55 })] // int
    [InlineData(new byte[] { 0xFA })] // cli
    [InlineData(new byte[] { 0xFB })] // sti
    [InlineData(new byte[] { 0x9C })] // pushf
    [InlineData(new byte[] { 0x9D })] // popf
    [InlineData(new byte[] { 0xCF })] // iret
    [InlineData(new byte[] { 0xF4 })] // hlt
    public void Virtual8086SensitiveInstructionsFaultBelowIopl3(byte[] code)
    {
        using TestMachine machine = TestMachine.Protected();
        machine.SetGate(0x55, 0xEE);
        EnterVirtual8086(machine, 0, code);
        Assert.Equal(13, machine.RunToStub());
        Assert.Equal(0UL, machine.Frame(0, 4));
        Assert.Equal(0UL, machine.Frame(1, 4));
    }

    [Fact]
    public void VirtualInterruptFlagStandsForIfWithVme()
    {
        using TestMachine machine = TestMachine.Protected();
        machine.SetGate(0x55, 0xEE);
        machine.Registers.Cr4 = Cr4.Virtual8086Extensions;
        // sti; pushf; pop bx; cli; pushf; pop cx; hlt
        EnterVirtual8086(machine, 0, [0xFB, 0x9C, 0x5B, 0xFA, 0x9C, 0x59, 0xF4]);
        Assert.Equal(13, machine.RunToStub());
        Assert.Equal(Rflags.Interrupt | Rflags.Iopl, machine.Registers.Gpr[3] & (Rflags.Interrupt | Rflags.Iopl));
        Assert.Equal(Rflags.Iopl, machine.Registers.Gpr[1] & (Rflags.Interrupt | Rflags.Iopl));
    }

    [Fact]
    public void RedirectionBitmapSendsSoftwareInterruptsToTheVectorTable()
    {
        using TestMachine machine = TestMachine.Protected();
        machine.Registers.Cr4 = Cr4.Virtual8086Extensions;
        machine.Write(TestMachine.Tss + 102, (ushort)0x88);
        machine.Write(0x55UL * 4, 0x0500_0010u);
        EnterVirtual8086(machine, Rflags.VirtualInterrupt, [0xCD, 0x55]);
        machine.Memory.TryWrite(0x5010, [0x5B, 0x59, 0x5A, 0xF4]); // pop bx, cx, dx; hlt
        Assert.Equal(13, machine.RunToStub());
        Assert.Equal(2UL, machine.Registers.Gpr[3]);
        Assert.Equal(0x500UL, machine.Registers.Gpr[1]);
        Assert.Equal(Rflags.Interrupt | Rflags.Iopl | Rflags.AlwaysOne, machine.Registers.Gpr[2]);
        Assert.Equal(0UL, machine.Frame(3, 4) & Rflags.VirtualInterrupt);
    }

    [Fact]
    public void IoPermissionBitmapDecidesAboveIopl()
    {
        using TestMachine machine = TestMachine.Protected();
        machine.SetGate(0x80, 0xEE);
        machine.Memory.TryWrite(TestMachine.Tss + 0x68 + (0x80 / 8), [0x02]); // port 0x81
        machine.EnterUser();
        machine.Memory.TryWrite(TestMachine.UserCode, [0xE6, 0x80, 0xE7, 0x80]); // out 0x80, al; out 0x80, eax
        Assert.Equal(13, machine.RunToStub());
        Assert.Equal(TestMachine.UserCode + 2, machine.Frame(1, 4));
        Assert.Equal([((ushort)0x80, 0UL, 1)], machine.PortWrites);
    }

    [Fact]
    public void RepeatedStringInputStopsAtAFaultWithRegistersThatResume()
    {
        using TestMachine machine = TestMachine.Protected();
        int reads = 0;
        machine.PortRead = _ => (ulong)++reads;
        machine.SetDescriptor(TestMachine.FreeSelector, TestMachine.Segment((uint)TestMachine.Data + 5, 0x93, 4));
        machine.Assemble(TestMachine.Code, 32, a =>
        {
            a.mov(eax, TestMachine.FreeSelector);
            a.mov(es, eax);
            a.mov(edi, (int)TestMachine.Data);
            a.mov(ecx, 10);
            a.mov(edx, 0x1F0);
            a.rep.insw();
        });
        Assert.Equal(13, machine.RunToStub());
        Assert.Equal(3, reads);
        Assert.Equal(7UL, machine.Registers.Gpr[1]);
        Assert.Equal(TestMachine.Data + 6, machine.Registers.Gpr[7]);
        Assert.Equal(0x0003_0002_0001UL, machine.Read<ulong>(TestMachine.Data));
    }

    [Fact]
    public void CallToATaskNestsItAndIretReturns()
    {
        using TestMachine machine = TestMachine.Protected();
        WriteTask(machine, TestMachine.UserCode);
        machine.Assemble(TestMachine.Code, 32, a =>
        {
            a.mov(ebx, 1);
            a.db(0x9A, 0, 0, 0, 0, (byte)TestMachine.OtherTssSelector, 0);
            a.add(ebx, 1);
            a.@out(TestMachine.ExitPort, al);
            a.hlt();
        });
        machine.Assemble(TestMachine.UserCode, 32, a =>
        {
            a.mov(ebx, 0x77);
            a.pushfd();
            a.pop(ecx);
            a.iretd();
        });
        machine.RunToExit();
        Assert.Equal(2UL, machine.Registers.Gpr[3]);
        Assert.Equal(TestMachine.TssSelector, machine.Registers.Tr.Selector);
        Assert.Equal(0x77u, machine.Read<uint>(TestMachine.OtherTss + 52));
        Assert.NotEqual(0UL, machine.Read<uint>(TestMachine.OtherTss + 44) & Rflags.NestedTask);
        Assert.Equal(0UL, machine.Read<uint>(TestMachine.OtherTss + 36) & Rflags.NestedTask);
        Assert.Equal(TestMachine.TssSelector, machine.Read<ushort>(TestMachine.OtherTss));
        Assert.Equal(0x89, machine.Read<byte>(TestMachine.Gdt + TestMachine.OtherTssSelector + 5));
        Assert.Equal(0x8B, machine.Read<byte>(TestMachine.Gdt + TestMachine.TssSelector + 5));
        Assert.NotEqual(0UL, machine.Registers.Cr0 & Cr0.TaskSwitched);
    }

    [Fact]
    public void ExceptionThroughATaskGatePushesItsErrorCodeInTheNewTask()
    {
        using TestMachine machine = TestMachine.Protected();
        WriteTask(machine, TestMachine.Stubs + (13 * TestMachine.StubSize));
        machine.SetGate(13, 0x85, TestMachine.OtherTssSelector);
        machine.Assemble(TestMachine.Code, 32, a =>
        {
            a.mov(eax, 0xFF8);
            a.mov(ds, eax);
            a.mov(eax, 0x1FF8);
            a.mov(ds, eax);
        });
        Assert.Equal(13, machine.RunToStub());
        Assert.Equal(TestMachine.OtherTssSelector, machine.Registers.Tr.Selector);
        Assert.Equal(TestMachine.IstStack - 4, machine.Registers.Gpr[4]);
        Assert.Equal(0xFF8UL, machine.Frame(0, 4));
        Assert.Equal((uint)TestMachine.Code + 5, machine.Read<uint>(TestMachine.Tss + 32));
    }

    [Fact]
    public void BadSegmentInANewTaskFaultsInsideThatTask()
    {
        using TestMachine machine = TestMachine.Protected();
        WriteTask(machine, TestMachine.UserCode);
        machine.Write(TestMachine.OtherTss + 84, (uint)TestMachine.KernelCode32 | 3); // DS above the code's level is readable code, RPL 3 > DPL 0
        machine.Memory.TryWrite(TestMachine.Code, [0xEA, 0, 0, 0, 0, (byte)TestMachine.OtherTssSelector, 0]);
        Assert.Equal(10, machine.RunToStub());
        Assert.Equal((ulong)TestMachine.KernelCode32, machine.Frame(0, 4));
        Assert.Equal(TestMachine.UserCode, machine.Frame(1, 4));
        Assert.Equal(TestMachine.OtherTssSelector, machine.Registers.Tr.Selector);
    }

    [Fact]
    public void DebugFlagOfATaskTrapsBeforeItsFirstInstruction()
    {
        using TestMachine machine = TestMachine.Protected();
        WriteTask(machine, TestMachine.UserCode);
        machine.Write(TestMachine.OtherTss + 100, (ushort)1);
        machine.Memory.TryWrite(TestMachine.Code, [0xEA, 0, 0, 0, 0, (byte)TestMachine.OtherTssSelector, 0]);
        Assert.Equal(1, machine.RunToStub());
        Assert.Equal(Dr6.AlwaysOne | Dr6.TaskSwitch, machine.Registers.Dr[6]);
        Assert.Equal(TestMachine.UserCode, machine.Frame(0, 4));
    }

    [Fact]
    public void SysenterAndSysexitWorkInProtectedMode()
    {
        using TestMachine machine = TestMachine.Protected();
        machine.SetGate(0x80, 0xEE);
        machine.Registers.Msrs[Msr.SysenterCs] = TestMachine.KernelCode;
        machine.Registers.Msrs[Msr.SysenterEsp] = TestMachine.InnerStack;
        machine.Registers.Msrs[Msr.SysenterEip] = TestMachine.Code;
        machine.EnterUser();
        machine.Memory.TryWrite(TestMachine.UserCode, [0x0F, 0x34, 0xCD, 0x80]);
        machine.Assemble(TestMachine.Code, 32, a =>
        {
            a.mov(ebx, esp);
            a.mov(edx, (int)TestMachine.UserCode + 2);
            a.mov(ecx, (int)TestMachine.UserStack);
            a.db(0x0F, 0x35); // sysexit
        });
        Assert.Equal(0x80, machine.RunToStub());
        Assert.Equal(TestMachine.InnerStack, machine.Registers.Gpr[3]);
        Assert.Equal(TestMachine.UserCode32, machine.Frame(1, 4));
    }

    [Fact]
    public void InitResetsAndTheBootProcessorStartsAgainAtTheResetVector()
    {
        using TestMachine machine = TestMachine.Protected();
        machine.Memory.TryWrite(TestMachine.Code, [0xEB, 0xFE]);
        machine.Write(6UL * 4, (uint)((TestMachine.Stubs >> 4) + 6) << 16);
        machine.Cpu.SignalInit();

        // Where no ROM is, all-ones are read: an invalid opcode.
        Assert.Equal(6, machine.RunToStub());
        Assert.Equal(1, machine.Initialized);
        Assert.Equal(0UL, machine.Registers.Cr0 & Cr0.ProtectionEnable);
        Assert.Equal([0xFFF0UL, 0xF000UL], Enumerable.Range(0, 2).Select(i => machine.Frame(i, 2)));
    }

    private static void WriteTask(TestMachine machine, ulong rip)
    {
        machine.Write(TestMachine.OtherTss + 32, (uint)rip);
        machine.Write(TestMachine.OtherTss + 36, (uint)Rflags.AlwaysOne);
        machine.Write(TestMachine.OtherTss + 56, (uint)TestMachine.IstStack);
        foreach (uint offset in (uint[])[72, 80, 84, 88, 92])
        {
            machine.Write(TestMachine.OtherTss + offset, (uint)TestMachine.KernelData);
        }

        machine.Write(TestMachine.OtherTss + 76, (uint)TestMachine.KernelCode);
    }
}
