using Tutti.Cpu.Interpreter.Tests.System;

namespace Tutti.Cpu.Interpreter.Tests.Review;

/// <summary>What users of other emulators have reported of single instructions, run here. The answers are the processor's.</summary>
public sealed class ReportedElsewhereTests
{
    private const int InvalidOpcode = 6;
    private const int PageFault = 14;

    /// <summary>
    /// 8F /2 ran as POP (unicorn-engine/unicorn 957); C6 and C7 with an opcode extension other than 0 ran as MOV (unicorn-engine/unicorn 844);
    /// RDPID has no memory operand.
    /// </summary>
    [Theory]
    [InlineData("8FD0")]
    [InlineData("8F08")]
    [InlineData("C6D010")]
    [InlineData("C7D010000000")]
    [InlineData("C70810000000")]
    [InlineData("F30FC739")]
    public void OpcodeExtensionsThatAreNotThereAreUndefined(string bytes)
    {
        using TestMachine machine = TestMachine.Long();
        machine.Memory.TryWrite(TestMachine.Code, Convert.FromHexString(bytes));
        Assert.Equal(InvalidOpcode, machine.RunToStub());
        Assert.Equal(TestMachine.Code, machine.Frame(0));
    }

    /// <summary>
    /// CMPXCHG of 32 bits left the upper half of its destination, or cleared that of RAX, when both were equal (FEX-Emu/FEX 4775 and 5664);
    /// BSWAP of 16 bits and a REX prefix that stands before another prefix (unicorn-engine/unicorn 1966).
    /// </summary>
    [Theory]
    [InlineData("0FB1D1", 0xCCCC_CCCC_0000_0005, 0xAAAA_AAAA_0000_0005, 0x7)]
    [InlineData("0FB1D1", 0xCCCC_CCCC_0000_0006, 0x6, 0xCCCC_CCCC_0000_0006)]
    [InlineData("0FB1D0", 0xCCCC_CCCC_0000_0006, 0x7, 0xCCCC_CCCC_0000_0006)]
    [InlineData("660FC8", 0x1, 0xAAAA_AAAA_0000_0000, 0x1)]
    [InlineData("48660FC8", 0x1, 0xAAAA_AAAA_0000_0000, 0x1)]
    [InlineData("4889C8", 0x1234_5678_9ABC_DEF0, 0x1234_5678_9ABC_DEF0, 0x1234_5678_9ABC_DEF0)]
    [InlineData("482E89C8", 0x1234_5678_9ABC_DEF0, 0x9ABC_DEF0, 0x1234_5678_9ABC_DEF0)]
    public void ResultsAreThoseOfTheProcessor(string bytes, ulong rcx, ulong raxAfter, ulong rcxAfter)
    {
        using TestMachine machine = TestMachine.Long();
        machine.Memory.TryWrite(TestMachine.Code, [.. Convert.FromHexString(bytes), 0x90, 0xE6, TestMachine.ExitPort, 0xF4]);
        machine.Registers.Gpr[0] = 0xAAAA_AAAA_0000_0005;
        machine.Registers.Gpr[1] = rcx;
        machine.Registers.Gpr[2] = 0xDDDD_DDDD_0000_0007;
        machine.Apply();
        machine.RunToExit();
        Assert.Equal(raxAfter, machine.Registers.Gpr[0]);
        Assert.Equal(rcxAfter, machine.Registers.Gpr[1]);
    }

    /// <summary>CMPXCHG did not fault on a page that cannot be written, where both differ (86Box/86Box 7734).</summary>
    [Theory]
    [InlineData("F00FB113")]
    [InlineData("0FB113")]
    [InlineData("0FC70B")]
    [InlineData("480FC70B")]
    public void ACompareThatFailsIsAWriteAllTheSame(string bytes)
    {
        using TestMachine machine = TestMachine.Long();
        machine.SetPage(TestMachine.Data, TestMachine.Data | 1);
        machine.Memory.TryWrite(TestMachine.Code, Convert.FromHexString(bytes));
        machine.Registers.Gpr[3] = TestMachine.Data;
        machine.Registers.Gpr[0] = 5;
        machine.Apply();
        Assert.Equal(PageFault, machine.RunToStub());
        Assert.Equal(3UL, machine.Frame(0));
        Assert.Equal(TestMachine.Data, machine.Registers.Cr2);
    }

    /// <summary>RDSEED was done as RDPID: the prefix F3 alone tells them apart (ptitSeb/box64 4368).</summary>
    [Fact]
    public void RdseedIsNoRdpid()
    {
        using TestMachine machine = TestMachine.Long();

        // rdseed eax; setc bl; rdpid ecx
        machine.Memory.TryWrite(TestMachine.Code, [0x0F, 0xC7, 0xF8, 0x0F, 0x92, 0xC3, 0xF3, 0x0F, 0xC7, 0xF9, 0xE6, TestMachine.ExitPort, 0xF4]);
        machine.Registers.Gpr[1] = ulong.MaxValue;
        machine.Apply();
        machine.RunToExit();
        Assert.Equal(1UL, machine.Registers.Gpr[3] & 0xFF);
        Assert.Equal(0UL, machine.Registers.Gpr[1]);
    }
}
