using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.System;

/// <summary>What becomes of the base of FS and GS when their selector becomes null.</summary>
public sealed class BaseTests
{
    private const ulong FsBase = 0x1234_5000;
    private const ulong GsBase = 0xFFFF_8000_0012_3000;

    public static TheoryData<string> Returns => new("iretq", "retfq", "retfq 16");

    /// <summary>A return to an outer level takes selector and rights of what that level must not use; the base is usable without them.</summary>
    [Theory]
    [MemberData(nameof(Returns))]
    public void ReturnToAnOuterLevelKeepsTheBases(string instruction)
    {
        using TestMachine machine = Prepare();
        machine.Assemble(TestMachine.Code, 64, a =>
        {
            a.push(TestMachine.UserData);
            a.push((int)TestMachine.UserStack);
            switch (instruction)
            {
                case "iretq":
                    a.push((int)Rflags.AlwaysOne);
                    break;
                case "retfq 16":
                    a.push(0);
                    a.push(0);
                    break;
                default:
                    break;
            }

            a.push(TestMachine.UserCode64);
            a.push((int)TestMachine.UserCode);
            if (instruction == "iretq")
            {
                a.iretq();
            }
            else
            {
                a.db(instruction == "retfq" ? [0x48, 0xCB] : [0x48, 0xCA, 16, 0]);
            }
        });

        // Twice: what is known of the first return must not serve the second one with other segments.
        for (int time = 0; time < 2; time++)
        {
            machine.Registers.Rip = TestMachine.Code;
            machine.Registers.Gpr[4] = TestMachine.KernelStack;
            machine.Registers.Segments[1] = new SegmentRegister(TestMachine.KernelCode, 0, uint.MaxValue, 0xA09B);
            machine.Registers.Segments[2] = new SegmentRegister(TestMachine.KernelData, 0, uint.MaxValue, 0xC093);
            machine.Registers.Segments[4] = new SegmentRegister(TestMachine.KernelData, FsBase, uint.MaxValue, 0xC093);
            machine.Registers.Segments[5] = new SegmentRegister(TestMachine.KernelData, GsBase, uint.MaxValue, 0xC093);
            machine.Registers.Segments[3] = new SegmentRegister(TestMachine.KernelData, 0, uint.MaxValue, 0xC093);
            machine.Apply();
            Assert.Equal(6, machine.RunToStub());
            Assert.Equal(TestMachine.UserCode + 10, machine.Frame(0));
            Assert.Equal((FsBase, GsBase), (machine.Registers.Gpr[0], machine.Registers.Gpr[3]));
            foreach (int i in (int[])[3, 4, 5])
            {
                Assert.Equal(0, machine.Registers.Segments[i].Selector);
                Assert.Equal(0, machine.Registers.Segments[i].Attributes & SegmentAttributes.Present);
            }
        }
    }

    /// <summary>What user code may use stays as it is.</summary>
    [Fact]
    public void ReturnToAnOuterLevelLeavesItsOwnSegmentsAlone()
    {
        using TestMachine machine = Prepare();
        machine.Registers.Segments[4] = new SegmentRegister(TestMachine.UserData, FsBase, uint.MaxValue, 0xC0F3);
        machine.Registers.Segments[5] = new SegmentRegister(0, GsBase, 0, 0);
        machine.Apply();
        machine.Assemble(TestMachine.Code, 64, a =>
        {
            a.push(TestMachine.UserData);
            a.push((int)TestMachine.UserStack);
            a.push((int)Rflags.AlwaysOne);
            a.push(TestMachine.UserCode64);
            a.push((int)TestMachine.UserCode);
            a.iretq();
        });
        Assert.Equal(6, machine.RunToStub());
        Assert.Equal((FsBase, GsBase), (machine.Registers.Gpr[0], machine.Registers.Gpr[3]));
        Assert.Equal(TestMachine.UserData, machine.Registers.Segments[4].Selector);
    }

    /// <summary>MOV, POP and LFS of a null selector clear it, as bit 6 of CPUID leaf 80000021h promises (NullSelectClearsBase).</summary>
    [Theory]
    [InlineData(new byte[] { 0x8E, 0xE1 })] // mov fs,ecx
    [InlineData(new byte[] { 0x51, 0x0F, 0xA1 })] // push rcx; pop fs
    [InlineData(new byte[] { 0x0F, 0xB4, 0x0E })] // lfs ecx,[rsi]
    public void LoadOfANullSelectorClearsTheBaseAsCpuidSays(byte[] load)
    {
        using TestMachine machine = Prepare();
        Assert.NotEqual(0u, machine.Cpu.Control.QueryCpuid(0x8000_0021, 0).Eax & (1u << 6));
        machine.Registers.Gpr[1] = 3;
        machine.Registers.Gpr[6] = TestMachine.Data;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [.. load, 0xF3, 0x48, 0x0F, 0xAE, 0xC0, 0x0F, 0x0B]); // rdfsbase rax; ud2
        Assert.Equal(6, machine.RunToStub());
        Assert.Equal(0UL, machine.Registers.Gpr[0]);
    }

    private static TestMachine Prepare()
    {
        TestMachine machine = TestMachine.Long();
        machine.Registers.Cr4 |= Cr4.FsGsBase;
        machine.Registers.Segments[4] = new SegmentRegister(TestMachine.KernelData, FsBase, uint.MaxValue, 0xC093);
        machine.Memory.TryWrite(TestMachine.UserCode, [0xF3, 0x48, 0x0F, 0xAE, 0xC0, 0xF3, 0x48, 0x0F, 0xAE, 0xCB, 0x0F, 0x0B]); // rdfsbase rax; rdgsbase rbx; ud2
        return machine;
    }
}
