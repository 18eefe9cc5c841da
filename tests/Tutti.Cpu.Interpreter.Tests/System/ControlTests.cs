using static Iced.Intel.AssemblerRegisters;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.System;

/// <summary>Checks of system instructions in 64-bit mode: INVPCID, XSETBV, FS and GS bases, SYSRET, IRET.</summary>
public sealed class ControlTests
{
    private const ulong Hole = 0x8000_0000_0000;

    [Theory]
    [InlineData(0, 0UL, 0UL, false, true)]
    [InlineData(0, 1UL, 0UL, false, false)] // a PCID while CR4.PCIDE is clear
    [InlineData(0, 1UL, 0UL, true, true)]
    [InlineData(0, 0x1000UL, 0UL, true, false)] // reserved bits
    [InlineData(0, 0UL, 0x100_0000_0000_0000UL, true, false)] // no address of a processor with 57 bits
    [InlineData(0, 0UL, Hole, true, true)] // one of such a processor, though not of its mode
    [InlineData(1, 0UL, Hole, true, true)]
    [InlineData(1, 0xFFFUL, 0UL, true, true)]
    [InlineData(1, 0xFFFUL, 0UL, false, false)]
    [InlineData(2, 0UL, Hole, false, true)]
    [InlineData(3, 0UL, Hole, false, true)]
    [InlineData(4, 0UL, 0UL, true, false)]
    public void InvpcidChecksTypeAndDescriptor(int type, ulong pcid, ulong linear, bool enabled, bool allowed)
    {
        using TestMachine machine = TestMachine.Long();
        machine.Registers.Cr4 |= enabled ? Cr4.PcidEnable : 0;
        machine.Write(TestMachine.Data, pcid);
        machine.Write(TestMachine.Data + 8, linear);
        machine.Registers.Gpr[0] = (ulong)type;
        machine.Registers.Gpr[3] = TestMachine.Data;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [0x66, 0x0F, 0x38, 0x82, 0x03, 0x0F, 0x0B]);
        Assert.Equal(allowed ? 6 : 13, machine.RunToStub());
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void InvpcidDropsAStaleTranslation(int type)
    {
        using TestMachine machine = TestMachine.Long();
        const ulong Page = TestMachine.Data + 0x1000;
        const ulong Other = TestMachine.Data + 0x2000;
        machine.Write(Page, 1u);
        machine.Write(Other, 2u);
        machine.Write(TestMachine.Data, 0UL);
        machine.Write(TestMachine.Data + 8, Page);
        machine.Registers.Gpr[0] = (ulong)type;
        machine.Registers.Gpr[3] = TestMachine.Data;
        machine.Registers.Gpr[6] = Page;
        machine.Registers.Gpr[7] = TestMachine.PageEntry(Page);
        machine.Registers.Gpr[2] = Other | 7;
        machine.Apply();

        // mov ecx,[rsi]; mov [rdi],rdx; invpcid rax,[rbx]; mov ebp,[rsi]; ud2
        machine.Memory.TryWrite(TestMachine.Code, [0x8B, 0x0E, 0x48, 0x89, 0x17, 0x66, 0x0F, 0x38, 0x82, 0x03, 0x8B, 0x2E, 0x0F, 0x0B]);
        Assert.Equal(6, machine.RunToStub());
        Assert.Equal(1UL, machine.Registers.Gpr[1]);
        Assert.Equal(2UL, machine.Registers.Gpr[5]);
    }

    [Fact]
    public void XsetbvTakesAvxWhereTheHostHasIt() =>
        XsetbvTakesOnlyWhatCpuidShows(0, XsaveLayout.Supported, true, false, global::System.Runtime.Intrinsics.X86.Avx.IsSupported ? 6 : 13);

    /// <summary>XSETBV of XCR0: what it takes, and the vector otherwise.</summary>
    [Theory]
    [InlineData(0, 1UL, true, false, 6)]
    [InlineData(0, 3UL, true, false, 6)]
    [InlineData(0, 0UL, true, false, 13)] // x87 may not go
    [InlineData(0, 2UL, true, false, 13)]
    [InlineData(0, 5UL, true, false, 13)] // AVX needs SSE
    [InlineData(0, 4UL, true, false, 13)]
    [InlineData(0, 0xFUL, true, false, 13)]
    [InlineData(0, 0xE7UL, true, false, 13)] // AVX-512 is not there
    [InlineData(0, 0x1_0000_0001UL, true, false, 13)]
    [InlineData(1, 1UL, true, false, 13)]
    [InlineData(0, 1UL, true, true, 13)] // level 3
    public void XsetbvTakesOnlyWhatCpuidShows(int index, ulong value, bool enabled, bool user, int vector)
    {
        using TestMachine machine = TestMachine.Long();
        machine.Registers.Cr4 |= enabled ? Cr4.OsXsave : 0;
        machine.Registers.Gpr[0] = (uint)value;
        machine.Registers.Gpr[1] = (ulong)index;
        machine.Registers.Gpr[2] = value >> 32;
        if (user)
        {
            machine.EnterUser();
        }

        machine.Apply();
        byte[] code = [0x0F, 0x01, 0xD1, 0x31, 0xC9, 0x0F, 0x01, 0xD0, 0x0F, 0x0B]; // xsetbv; xor ecx,ecx; xgetbv; ud2
        machine.Memory.TryWrite(user ? TestMachine.UserCode : TestMachine.Code, code);
        Assert.Equal(vector, machine.RunToStub());
        if (vector == 6)
        {
            Assert.Equal(TestMachine.Code + 8, machine.Frame(0));
            Assert.Equal(value, machine.Registers.Gpr[0]);
            Assert.Equal(0UL, machine.Registers.Gpr[2]);
        }
    }

    [Theory]
    [InlineData(new byte[] { 0x0F, 0x01, 0xD1 })] // xsetbv
    [InlineData(new byte[] { 0x0F, 0x01, 0xD0 })] // xgetbv
    [InlineData(new byte[] { 0xF3, 0x48, 0x0F, 0xAE, 0xC0 })] // rdfsbase rax
    [InlineData(new byte[] { 0xF3, 0x48, 0x0F, 0xAE, 0xC8 })] // rdgsbase
    [InlineData(new byte[] { 0xF3, 0x48, 0x0F, 0xAE, 0xD0 })] // wrfsbase
    [InlineData(new byte[] { 0xF3, 0x48, 0x0F, 0xAE, 0xD8 })] // wrgsbase
    public void InstructionIsInvalidUntilCr4AllowsIt(byte[] code)
    {
        using TestMachine machine = TestMachine.Long();
        machine.Memory.TryWrite(TestMachine.Code, [.. code, 0xCC]);
        machine.Registers.Gpr[0] = 1;
        foreach (ulong bits in (ulong[])[0, Cr4.OsXsave | Cr4.FsGsBase])
        {
            machine.Registers.Cr4 = (machine.Registers.Cr4 & ~(Cr4.OsXsave | Cr4.FsGsBase)) | bits;
            machine.Registers.Rip = TestMachine.Code;
            machine.Apply();
            Assert.Equal(bits == 0 ? 6 : 3, machine.RunToStub());
        }
    }

    [Fact]
    public void SegmentBasesAreReadAndWrittenAtLevel3()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Registers.Cr4 |= Cr4.FsGsBase;
        machine.Registers.Gpr[0] = 0x1234_5678_9ABC;
        machine.EnterUser();

        // wrfsbase rax; rdfsbase rcx; wrgsbase eax; rdgsbase rdx; mov rax, what 57 bits do not have; wrfsbase rax
        machine.Memory.TryWrite(TestMachine.UserCode, [0xF3, 0x48, 0x0F, 0xAE, 0xD0, 0xF3, 0x48, 0x0F, 0xAE, 0xC1, 0xF3, 0x0F, 0xAE, 0xD8, 0xF3, 0x48, 0x0F, 0xAE, 0xCA, 0x48, 0xB8, 0, 0, 0, 0, 0, 0, 0, 1, 0xF3, 0x48, 0x0F, 0xAE, 0xD0]);
        Assert.Equal(13, machine.RunToStub());
        Assert.Equal(TestMachine.UserCode + 29, machine.Frame(1));
        Assert.Equal(0x1234_5678_9ABCUL, machine.Registers.Gpr[1]);
        Assert.Equal(0x5678_9ABCUL, machine.Registers.Gpr[2]);
        Assert.Equal(0x1234_5678_9ABCUL, machine.Registers.Segments[4].Base);
    }

    /// <summary>As on AMD's processors, which the CPU model is one of: the fault comes at level 3, from the fetch.</summary>
    [Fact]
    public void SysretToANonCanonicalAddressFaultsAtTheTarget()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Registers.Msrs[Msr.Star] = (0x18UL << 48) | ((ulong)TestMachine.KernelCode << 32);
        machine.Registers.Gpr[1] = Hole;
        machine.Registers.Gpr[11] = Rflags.AlwaysOne;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [0x48, 0x0F, 0x07]);
        Assert.Equal(13, machine.RunToStub());
        Assert.Equal(0UL, machine.Frame(0));
        Assert.Equal(Hole, machine.Frame(1));
        Assert.Equal(TestMachine.UserCode64, machine.Frame(2));
        Assert.Equal(TestMachine.InnerStack - 48, machine.Registers.Gpr[4]);
    }

    [Fact]
    public void RunningOffTheCanonicalHalfIsGeneralProtection()
    {
        using TestMachine machine = TestMachine.Long();
        const ulong LastPage = Hole - 0x1000;
        ulong rights = PageTableEntry.Present | PageTableEntry.Writable | PageTableEntry.User;

        // The root's entry 255, and the last one of each level: tables behind the identity map's own.
        machine.Write(TestMachine.PageTables + (255 * 8), TestMachine.PageTables + 0x1_0000 | rights);
        machine.Write(TestMachine.PageTables + 0x1_0000 + (511 * 8), TestMachine.PageTables + 0x1_1000 | rights);
        machine.Write(TestMachine.PageTables + 0x1_1000 + (511 * 8), TestMachine.PageTables + 0x1_2000 | rights);
        machine.Write(TestMachine.PageTables + 0x1_2000 + (511 * 8), TestMachine.Data | rights);
        machine.Memory.TryWrite(TestMachine.Data + 0xFFE, [0x90, 0x90]);
        machine.Registers.Rip = LastPage + 0xFFE;
        machine.Apply();
        Assert.Equal(13, machine.RunToStub());
        Assert.Equal(Hole, machine.Frame(1));
    }

    [Fact]
    public void IretWithNestedTaskSetIsRefusedInLongMode()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Registers.Rflags = Rflags.AlwaysOne | Rflags.NestedTask;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [0x48, 0xCF]);
        Assert.Equal(13, machine.RunToStub());
        Assert.Equal(0UL, machine.Frame(0));
        Assert.Equal(TestMachine.Code, machine.Frame(1));
    }

    [Fact]
    public void IretWithNestedTaskNeedsABackLinkToABusyTask()
    {
        using TestMachine machine = TestMachine.Protected();
        machine.Write(TestMachine.Tss, TestMachine.OtherTssSelector);
        machine.Registers.Rflags = Rflags.AlwaysOne | Rflags.NestedTask;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [0xCF]);
        Assert.Equal(10, machine.RunToStub());
        Assert.Equal(TestMachine.OtherTssSelector, machine.Frame(0, 4));
        Assert.Equal(TestMachine.Code, machine.Frame(1, 4));
    }

    [Fact]
    public void AHaltGoesOnAfterARequestToComeOutUntilAnInterruptEndsIt()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Assemble(TestMachine.Code, 64, static a =>
        {
            a.sti();
            a.hlt();
            a.inc(rax);

            // With a shadow that keeps interrupts away from a vCPU that would still count as halted.
            a.mov(ecx, ss);
            a.mov(ss, ecx);
            a.ud2();
        });
        machine.Apply();
        for (int i = 0; i < 3; i++)
        {
            using var request = new Timer(_ => machine.Cpu.RequestExit(), null, 20, Timeout.Infinite);
            Assert.Equal(ProcessorExitKind.Requested, machine.Cpu.Run().Kind);
            machine.Cpu.GetRegisters(machine.Registers);
            Assert.Equal(ProcessorActivity.Halted, machine.Registers.Activity);
            Assert.Equal(0UL, machine.Registers.Gpr[0]);
        }

        machine.QueueInterrupt(0x40);
        Assert.Equal(0x40, machine.RunToStub());
        Assert.Equal(0UL, machine.Registers.Gpr[0]);
    }
}
