using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.System;

/// <summary>The I/O permission bitmap up to the TSS's limit. Source: Intel SDM volume 1, section "I/O Permission Bit Map".</summary>
public sealed class PortPermissionTests
{
    private const uint MapOffset = 0x68;

    private static bool Passes(TestMachine machine, ushort port, int size)
    {
        machine.PortWrites.Clear();
        machine.Registers.Rflags = Rflags.AlwaysOne;
        machine.Registers.Gpr[2] = port;
        machine.EnterUser();
        byte[] code = size switch { 1 => [0xEE, 0x0F, 0x0B], 2 => [0x66, 0xEF, 0x0F, 0x0B], _ => [0xEF, 0x0F, 0x0B] };
        machine.Memory.TryWrite(TestMachine.UserCode, code);
        int vector = machine.RunToStub();
        Assert.Contains(vector, (int[])[6, 13]);
        Assert.Equal(vector == 6 ? 1 : 0, machine.PortWrites.Count);
        if (vector == 13)
        {
            int width = (machine.Registers.Efer & Efer.LongModeActive) != 0 ? 8 : 4;
            Assert.Equal([0UL, TestMachine.UserCode], Enumerable.Range(0, 2).Select(i => machine.Frame(i, width)));
        }

        return vector == 6;
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void EveryBitOfAnAccessMustBeClear(bool isLong)
    {
        using TestMachine machine = isLong ? TestMachine.Long() : TestMachine.Protected();
        foreach (int denied in Enumerable.Range(0x10, 16))
        {
            machine.Write(TestMachine.Tss + MapOffset + 2, (ushort)(1 << (denied - 0x10)));
            foreach (int size in (int[])[1, 2, 4])
            {
                foreach (int port in Enumerable.Range(0x0C, 22))
                {
                    bool touches = denied >= port && denied < port + size;
                    Assert.True(Passes(machine, (ushort)port, size) == !touches, $"denied {denied:X}, port {port:X}, size {size}");
                }
            }
        }
    }

    /// <summary>Two bytes of the map are read for any access, so both must lie inside the TSS.</summary>
    [Theory]
    [InlineData(0x6A, 0x00, true)]
    [InlineData(0x6A, 0x07, true)]
    [InlineData(0x69, 0x07, true)]
    [InlineData(0x69, 0x08, false)]
    [InlineData(0x68, 0x00, false)]
    [InlineData(0x67, 0x00, false)]
    [InlineData(0x66, 0x00, false)] // not even the map's base is inside
    public void MapEndsWithTheTaskSegment(int limit, int port, bool passes)
    {
        using TestMachine machine = TestMachine.Protected();
        machine.Registers.Tr = machine.Registers.Tr with { Limit = (uint)limit };
        Assert.Equal(passes, Passes(machine, (ushort)port, 1));
    }

    [Fact]
    public void MapBaseBehindTheLimitMeansNoPorts()
    {
        using TestMachine machine = TestMachine.Protected();
        machine.Write(TestMachine.Tss + 102, (ushort)0xFFFF);
        Assert.False(Passes(machine, 0, 1));
        Assert.False(Passes(machine, 0xFFFF, 4));
    }

    [Fact]
    public void SixteenBitTaskSegmentHasNoMap()
    {
        using TestMachine machine = TestMachine.Protected();
        machine.Write(TestMachine.Tss + 2, (ushort)0x7F00);
        machine.Write(TestMachine.Tss + 4, TestMachine.KernelData);
        machine.Registers.Tr = machine.Registers.Tr with { Attributes = 0x83 };
        Assert.False(Passes(machine, 0, 1));
    }

    [Fact]
    public void LastPortNeedsTheByteBehindTheMap()
    {
        using TestMachine machine = TestMachine.Protected();
        machine.Write(TestMachine.Tss + MapOffset + 0x1FFF, (byte)0);
        Assert.False(Passes(machine, 0xFFFF, 2)); // the byte behind, all ones
        Assert.True(Passes(machine, 0xFFFF, 1));
        machine.Registers.Tr = machine.Registers.Tr with { Limit = MapOffset + 0x1FFF };
        Assert.False(Passes(machine, 0xFFFF, 1));
        Assert.True(Passes(machine, 0xFFF7, 1));
    }
}
