using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.System;

/// <summary>Call gates for every combination of levels, and gates and task segments of 16 bits.</summary>
public sealed class CallGateTests
{
    private const ushort Gate = TestMachine.FreeSelector;
    private const ushort Target = TestMachine.FreeSelector + 0x10;
    private const ushort Stack1 = TestMachine.FreeSelector + 0x20;
    private const ushort Stack2 = TestMachine.FreeSelector + 0x28;
    private const ulong Top1 = 0x6_2000;
    private const ulong Top2 = 0x6_4000;
    private const ulong Pointer = TestMachine.Data + 0x100;
    private const uint Parameter = 0x5A5A;
    private const byte Gate16 = 0x4;
    private const byte Gate32 = 0xC;

    private readonly record struct Case(bool Long, int Cpl, byte Type, bool Present, int GateDpl, int Rpl, int CodeDpl, bool Conforming, bool Call);

    private readonly record struct Outcome(int Vector, ushort Error, int Cpl);

    [Theory]
    [InlineData(false, 0)]
    [InlineData(false, 3)]
    [InlineData(true, 0)]
    [InlineData(true, 3)]
    public void CallGateChecksLevelsAndSwitchesStacks(bool isLong, int cpl)
    {
        using TestMachine machine = isLong ? TestMachine.Long() : TestMachine.Protected();
        machine.Memory.TryWrite(TestMachine.Data, [0x0F, 0x0B]);
        machine.SetDescriptor(Stack1, TestMachine.Segment(0xFFFFF, 0xB3, 0xC));
        machine.SetDescriptor(Stack2, TestMachine.Segment(0xFFFFF, 0xD3, 0xC));
        if (isLong)
        {
            machine.Write(TestMachine.Tss + 12, Top1);
            machine.Write(TestMachine.Tss + 20, Top2);
        }
        else
        {
            machine.Write(TestMachine.Tss + 12, (uint)Top1);
            machine.Write(TestMachine.Tss + 16, (uint)Stack1 | 1);
            machine.Write(TestMachine.Tss + 20, (uint)Top2);
            machine.Write(TestMachine.Tss + 24, (uint)Stack2 | 2);
        }

        foreach (int bits in Enumerable.Range(0, 512))
        {
            Run(machine, new Case(isLong, cpl, (bits & 1) != 0 ? Gate16 : Gate32, (bits & 0x1C0) != 0, bits >> 1 & 3, bits >> 3 & 3, bits >> 5 & 3, (bits & 0x80) != 0, (bits & 0x100) != 0));
        }
    }

    private static void Run(TestMachine machine, Case c)
    {
        ProcessorRegisters r = machine.Registers;
        machine.SetDescriptor(Gate, (TestMachine.Data & 0xFFFF) | ((ulong)Target << 16) | (1UL << 32)
            | ((ulong)(c.Type | (c.GateDpl << 5) | (c.Present ? 0x80 : 0)) << 40));
        machine.SetDescriptor(Target, TestMachine.Segment(0xFFFFF, (byte)(0x9B | (c.Conforming ? 4 : 0) | (c.CodeDpl << 5)), (byte)(c.Long ? 0xA : 0xC)));
        machine.Write(Pointer, 0xDEADu);
        machine.Write(Pointer + 4, (ushort)(Gate | c.Rpl));
        ulong start = c.Cpl == 3 ? TestMachine.UserCode : TestMachine.Code;
        machine.Memory.TryWrite(start, [0xFF, (byte)(c.Call ? 0x1B : 0x2B)]);
        if (c.Cpl == 3)
        {
            machine.EnterUser();
        }
        else
        {
            r.Segments[1] = new SegmentRegister(TestMachine.KernelCode, 0, uint.MaxValue, (ushort)(c.Long ? 0xA09B : 0xC09B));
            r.Segments[2] = new SegmentRegister(TestMachine.KernelData, 0, uint.MaxValue, 0xC093);
            r.Gpr[4] = TestMachine.KernelStack;
            r.Rip = start;
        }

        // A flat DS that no switch of levels takes away.
        r.Segments[3] = new SegmentRegister(TestMachine.UserData, 0, uint.MaxValue, 0xC0F3);
        r.Gpr[3] = Pointer;
        ulong stack = r.Gpr[4] -= 0x10;
        machine.Write(stack, Parameter);
        machine.Apply();
        Outcome expected = Expect(c);
        int vector = machine.RunToStub();
        Assert.True(vector == expected.Vector, $"{c}: vector {vector} for {expected}");
        int size = c.Long ? 8 : 4;
        if (vector != ExceptionVector.InvalidOpcode)
        {
            Assert.True(machine.Frame(0, size) == expected.Error, $"{c}: error {machine.Frame(0, size):X}");
            Assert.True(machine.Frame(1, size) == start, $"{c}: saved RIP");
            return;
        }

        Assert.True(machine.Frame(0, size) == TestMachine.Data, $"{c}: target");
        Assert.True(machine.Frame(1, size) == (ulong)(Target | expected.Cpl), $"{c}: CS {machine.Frame(1, size):X}");
        ulong pushed = c.Long || expected.Cpl != 0 ? machine.Frame(3, size) : r.Gpr[4] + 12;
        CheckStack(machine, c, expected.Cpl, stack, pushed, start + 2);
    }

    private static Outcome Expect(Case c)
    {
        var general = new Outcome(ExceptionVector.GeneralProtection, Gate, 0);
        if ((c.Long && c.Type == Gate16) || c.GateDpl < c.Cpl || c.GateDpl < c.Rpl)
        {
            return general;
        }

        if (!c.Present)
        {
            return general with { Vector = ExceptionVector.SegmentNotPresent };
        }

        bool permitted = c.Call || c.Conforming ? c.CodeDpl <= c.Cpl : c.CodeDpl == c.Cpl;
        return permitted
            ? new Outcome(ExceptionVector.InvalidOpcode, 0, c.Conforming ? c.Cpl : c.CodeDpl)
            : general with { Error = Target };
    }

    private static void CheckStack(TestMachine machine, Case c, int cpl, ulong before, ulong pushed, ulong returnRip)
    {
        int size = c.Long ? 8 : c.Type == Gate16 ? 2 : 4;
        ulong mask = size == 8 ? ulong.MaxValue : (1UL << (size * 8)) - 1;
        ulong Item(int i) => machine.Read<ulong>(pushed + (ulong)(i * size)) & mask;
        if (!c.Call)
        {
            Assert.True(pushed == before, $"{c}: a jump moved the stack");
            return;
        }

        ushort cs = c.Cpl == 0 ? TestMachine.KernelCode : c.Long ? TestMachine.UserCode64 : TestMachine.UserCode32;
        Assert.True(Item(0) == (returnRip & mask) && (ushort)Item(1) == cs, $"{c}: return address");
        if (cpl == c.Cpl)
        {
            Assert.True(pushed == before - (ulong)(2 * size), $"{c}: stack {pushed:X}");
            return;
        }

        int parameters = c.Long ? 0 : 1;
        ulong top = cpl switch { 0 => TestMachine.InnerStack, 1 => Top1, _ => Top2 };
        Assert.True(pushed == top - (ulong)((4 + parameters) * size), $"{c}: inner stack {pushed:X}");
        Assert.True(c.Long || Item(2) == Parameter, $"{c}: parameter");
        Assert.True(Item(2 + parameters) == (before & mask) && (ushort)Item(3 + parameters) == TestMachine.UserData, $"{c}: outer stack");
    }

    [Theory]
    [InlineData(0x86, false)] // interrupt gate
    [InlineData(0x87, true)] // trap gate
    public void SixteenBitGatePushesWordsAndIretOfThatSizeGoesBack(byte type, bool keepsInterrupts)
    {
        using TestMachine machine = TestMachine.Protected();
        machine.SetDescriptor(Target, TestMachine.Segment(0xFFFF, 0x9B, 0, (uint)TestMachine.Stubs));
        const int Vector = 0x31;
        machine.Write(TestMachine.Idt + (Vector * 8), (Vector * (ulong)TestMachine.StubSize) | ((ulong)Target << 16) | ((ulong)type << 40));
        machine.Registers.Rflags = Rflags.AlwaysOne | Rflags.Interrupt | Rflags.Carry;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [0xCD, Vector]);
        Assert.Equal(Vector, machine.RunToStub());
        Assert.Equal(TestMachine.KernelStack - 6, machine.Registers.Gpr[4]);
        Assert.Equal([TestMachine.Code + 2, TestMachine.KernelCode, Rflags.AlwaysOne | Rflags.Interrupt | Rflags.Carry], Enumerable.Range(0, 3).Select(i => machine.Frame(i, 2)));
        Assert.Equal(keepsInterrupts, (machine.Registers.Rflags & Rflags.Interrupt) != 0);

        // IRET in the 16-bit segment, to UD2 in the 32-bit one.
        machine.Memory.TryWrite(TestMachine.Stubs + 0x1000, [0xCF]);
        machine.Memory.TryWrite(TestMachine.Code + 2, [0x0F, 0x0B]);
        machine.Registers.Rip = 0x1000;
        machine.Apply();
        Assert.Equal(6, machine.RunToStub());
        Assert.Equal(TestMachine.KernelStack - 12, machine.Registers.Gpr[4]);
        Assert.Equal(TestMachine.Code + 2, machine.Frame(0, 4));
    }

    [Fact]
    public void SixteenBitTaskSegmentGivesTheInnerStack()
    {
        using TestMachine machine = TestMachine.Protected();
        machine.Registers.Tr = new SegmentRegister(TestMachine.OtherTssSelector, TestMachine.OtherTss, 43, 0x83);
        machine.Write(TestMachine.OtherTss + 2, (ushort)0x7F00);
        machine.Write(TestMachine.OtherTss + 4, TestMachine.KernelData);
        machine.EnterUser();
        machine.Memory.TryWrite(TestMachine.UserCode, [0x0F, 0x0B]);
        Assert.Equal(6, machine.RunToStub());
        Assert.Equal(0x7F00UL - 20, machine.Registers.Gpr[4]);
        Assert.Equal(TestMachine.UserStack, machine.Frame(3, 4));
    }

    [Fact]
    public void JumpToASixteenBitTaskSavesAndLoadsWords()
    {
        using TestMachine machine = TestMachine.Protected();
        const ulong New = TestMachine.OtherTss;
        const ulong Old = TestMachine.OtherTss + 0x100;
        machine.SetDescriptor(TestMachine.OtherTssSelector, TestMachine.Segment(43, 0x81, 0, (uint)New));
        machine.SetDescriptor(Target, TestMachine.Segment(43, 0x83, 0, (uint)Old));
        machine.Registers.Tr = new SegmentRegister(Target, Old, 43, 0x83);
        ushort[] words =
        [
            0, 0, 0, 0, 0, 0, 0, (ushort)TestMachine.UserCode, (ushort)Rflags.AlwaysOne, 0x1111, 0x2222, 0x3333, 0x4444, 0x7E00,
            0x6666, 0x7777, 0x8888, TestMachine.KernelData, TestMachine.KernelCode, TestMachine.KernelData, TestMachine.KernelData, 0,
        ];
        for (int i = 0; i < words.Length; i++)
        {
            machine.Write(New + ((ulong)i * 2), words[i]);
        }

        machine.Registers.Gpr[0] = 0xAAAA_BBBB;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [0xEA, 0, 0, 0, 0, (byte)TestMachine.OtherTssSelector, 0]);
        machine.Memory.TryWrite(TestMachine.UserCode, [0x0F, 0x0B]);
        Assert.Equal(6, machine.RunToStub());
        Assert.Equal(TestMachine.UserCode, machine.Frame(0, 4));

        // The upper halves of the registers are undefined after such a switch.
        Assert.Equal([0x1111, 0x2222, 0x3333, 0x4444, 0x7E00 - 12, 0x6666, 0x7777, 0x8888], Enumerable.Range(0, 8).Select(i => (int)(ushort)machine.Registers.Gpr[i]));
        Assert.Equal((ushort)(TestMachine.Code + 7), machine.Read<ushort>(Old + 14));
        Assert.Equal(0xBBBB, machine.Read<ushort>(Old + 18));
        Assert.Equal(TestMachine.KernelCode, machine.Read<ushort>(Old + 36));
        Assert.Equal(0x81, machine.Read<byte>(TestMachine.Gdt + Target + 5));
        Assert.Equal(0x83, machine.Read<byte>(TestMachine.Gdt + TestMachine.OtherTssSelector + 5));
    }
}
