using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.System;

/// <summary>Every instruction that asks for the privilege level, at levels 1, 2 and 3. Sources: Intel SDM volume 2; AMD APM volume 3.</summary>
public sealed class PrivilegeTests
{
    private const ulong User = TestMachine.UserCode;

    /// <summary>Instructions that are for level 0 alone, with the exception that they are elsewhere.</summary>
    private static readonly (string Name, byte[] Code, int Vector)[] Privileged =
    [
        ("mov rax,cr0", [0x0F, 0x20, 0xC0], 13), ("mov rax,cr2", [0x0F, 0x20, 0xD0], 13), ("mov rax,cr3", [0x0F, 0x20, 0xD8], 13),
        ("mov rax,cr4", [0x0F, 0x20, 0xE0], 13), ("mov rax,cr8", [0x44, 0x0F, 0x20, 0xC0], 13),
        ("mov cr0,rax", [0x0F, 0x22, 0xC0], 13), ("mov cr2,rax", [0x0F, 0x22, 0xD0], 13), ("mov cr3,rax", [0x0F, 0x22, 0xD8], 13),
        ("mov cr4,rax", [0x0F, 0x22, 0xE0], 13), ("mov cr8,rax", [0x44, 0x0F, 0x22, 0xC0], 13),
        ("mov rax,dr0", [0x0F, 0x21, 0xC0], 13), ("mov rax,dr6", [0x0F, 0x21, 0xF0], 13), ("mov rax,dr7", [0x0F, 0x21, 0xF8], 13),
        ("mov dr0,rax", [0x0F, 0x23, 0xC0], 13), ("mov dr7,rax", [0x0F, 0x23, 0xF8], 13),
        ("lgdt [rbx]", [0x0F, 0x01, 0x13], 13), ("lidt [rbx]", [0x0F, 0x01, 0x1B], 13), ("lldt ax", [0x0F, 0x00, 0xD0], 13),
        ("lldt [rbx]", [0x0F, 0x00, 0x13], 13), ("ltr ax", [0x0F, 0x00, 0xD8], 13), ("ltr [rbx]", [0x0F, 0x00, 0x1B], 13),
        ("lmsw ax", [0x0F, 0x01, 0xF0], 13), ("lmsw [rbx]", [0x0F, 0x01, 0x33], 13), ("clts", [0x0F, 0x06], 13),
        ("invd", [0x0F, 0x08], 13), ("wbinvd", [0x0F, 0x09], 13), ("wbnoinvd", [0xF3, 0x0F, 0x09], 13),
        ("invlpg [rbx]", [0x0F, 0x01, 0x3B], 13), ("invpcid rax,[rbx]", [0x66, 0x0F, 0x38, 0x82, 0x03], 13),
        ("rdmsr", [0x0F, 0x32], 13), ("wrmsr", [0x0F, 0x30], 13), ("hlt", [0xF4], 13), ("swapgs", [0x0F, 0x01, 0xF8], 13),
        ("sysretq", [0x48, 0x0F, 0x07], 13), ("sysretd", [0x0F, 0x07], 13), ("xsetbv", [0x0F, 0x01, 0xD1], 13),
        ("rdpmc", [0x0F, 0x33], 13), ("rdtsc", [0x0F, 0x31], 13), ("rdtscp", [0x0F, 0x01, 0xF9], 13),
        ("cli", [0xFA], 13), ("sti", [0xFB], 13), ("in al,80h", [0xE4, 0x80], 13), ("in eax,dx", [0xED], 13), ("out 80h,al", [0xE6, 0x80], 13),
        ("out dx,eax", [0xEF], 13), ("insb", [0x6C], 13), ("rep outsb", [0xF3, 0x6E], 13),
        ("sgdt [rbx]", [0x0F, 0x01, 0x03], 13), ("sidt [rbx]", [0x0F, 0x01, 0x0B], 13), ("sldt [rbx]", [0x0F, 0x00, 0x03], 13),
        ("sldt eax", [0x0F, 0x00, 0xC0], 13), ("str [rbx]", [0x0F, 0x00, 0x0B], 13), ("str rax", [0x48, 0x0F, 0x00, 0xC8], 13),
        ("smsw [rbx]", [0x0F, 0x01, 0x23], 13), ("smsw eax", [0x0F, 0x01, 0xE0], 13),
        ("clac", [0x0F, 0x01, 0xCA], 6), ("stac", [0x0F, 0x01, 0xCB], 6), ("sysexit", [0x0F, 0x35], 6), ("sysenter", [0x0F, 0x34], 6),
        ("monitor", [0x0F, 0x01, 0xC8], 6), ("mwait", [0x0F, 0x01, 0xC9], 6), ("rsm", [0x0F, 0xAA], 6), ("vmrun", [0x0F, 0x01, 0xD8], 6),
        ("clgi", [0x0F, 0x01, 0xDD], 6), ("invlpga", [0x0F, 0x01, 0xDF], 6), ("vmxoff", [0x0F, 0x01, 0xC4], 6), ("getsec", [0x0F, 0x37], 6),
        ("rdfsbase", [0xF3, 0x48, 0x0F, 0xAE, 0xC0], 6), ("wrgsbase", [0xF3, 0x48, 0x0F, 0xAE, 0xD8], 6),
    ];

    public static TheoryData<string, int> PrivilegedInstructions()
    {
        var data = new TheoryData<string, int>();
        foreach ((string name, _, _) in Privileged)
        {
            foreach (int level in (int[])[1, 2, 3])
            {
                data.Add(name, level);
            }
        }

        return data;
    }

    /// <summary>A machine at a level, with 64-bit code at <see cref="User"/>, no ports and all that CR4 keeps from user code.</summary>
    private static TestMachine At(int level, ulong flags = 0)
    {
        TestMachine machine = TestMachine.Long();
        ushort code = (ushort)(TestMachine.FreeSelector + (16 * level));
        byte dpl = (byte)(level << 5);
        machine.SetDescriptor(code, TestMachine.Segment(0xFFFFF, (byte)(0x9B | dpl), 0xA));
        machine.SetDescriptor((ushort)(code + 8), TestMachine.Segment(0xFFFFF, (byte)(0x93 | dpl), 0xC));
        ProcessorRegisters r = machine.Registers;
        r.Segments[1] = new SegmentRegister((ushort)(code | level), 0, uint.MaxValue, (ushort)(0xA09B | dpl));
        foreach (int i in (int[])[0, 2, 3])
        {
            r.Segments[i] = new SegmentRegister((ushort)((code + 8) | level), 0, uint.MaxValue, (ushort)(0xC093 | dpl));
        }

        r.Tr = r.Tr with { Limit = 0x67 };
        r.Cr4 |= Cr4.TimeStampDisable | Cr4.OsXsave | Cr4.UserModeInstructionPrevention;
        r.Rflags = Rflags.AlwaysOne | flags;
        r.Rip = User;
        r.Gpr[0] = 0;
        r.Gpr[1] = Msr.Efer;
        r.Gpr[3] = TestMachine.Data;
        r.Gpr[4] = TestMachine.UserStack;
        return machine;
    }

    [Theory]
    [MemberData(nameof(PrivilegedInstructions))]
    public void InstructionOfLevelZeroFaultsElsewhereAndChangesNothing(string name, int level)
    {
        (_, byte[] code, int vector) = Privileged.Single(row => row.Name == name);
        using TestMachine machine = At(level);
        machine.Registers.Gpr[1] = name == "rdpmc" ? 0 : machine.Registers.Gpr[1];
        machine.Apply();

        // Something before it, that it is not a block's first; what must not run behind it ends with another exception.
        machine.Memory.TryWrite(User, [0x90, .. code, 0xCC]);
        Assert.Equal(vector, machine.RunToStub());
        int rip = vector == 13 ? 1 : 0;
        Assert.Equal(User + 1, machine.Frame(rip));
        Assert.Equal(level, (int)machine.Frame(rip + 1) & 3);
        Assert.Equal(0UL, vector == 13 ? machine.Frame(0) : 0);
        Assert.Equal(0UL, machine.Registers.Gpr[0]);
        Assert.Equal(0UL, machine.Read<ulong>(TestMachine.Data));
        Assert.Empty(machine.PortWrites);
    }

    /// <summary>By IRETQ from level 0, twice: the way there and its blocks are known the second time.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void LevelsOneAndTwoDoNotRunASupervisorsBlocks(int level)
    {
        using TestMachine machine = At(level);
        ProcessorRegisters r = machine.Registers;
        (ushort code, ushort stack) = (r.Segments[1].Selector, r.Segments[2].Selector);

        // The same code at level 0 first, so that its blocks are there: mov rcx,cr3; swapgs; swapgs; int3
        machine.Memory.TryWrite(User, [0x0F, 0x20, 0xD9, 0x0F, 0x01, 0xF8, 0x0F, 0x01, 0xF8, 0xCC]);
        r.Segments[1] = new SegmentRegister(TestMachine.KernelCode, 0, uint.MaxValue, 0xA09B);
        r.Segments[2] = new SegmentRegister(TestMachine.KernelData, 0, uint.MaxValue, 0xC093);
        machine.Apply();
        Assert.Equal(3, machine.RunToStub());
        Assert.Equal(TestMachine.PageTables, r.Gpr[1]);
        for (int time = 0; time < 2; time++)
        {
            machine.Assemble(TestMachine.Code, 64, a =>
            {
                a.push(stack);
                a.push((int)TestMachine.UserStack);
                a.push((int)Rflags.AlwaysOne);
                a.push(code);
                a.push((int)User);
                a.iretq();
            });
            r.Rip = TestMachine.Code;
            r.Gpr[1] = 0;
            r.Gpr[4] = TestMachine.KernelStack;
            r.Segments[1] = new SegmentRegister(TestMachine.KernelCode, 0, uint.MaxValue, 0xA09B);
            r.Segments[2] = new SegmentRegister(TestMachine.KernelData, 0, uint.MaxValue, 0xC093);
            machine.Apply();
            Assert.Equal(13, machine.RunToStub());
            Assert.Equal(User, machine.Frame(1));
            Assert.Equal(code, machine.Frame(2));
            Assert.Equal(0UL, r.Gpr[1]);
        }
    }

    [Theory]
    [InlineData(0, 0, true, true)]
    [InlineData(1, 0, false, false)]
    [InlineData(1, 1, true, false)]
    [InlineData(2, 1, false, false)]
    [InlineData(2, 2, true, false)]
    [InlineData(2, 3, true, false)]
    [InlineData(3, 2, false, false)]
    [InlineData(3, 3, true, false)]
    public void PopfChangesIfUpToIoplAndIoplAtLevelZero(int level, int iopl, bool changesInterrupt, bool changesIopl)
    {
        ulong current = (ulong)iopl << Rflags.IoplShift;
        ulong other = (ulong)(iopl ^ 3) << Rflags.IoplShift;
        using TestMachine machine = At(level, current);
        machine.Write(TestMachine.UserStack, Rflags.AlwaysOne | Rflags.Interrupt | other);
        machine.Apply();
        machine.Memory.TryWrite(User, [0x9D, 0x0F, 0x0B]); // popfq; ud2
        Assert.Equal(6, machine.RunToStub());
        ulong flags = machine.Frame(2);
        Assert.Equal(changesInterrupt, (flags & Rflags.Interrupt) != 0);
        Assert.Equal(changesIopl ? other : current, flags & Rflags.Iopl);
    }

    /// <summary>STI, CLI, IN and OUT: IOPL says from which level on.</summary>
    [Theory]
    [InlineData(1, 0, false)]
    [InlineData(1, 1, true)]
    [InlineData(2, 1, false)]
    [InlineData(2, 2, true)]
    [InlineData(3, 2, false)]
    [InlineData(3, 3, true)]
    public void InstructionsOfIoplAskForIt(int level, int iopl, bool allowed)
    {
        foreach (byte[] code in (byte[][])[[0xFA], [0xFB], [0xE4, 0x80], [0xE6, 0x80], [0xEE]])
        {
            using TestMachine machine = At(level, (ulong)iopl << Rflags.IoplShift);
            machine.Apply();
            machine.Memory.TryWrite(User, [.. code, 0x90, 0x0F, 0x0B]);
            Assert.Equal(allowed ? 6 : 13, machine.RunToStub());
            Assert.Equal(allowed && code[0] == 0xFB, (machine.Frame(allowed ? 2 : 3) & Rflags.Interrupt) != 0);
        }
    }

    /// <summary>CR4 leaves these to every level where its bit says so.</summary>
    [Theory]
    [InlineData(new byte[] { 0x0F, 0x31 }, Cr4.TimeStampDisable, 0UL)] // rdtsc
    [InlineData(new byte[] { 0x0F, 0x01, 0xF9 }, Cr4.TimeStampDisable, 0UL)] // rdtscp
    [InlineData(new byte[] { 0x0F, 0x33 }, 0UL, Cr4.PerformanceCounterEnable)] // rdpmc
    [InlineData(new byte[] { 0x0F, 0x01, 0x03 }, Cr4.UserModeInstructionPrevention, 0UL)] // sgdt [rbx]
    [InlineData(new byte[] { 0x0F, 0x01, 0x0B }, Cr4.UserModeInstructionPrevention, 0UL)] // sidt [rbx]
    [InlineData(new byte[] { 0x0F, 0x00, 0x03 }, Cr4.UserModeInstructionPrevention, 0UL)] // sldt [rbx]
    [InlineData(new byte[] { 0x0F, 0x00, 0xC8 }, Cr4.UserModeInstructionPrevention, 0UL)] // str eax
    [InlineData(new byte[] { 0x0F, 0x01, 0xE0 }, Cr4.UserModeInstructionPrevention, 0UL)] // smsw eax
    [InlineData(new byte[] { 0xF3, 0x48, 0x0F, 0xAE, 0xC0 }, 0UL, Cr4.FsGsBase)] // rdfsbase rax
    public void Cr4OpensInstructionsToEveryLevel(byte[] code, ulong cleared, ulong set)
    {
        foreach (int level in (int[])[0, 1, 2, 3])
        {
            using TestMachine machine = At(level);
            machine.Registers.Cr4 = (machine.Registers.Cr4 & ~cleared) | set;
            machine.Registers.Gpr[1] = 3;
            machine.Apply();
            machine.Memory.TryWrite(User, [.. code, 0x0F, 0x0B]);
            Assert.Equal(6, machine.RunToStub());
            Assert.Equal(User + (ulong)code.Length, machine.Frame(0));
        }
    }

    /// <summary>At level 0 none of CR4's bits is in the way.</summary>
    [Theory]
    [InlineData(new byte[] { 0x0F, 0x31 })] // rdtsc
    [InlineData(new byte[] { 0x0F, 0x33 })] // rdpmc
    [InlineData(new byte[] { 0x0F, 0x01, 0x03 })] // sgdt [rbx]
    [InlineData(new byte[] { 0x0F, 0x00, 0x03 })] // sldt [rbx]
    [InlineData(new byte[] { 0x0F, 0x01, 0xE0 })] // smsw eax
    [InlineData(new byte[] { 0xF3, 0x0F, 0x09 })] // wbnoinvd
    public void LevelZeroNeedsNoLeave(byte[] code)
    {
        using TestMachine machine = At(0);
        machine.Registers.Gpr[1] = 3;
        machine.Apply();
        machine.Memory.TryWrite(User, [.. code, 0x0F, 0x0B]);
        Assert.Equal(6, machine.RunToStub());
        Assert.Equal(User + (ulong)code.Length, machine.Frame(0));
    }

    /// <summary>In virtual-8086 mode SGDT, SIDT and SMSW fault, too; SLDT and STR are invalid there whatever CR4 says.</summary>
    [Theory]
    [InlineData(new byte[] { 0x0F, 0x01, 0x06, 0x00, 0x10 }, true, 13)] // sgdt [1000h]
    [InlineData(new byte[] { 0x0F, 0x01, 0x06, 0x00, 0x10 }, false, 3)]
    [InlineData(new byte[] { 0x0F, 0x01, 0xE0 }, true, 13)] // smsw ax
    [InlineData(new byte[] { 0x0F, 0x01, 0xE0 }, false, 3)]
    [InlineData(new byte[] { 0x0F, 0x00, 0xC0 }, true, 6)] // sldt ax
    [InlineData(new byte[] { 0x0F, 0x00, 0xC0 }, false, 6)]
    public void Virtual8086ModeIsUserMode(byte[] code, bool prevented, int vector)
    {
        using TestMachine machine = TestMachine.Protected();
        machine.SetGate(3, 0xEE);
        ProcessorRegisters r = machine.Registers;
        r.Cr4 |= prevented ? Cr4.UserModeInstructionPrevention : 0;
        r.Rflags = Rflags.AlwaysOne | Rflags.Virtual8086 | Rflags.Iopl;
        foreach (int i in (int[])[0, 1, 2, 3, 4, 5])
        {
            r.Segments[i] = new SegmentRegister(0, 0, 0xFFFF, 0xF3);
        }

        r.Rip = User;
        r.Gpr[4] = 0x7000;
        machine.Apply();
        machine.Memory.TryWrite(User, [.. code, 0xCC]);
        Assert.Equal(vector, machine.RunToStub());
    }
}
