using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.System;

/// <summary>
/// VME in virtual-8086 mode, PVI in protected mode: VIF in place of IF, and VIP. Source: Intel SDM volume 3, sections
/// "Interrupt and Exception Handling in Virtual-8086 Mode" and "Protected-Mode Virtual Interrupts".
/// </summary>
public sealed class VirtualInterruptTests
{
    private const ulong Pending = Rflags.VirtualInterruptPending;
    private const ulong Virtual = Rflags.VirtualInterrupt;
    private const ushort Pushed = 0x7E00;
    private const ushort CodeSegment = 0x500;
    private const byte Redirected = 0x55;
    private const byte NotRedirected = 0x56;

    /// <summary>The word on the stack is what POPF and IRET (after IP and CS) take.</summary>
    private static int Run(TestMachine machine, ulong flags, ushort word, params byte[] code)
    {
        ProcessorRegisters r = machine.Registers;
        for (int i = 0; i < 6; i++)
        {
            r.Segments[i] = new SegmentRegister(CodeSegment, CodeSegment << 4, 0xFFFF, 0xF3);
        }

        // A privileged instruction behind: #GP at a known place.
        machine.Memory.TryWrite(CodeSegment << 4, [.. code, 0xF4]);
        bool iret = code[^1] == 0xCF;
        ushort[] stack = iret ? [(ushort)code.Length, CodeSegment, word] : [word];
        for (int i = 0; i < stack.Length; i++)
        {
            machine.Write((CodeSegment << 4) + Pushed + ((ulong)i * 2), stack[i]);
        }

        r.Rip = 0;
        r.Gpr[4] = Pushed;
        r.Rflags = flags | Rflags.Virtual8086 | Rflags.AlwaysOne;
        machine.Apply();
        Assert.Equal(13, machine.RunToStub());

        // 0 where the instruction itself faulted.
        return (int)machine.Frame(1, 4);
    }

    /// <summary>
    /// One table for CLI, STI, POPF and IRET of 16 bits: what VIF becomes, or a fault, by IOPL, CR4.VME, VIP and the wanted IF.
    /// </summary>
    [Theory]
    [InlineData(0xFA)]
    [InlineData(0xFB)]
    [InlineData(0x9D)]
    [InlineData(0xCF)]
    public void Virtual8086ModeUsesTheVirtualInterruptFlag(byte opcode)
    {
        using TestMachine machine = TestMachine.Protected();
        foreach (int bits in Enumerable.Range(0, 64))
        {
            bool vme = (bits & 1) != 0;
            bool trusted = (bits & 2) != 0;
            bool pending = (bits & 4) != 0;
            bool trap = (bits & 8) != 0;
            bool wasVirtual = (bits & 16) != 0;
            bool image = (bits & 32) != 0;
            bool pops = opcode is 0x9D or 0xCF;
            bool wants = opcode == 0xFB || (pops && image);
            if (trap && (!pops || trusted))
            {
                // A set TF that is taken is single-stepping's matter.
                continue;
            }

            machine.Registers.Cr4 = vme ? Cr4.Virtual8086Extensions : 0;
            ushort word = (ushort)(Rflags.Carry | (image ? Rflags.Interrupt : 0) | (trap ? Rflags.Trap : 0));
            ulong before = (trusted ? Rflags.Iopl : 0) | (pending ? Pending : 0) | (wasVirtual ? Virtual : 0);
            int stopped = Run(machine, before, word, opcode);
            string what = $"VME {vme}, IOPL 3 {trusted}, VIP {pending}, TF {trap}, VIF {wasVirtual}, IF in the image {image}";
            bool faults = !trusted && (!vme || (wants && pending) || trap);
            Assert.True(stopped == (faults ? 0 : 1), what);
            ulong after = machine.Frame(3, 4);
            bool expectedVirtual = faults || trusted ? wasVirtual : wants;
            Assert.True((after & Virtual) == (expectedVirtual ? Virtual : 0), "VIF, " + what);
            Assert.True((after & Rflags.Interrupt) == (!faults && trusted && wants ? Rflags.Interrupt : 0), "IF, " + what);
            Assert.True((after & Rflags.Iopl) == (before & Rflags.Iopl), "IOPL, " + what);
            Assert.True((after & Rflags.Carry) == (!faults && pops ? Rflags.Carry : 0), "CF, " + what);
            Assert.True((after & Pending) == (before & Pending), "VIP, " + what);
        }
    }

    [Theory]
    [InlineData(0x9C)] // pushfd
    [InlineData(0x9D)] // popfd
    [InlineData(0xCF)] // iretd
    public void FlagsOf32BitsFaultBelowIopl3EvenWithVme(byte opcode)
    {
        using TestMachine machine = TestMachine.Protected();
        machine.Registers.Cr4 = Cr4.Virtual8086Extensions;
        Assert.Equal(0, Run(machine, 0, 0, 0x66, opcode));
    }

    /// <summary>INT n by IOPL, VME and its bit in the bitmap: 8086 handler, protected-mode gate, or #GP(0).</summary>
    [Theory]
    [InlineData(false, false, Redirected, 0)]
    [InlineData(false, true, Redirected, 2)]
    [InlineData(true, false, Redirected, 1)]
    [InlineData(true, true, Redirected, 1)]
    [InlineData(true, false, NotRedirected, 0)]
    [InlineData(true, true, NotRedirected, 2)]
    public void SoftwareInterruptGoesWhereTheBitmapAndIoplSay(bool vme, bool trusted, byte vector, int way)
    {
        using TestMachine machine = TestMachine.Protected();
        ProcessorRegisters r = machine.Registers;
        machine.SetGate(vector, 0xEE);
        r.Cr4 = vme ? Cr4.Virtual8086Extensions : 0;

        // The bitmap is the 32 bytes before the I/O map.
        machine.Write(TestMachine.Tss + 102, (ushort)0x88);
        machine.Write(TestMachine.Tss + 0x68 + (NotRedirected / 8), (byte)(1 << (NotRedirected % 8)));
        machine.Write(vector * 4UL, (uint)CodeSegment << 16 | 0x40);
        machine.Memory.TryWrite((CodeSegment << 4) + 0x40, [0xF4]);
        for (int i = 0; i < 6; i++)
        {
            r.Segments[i] = new SegmentRegister(CodeSegment, CodeSegment << 4, 0xFFFF, 0xF3);
        }

        machine.Memory.TryWrite(CodeSegment << 4, [0xCD, vector]);
        r.Rip = 0;
        r.Gpr[4] = Pushed;
        ulong flags = Rflags.Virtual8086 | Rflags.AlwaysOne | Rflags.Interrupt | (trusted ? Rflags.Iopl : 0);
        r.Rflags = flags;
        machine.Apply();
        Assert.Equal(way == 2 ? vector : 13, machine.RunToStub());
        if (way == 2)
        {
            Assert.Equal([2UL, CodeSegment, flags, Pushed], Enumerable.Range(0, 4).Select(i => machine.Frame(i, 4)));
            return;
        }

        Assert.Equal([0UL, way == 1 ? 0x40UL : 0], Enumerable.Range(0, 2).Select(i => machine.Frame(i, 4)));
        if (way == 1)
        {
            ulong stack = (CodeSegment << 4) + Pushed - 6;
            ulong image = machine.Read<ushort>(stack + 4);
            Assert.Equal([2, CodeSegment], new int[] { machine.Read<ushort>(stack), machine.Read<ushort>(stack + 2) });

            // Below IOPL 3 the image has VIF (clear here) as IF, and IOPL 3; IF itself stays.
            Assert.Equal(trusted ? Rflags.Interrupt : 0, image & Rflags.Interrupt);
            Assert.Equal(Rflags.Iopl, image & Rflags.Iopl);
            Assert.Equal(trusted ? 0 : Rflags.Interrupt, machine.Frame(3, 4) & Rflags.Interrupt);
        }
    }

    /// <summary>CLI and STI at level 3 of protected mode, with CR4.PVI; POPF never touches VIF there.</summary>
    [Theory]
    [InlineData(0xFA, true, 0, Virtual, 0UL, false)]
    [InlineData(0xFA, true, 0, Virtual | Pending, Pending, false)]
    [InlineData(0xFB, true, 0, 0UL, Virtual, false)]
    [InlineData(0xFB, true, 0, Pending, Pending, true)]
    [InlineData(0xFB, false, 0, 0UL, 0UL, true)]
    [InlineData(0xFA, false, 0, Virtual, Virtual, true)]
    [InlineData(0x9D, true, 0, Virtual, Virtual, false)]
    [InlineData(0xFB, true, 3, 0UL, 0UL, false)] // IF itself
    public void ProtectedModeVirtualInterruptsAtLevel3(byte opcode, bool pvi, int iopl, ulong before, ulong after, bool faults)
    {
        using TestMachine machine = TestMachine.Protected();
        machine.Registers.Cr4 = pvi ? Cr4.ProtectedVirtualInterrupts : 0;
        machine.EnterUser();
        machine.Registers.Rflags = Rflags.AlwaysOne | before | ((ulong)iopl << Rflags.IoplShift);
        machine.Registers.Gpr[4] = TestMachine.UserStack - 4;
        machine.Write(TestMachine.UserStack - 4, (uint)Rflags.AlwaysOne);
        machine.Apply();
        machine.Memory.TryWrite(TestMachine.UserCode, [opcode, 0x0F, 0x0B]);
        Assert.Equal(faults ? 13 : 6, machine.RunToStub());
        ulong flags = machine.Frame(faults ? 3 : 2, 4); // behind an error code, or not
        Assert.Equal(after, flags & (Virtual | Pending));
        Assert.Equal(opcode == 0xFB && iopl == 3 ? Rflags.Interrupt : 0, flags & Rflags.Interrupt);
    }
}
