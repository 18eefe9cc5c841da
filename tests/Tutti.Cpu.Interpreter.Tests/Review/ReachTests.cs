using Tutti.Cpu.Interpreter.Tests.System;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.Review;

/// <summary>Operands and targets at the edges of what an instruction can name.</summary>
public sealed class ReachTests
{
    private const ulong HighHalf = 0xFFFF_8000_0000_0000;
    private const int Distance = 0x7FFF_FFF8;
    private const int Before = 32;

    [Theory]
    [InlineData(new byte[] { 0x8B, 0x05 }, 0)] // mov eax, [rip+x]
    [InlineData(new byte[] { 0x81, 0x05 }, 4)] // add dword [rip+x], imm32
    [InlineData(new byte[] { 0x3B, 0x05 }, 0)] // cmp eax, [rip+x]
    [InlineData(new byte[] { 0xFF, 0x25 }, 0)] // jmp [rip+x]
    [InlineData(new byte[] { 0x0F, 0x28, 0x05 }, 0)] // movaps xmm0, [rip+x]
    [InlineData(new byte[] { 0xE9 }, 0)] // jmp
    [InlineData(new byte[] { 0xE8 }, 0)] // call
    [InlineData(new byte[] { 0x0F, 0x84 }, 0)] // jz
    public void WhatLiesTwoGibibytesAheadIsReached(byte[] opcode, int immediate)
    {
        using TestMachine machine = TestMachine.Long();
        byte[] code = [.. Enumerable.Repeat((byte)0x90, Before - 2), 0x39, 0xC0, .. opcode, .. BitConverter.GetBytes(Distance), .. new byte[immediate]];
        ulong linear = TestMachine.Code + (ulong)code.Length + Distance;

        // MOVAPS wants its boundary; page faults are what this test waits for.
        ulong skew = opcode[0] == 0x0F && opcode[1] == 0x28 ? (16 - (linear & 15)) & 15 : 0;
        Assert.True(machine.Memory.TryWrite(TestMachine.Code + skew, code));
        machine.Registers.Rip += skew;
        machine.Apply();
        Assert.Equal(14, machine.RunToStub());
        Assert.Equal(linear + skew, machine.Registers.Cr2);
    }

    [Fact]
    public void AddressRelativeToEipIsCutTo32Bits()
    {
        using TestMachine machine = TestMachine.Long();
        MapHighHalf(machine);
        machine.Memory.TryWrite(TestMachine.Code, [0x90, 0x67, 0x8D, 0x05, 0x10, 0, 0, 0, 0xE6, TestMachine.ExitPort, 0xEB, 0xFE]);
        machine.Registers.Rip = HighHalf + TestMachine.Code;
        machine.Apply();
        machine.RunToExit();
        Assert.Equal(TestMachine.Code + 8 + 0x10, machine.Registers.Gpr[0]);
    }

    [Fact]
    public void FetchDoesNotGoOnAcrossTheEndOfTheCanonicalAddresses()
    {
        using TestMachine machine = TestMachine.Long();
        MapHighHalf(machine);
        ulong rights = PageTableEntry.Present | PageTableEntry.Writable | PageTableEntry.User;
        machine.Write(TestMachine.PageTables + (255 * 8), TestMachine.PageTables + 0x1000 | rights);
        machine.Write(TestMachine.PageTables + 0x1000 + (511 * 8), TestMachine.PageTables + 0x2000 | rights);
        machine.Write(TestMachine.PageTables + 0x2000 + (511 * 8), TestMachine.PageTables + 0x3000 | rights);
        machine.Memory.TryWrite(0x1F_FFFF, [0xB0]); // mov al, the first byte behind the lower half
        machine.Memory.TryWrite(0, [0x55, 0xE6, TestMachine.ExitPort, 0xEB, 0xFE]);
        machine.Registers.Rip = 0x7FFF_FFFF_FFFF;
        machine.Apply();
        Assert.Equal(13, machine.RunToStub());
        Assert.Equal(0x7FFF_FFFF_FFFFUL, machine.Frame(1));
    }

    [Theory]
    [InlineData(new byte[] { 0xC3 })] // ret
    [InlineData(new byte[] { 0xFF, 0xE0 })] // jmp rax
    [InlineData(new byte[] { 0xFF, 0xD0 })] // call rax
    [InlineData(new byte[] { 0xFF, 0x24, 0x24 })] // jmp [rsp]
    [InlineData(new byte[] { 0xFF, 0x14, 0x24 })] // call [rsp]
    public void BranchToWhatIsNotCanonicalFaultsItself(byte[] code)
    {
        const ulong Target = 0x8000_0000_0000;
        using TestMachine machine = TestMachine.Long();
        machine.Write(TestMachine.KernelStack, Target);
        machine.Registers.Gpr[0] = Target;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [0x90, .. code]);
        Assert.Equal(13, machine.RunToStub());
        Assert.Equal(TestMachine.Code + 1, machine.Frame(1));
        Assert.Equal(TestMachine.KernelStack, machine.Frame(4));
    }

    [Theory]
    [InlineData(new byte[] { 0xC4, 0xE2, 0x69, 0x90, 0x04, 0x88 })] // vpgatherdd xmm0, [rax+xmm1*4], xmm2
    [InlineData(new byte[] { 0xC4, 0xE2, 0xE9, 0x93, 0x04, 0x88 })] // vgatherqpd
    [InlineData(new byte[] { 0x62, 0xF2, 0x7D, 0x09, 0xA0, 0x04, 0x88 })] // vpscatterdd [rax+xmm1*4]{k1}, xmm0
    public void IndexInAVectorRegisterIsNoInstructionHere(byte[] code)
    {
        using TestMachine machine = TestMachine.Long();
        machine.Memory.TryWrite(TestMachine.Code, code);
        Assert.Equal(6, machine.RunToStub());
        Assert.Equal(TestMachine.Code, machine.Frame(0));
    }

    private static void MapHighHalf(TestMachine machine) => machine.Write(
        TestMachine.PageTables + (256 * 8),
        (TestMachine.PageTables + 0x1000) | PageTableEntry.Present | PageTableEntry.Writable | PageTableEntry.User);
}
