using Iced.Intel;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Interpreter.Tests.System;

/// <summary>Questions about selectors (LAR, LSL, VERR, VERW, ARPL), far pointer loads, and far transfers without gates.</summary>
public sealed class SelectorTests
{
    private const ushort Asked = TestMachine.FreeSelector;
    private const ulong Untouched = 0xCCCC_CCCC;

    /// <summary>System types (S clear) with attributes to load, and with limits. Source: Intel SDM volume 2, tables of LAR and LSL.</summary>
    private static readonly int[] LarLegacy = [1, 2, 3, 4, 5, 9, 11, 12];
    private static readonly int[] LarLong = [2, 9, 11, 12];
    private static readonly int[] LslLegacy = [1, 2, 3, 9, 11];
    private static readonly int[] LslLong = [2, 9, 11];

    [Theory]
    [InlineData(false, false)]
    [InlineData(false, true)]
    [InlineData(true, false)]
    [InlineData(true, true)]
    public void LarLslVerrVerwAnswerForEveryTypeLevelAndRpl(bool isLong, bool user)
    {
        using TestMachine machine = isLong ? TestMachine.Long() : TestMachine.Protected();
        ulong start = user ? TestMachine.UserCode : TestMachine.Code;

        // lar eax,ecx; setz bl; lsl esi,ecx; setz bh; verr cx; setz dl; verw cx; setz dh; ud2
        machine.Memory.TryWrite(start, [0x0F, 0x02, 0xC1, 0x0F, 0x94, 0xC3, 0x0F, 0x03, 0xF1, 0x0F, 0x94, 0xC7, 0x0F, 0x00, 0xE1, 0x0F, 0x94, 0xC2, 0x0F, 0x00, 0xE9, 0x0F, 0x94, 0xC6, 0x0F, 0x0B]);
        int cpl = user ? 3 : 0;
        foreach (int access in Enumerable.Range(0, 256))
        {
            foreach (int rpl in Enumerable.Range(0, 4))
            {
                Ask(machine, isLong, cpl, (byte)access, rpl, start);
            }
        }
    }

    private static void Ask(TestMachine machine, bool isLong, int cpl, byte access, int rpl, ulong start)
    {
        ProcessorRegisters r = machine.Registers;
        machine.SetDescriptor(Asked, TestMachine.Segment(0x1_2345, access, 0xC));
        r.Segments[1] = (isLong, cpl) switch
        {
            (true, 0) => new SegmentRegister(TestMachine.KernelCode, 0, uint.MaxValue, 0xA09B),
            (false, 0) => new SegmentRegister(TestMachine.KernelCode, 0, uint.MaxValue, 0xC09B),
            (true, _) => new SegmentRegister(TestMachine.UserCode64, 0, uint.MaxValue, 0xA0FB),
            _ => new SegmentRegister(TestMachine.UserCode32, 0, uint.MaxValue, 0xC0FB),
        };
        r.Segments[2] = cpl == 0
            ? new SegmentRegister(TestMachine.KernelData, 0, uint.MaxValue, 0xC093)
            : new SegmentRegister(TestMachine.UserData, 0, uint.MaxValue, 0xC0F3);
        r.Gpr[0] = r.Gpr[6] = Untouched;
        r.Gpr[3] = r.Gpr[2] = 0;
        r.Gpr[1] = (ulong)(Asked | rpl);
        r.Gpr[4] = TestMachine.KernelStack;
        r.Rip = start;
        machine.Apply();
        Assert.Equal(6, machine.RunToStub());

        int type = access & 0xF;
        bool system = (access & 0x10) == 0;
        bool code = !system && (type & 8) != 0;
        bool conforming = code && (type & 4) != 0;
        int dpl = access >> 5 & 3;
        bool visible = conforming || (dpl >= cpl && dpl >= rpl);
        bool lar = visible && (!system || (isLong ? LarLong : LarLegacy).Contains(type));
        bool lsl = visible && (!system || (isLong ? LslLong : LslLegacy).Contains(type));
        bool readable = visible && !system && (!code || (type & 2) != 0);
        bool writable = visible && !system && !code && (type & 2) != 0;
        string what = $"access {access:X2}, RPL {rpl}, CPL {cpl}";
        Assert.True((r.Gpr[3] & 0xFF) == (lar ? 1UL : 0), "LAR " + what);
        Assert.True((r.Gpr[3] >> 8) == (lsl ? 1UL : 0), "LSL " + what);
        Assert.True((r.Gpr[2] & 0xFF) == (readable ? 1UL : 0), "VERR " + what);
        Assert.True((r.Gpr[2] >> 8) == (writable ? 1UL : 0), "VERW " + what);

        // The limit's bits 19:16 in LAR's answer are undefined.
        Assert.True((r.Gpr[0] & ~0xF_0000UL) == (lar ? 0xC0_0000UL | ((ulong)access << 8) : Untouched & (lar ? 0 : ~0xF_0000UL)), $"LAR gave {r.Gpr[0]:X} " + what);
        Assert.True(r.Gpr[6] == (lsl ? 0x1234_5FFFUL : Untouched), $"LSL gave {r.Gpr[6]:X} " + what);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(3)]
    [InlineData(0x1FF8)]
    [InlineData(0x14)] // of an LDT that is not there
    public void SelectorWithoutADescriptorIsAnsweredWithZeroClear(int selector)
    {
        using TestMachine machine = TestMachine.Protected();
        machine.Registers.Gpr[1] = (ulong)selector;
        machine.Registers.Gpr[0] = Untouched;
        machine.Registers.Rflags |= Rflags.Zero;
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.Code, [0x0F, 0x02, 0xC1, 0x0F, 0x0B]);
        Assert.Equal(6, machine.RunToStub());
        Assert.Equal(Untouched, machine.Registers.Gpr[0]);
        Assert.Equal(0UL, machine.Registers.Rflags & Rflags.Zero);
    }

    [Fact]
    public void ArplRaisesTheRplAndTellsSo()
    {
        using TestMachine machine = TestMachine.Protected();
        machine.Memory.TryWrite(TestMachine.Code, [0x63, 0xC8, 0x0F, 0x0B]); // arpl ax, cx
        foreach (int pair in Enumerable.Range(0, 16))
        {
            (ulong target, ulong source) = ((ulong)pair & 3, (ulong)pair >> 2);
            machine.Registers.Gpr[0] = 0xABCD_1230 | target;
            machine.Registers.Gpr[1] = 0x5674 | source;
            machine.Registers.Rip = TestMachine.Code;
            machine.Registers.Gpr[4] = TestMachine.KernelStack;
            machine.Apply();
            Assert.Equal(6, machine.RunToStub());
            Assert.Equal(0xABCD_1230 | Math.Max(target, source), machine.Registers.Gpr[0]);
            Assert.Equal(target < source, (machine.Registers.Rflags & Rflags.Zero) != 0);
        }
    }

    [Theory]
    [InlineData(new byte[] { 0x63, 0xC8 })] // arpl
    [InlineData(new byte[] { 0x0F, 0x02, 0xC1 })] // lar
    [InlineData(new byte[] { 0x0F, 0x03, 0xC1 })] // lsl
    [InlineData(new byte[] { 0x0F, 0x00, 0xE1 })] // verr
    [InlineData(new byte[] { 0x0F, 0x00, 0xE9 })] // verw
    [InlineData(new byte[] { 0x0F, 0x00, 0xC8 })] // str
    [InlineData(new byte[] { 0x0F, 0x00, 0xD8 })] // ltr
    public void SelectorInstructionsAreInvalidInRealMode(byte[] code)
    {
        using TestMachine machine = TestMachine.Real();
        machine.Memory.TryWrite(TestMachine.Code, code);
        Assert.Equal(6, machine.RunToStub());
        Assert.Equal(TestMachine.Code, machine.Frame(0, 2));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(3)]
    public void FarJumpAndCallCheckLevelsOfConformingAndOtherCode(int cpl)
    {
        using TestMachine machine = TestMachine.Protected();
        const ulong Target = TestMachine.Data;
        machine.Memory.TryWrite(Target, [0x0F, 0x0B]);
        foreach (int bits in Enumerable.Range(0, 64))
        {
            bool conforming = (bits & 1) != 0;
            bool call = (bits & 2) != 0;
            int dpl = bits >> 2 & 3;
            int rpl = bits >> 4;
            machine.SetDescriptor(Asked, TestMachine.Segment(0xFFFFF, (byte)(0x9B | (conforming ? 4 : 0) | (dpl << 5)), 0xC));
            machine.Registers.Segments[1] = new SegmentRegister(cpl == 0 ? TestMachine.KernelCode : TestMachine.UserCode32, 0, uint.MaxValue, (ushort)(cpl == 0 ? 0xC09B : 0xC0FB));
            machine.Registers.Segments[2] = new SegmentRegister(cpl == 0 ? TestMachine.KernelData : TestMachine.UserData, 0, uint.MaxValue, (ushort)(cpl == 0 ? 0xC093 : 0xC0F3));
            machine.Registers.Gpr[4] = TestMachine.KernelStack;
            machine.Registers.Rip = TestMachine.Code;
            machine.Memory.TryWrite(TestMachine.Code, [(byte)(call ? 0x9A : 0xEA), 0x00, 0xA0, 0x00, 0x00, (byte)(Asked | rpl), 0]);
            machine.Apply();
            bool allowed = conforming ? dpl <= cpl : dpl == cpl && rpl <= cpl;
            string what = $"conforming {conforming}, call {call}, DPL {dpl}, RPL {rpl}";
            Assert.True(machine.RunToStub() == (allowed ? 6 : 13), what);
            int first = allowed ? 0 : 1;
            Assert.True(machine.Frame(first, 4) == (allowed ? Target : TestMachine.Code), what);
            Assert.True(allowed ? machine.Frame(1, 4) == (ulong)(Asked | cpl) : machine.Frame(0, 4) == Asked, what);
            if (allowed && call)
            {
                Assert.Equal((uint)TestMachine.Code + 7, machine.Read<uint>(TestMachine.KernelStack - 8));
                Assert.Equal(cpl == 0 ? TestMachine.KernelCode : TestMachine.UserCode32, machine.Read<uint>(TestMachine.KernelStack - 4));
            }
        }
    }

    [Theory]
    [InlineData(0, new byte[] { 0xC4, 0x03 })] // les eax, [ebx]
    [InlineData(3, new byte[] { 0xC5, 0x03 })] // lds
    [InlineData(2, new byte[] { 0x0F, 0xB2, 0x03 })] // lss
    [InlineData(4, new byte[] { 0x0F, 0xB4, 0x03 })] // lfs
    [InlineData(5, new byte[] { 0x0F, 0xB5, 0x03 })] // lgs
    public void FarPointerLoadsBothOrNothing(int segment, byte[] code)
    {
        using TestMachine machine = TestMachine.Protected();
        machine.SetDescriptor(Asked, TestMachine.Segment(0xFFFFF, 0x93, 0xC, 0x100));
        machine.Memory.TryWrite(TestMachine.Code, [.. code, 0x0F, 0x0B]);
        machine.Write(TestMachine.Data, 0x1234_5678u);
        foreach (ushort selector in (ushort[])[Asked, 0x1FF8])
        {
            machine.Write(TestMachine.Data + 4, selector);
            machine.Registers.Gpr[0] = 0;
            machine.Registers.Gpr[3] = TestMachine.Data;
            machine.Registers.Gpr[4] = TestMachine.KernelStack - 0x100;
            machine.Registers.Rip = TestMachine.Code;
            machine.Registers.Segments[segment] = new SegmentRegister(TestMachine.KernelData, 0, uint.MaxValue, 0xC093);
            machine.Apply();
            bool good = selector == Asked;
            Assert.Equal(good ? 6 : 13, machine.RunToStub());
            Assert.Equal(good ? 0x1234_5678UL : 0, machine.Registers.Gpr[0]);
            Assert.Equal(good ? Asked : TestMachine.KernelData, machine.Registers.Segments[segment].Selector);
            Assert.Equal(good ? 0x100UL : 0, machine.Registers.Segments[segment].Base);
            machine.Registers.Segments[3] = new SegmentRegister(TestMachine.KernelData, 0, uint.MaxValue, 0xC093);
        }
    }

    [Fact]
    public void FarPointerLoadOfARegisterFormIsInvalid()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Memory.TryWrite(TestMachine.Code, [0x0F, 0xB4, 0xC0]);
        Assert.Equal(6, machine.RunToStub());
    }

    [Fact]
    public void WideFarPointerLoadsSixtyFourBitsOfOffset()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Write(TestMachine.Data, 0x1122_3344_5566_7788UL);
        machine.Write(TestMachine.Data + 8, TestMachine.KernelData);
        machine.Assemble(TestMachine.Code, 64, a =>
        {
            a.mov(ebx, (int)TestMachine.Data);
            a.db(0x48, 0x0F, 0xB4, 0x03); // lfs rax, [rbx]
            a.ud2();
        });
        Assert.Equal(6, machine.RunToStub());
        Assert.Equal(0x1122_3344_5566_7788UL, machine.Registers.Gpr[0]);
        Assert.Equal(TestMachine.KernelData, machine.Registers.Segments[4].Selector);
    }
}
