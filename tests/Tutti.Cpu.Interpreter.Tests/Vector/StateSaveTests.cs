using Iced.Intel;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.Vector;

/// <summary>FXSAVE, XSAVE and their restores; the x87 environment in its formats; the pointers to the last instruction.</summary>
public sealed unsafe class StateSaveTests
{
    private static readonly MemoryOperand Area = new(Register.RBX);
    private static readonly MemoryOperand Source = new(Register.RBX, 1024);

    [Theory]
    [InlineData(Code.Fnstenv_m28byte, 28)]
    [InlineData(Code.Fnsave_m108byte, 108)]
    [InlineData(Code.Fnstenv_m14byte, 14)]
    [InlineData(Code.Fnsave_m94byte, 94)]
    public void EnvironmentMatchesTheHostsButForPointers(Code code, int size)
    {
        using var ours = NewCpu();
        using var host = NewCpu();
        Instruction store = BareCpu.Decode(Instruction.Create(code, Area));
        using var native = new NativeRun(store);
        var random = new Random(size);
        for (int i = 0; i < 1000; i++)
        {
            Values.Fill(ours, random);
            ours.State->Gpr[3] = (ulong)ours.Memory;
            new ReadOnlySpan<byte>(ours.State->FxArea, 512).CopyTo(new Span<byte>(host.State->FxArea, 512));
            new Span<byte>(ours.Memory, 128).Fill(0xA5);
            new Span<byte>(host.Memory, 128).Fill(0xA5);
            Assert.Equal(-1, ours.Run(store));
            native.Run(host.State);
            int pointers = size is 28 or 108 ? 12 : 6;
            int pointersEnd = size is 28 or 108 ? 28 : 14;
            for (int at = 0; at < 128; at++)
            {
                Assert.True(ours.Memory[at] == host.Memory[at] || (at >= pointers && at < pointersEnd), $"case {i}, byte {at}");
            }

            Assert.Equal(*(ulong*)host.State->FxArea & 0xFF_FFFF_FFFF, *(ulong*)ours.State->FxArea & 0xFF_FFFF_FFFF);
            Assert.True(new ReadOnlySpan<byte>(host.State->FxArea + 32, 128).SequenceEqual(new ReadOnlySpan<byte>(ours.State->FxArea + 32, 128)));
        }
    }

    [Theory]
    [InlineData(Code.Fldenv_m28byte)]
    [InlineData(Code.Fldenv_m14byte)]
    [InlineData(Code.Frstor_m108byte)]
    [InlineData(Code.Frstor_m94byte)]
    public void LoadingAnEnvironmentMatchesTheHost(Code code)
    {
        using var ours = NewCpu();
        using var host = NewCpu();
        Instruction load = BareCpu.Decode(Instruction.Create(code, Area));
        using var native = new NativeRun(load);
        var random = new Random((int)code);
        for (int i = 0; i < 1000; i++)
        {
            Values.Fill(ours, random);
            ours.State->Gpr[3] = (ulong)ours.Memory;
            random.NextBytes(new Span<byte>(ours.Memory, 128));
            new ReadOnlySpan<byte>(ours.State->FxArea, 512).CopyTo(new Span<byte>(host.State->FxArea, 512));
            new ReadOnlySpan<byte>(ours.Memory, 128).CopyTo(new Span<byte>(host.Memory, 128));
            Assert.Equal(-1, ours.Run(load));
            native.Run(host.State);
            Assert.Equal(*(ulong*)host.State->FxArea & 0xFF_FFFF_FFFF, *(ulong*)ours.State->FxArea & 0xFF_FFFF_FFFF);
            Assert.True(new ReadOnlySpan<byte>(host.State->FxArea + 32, 384).SequenceEqual(new ReadOnlySpan<byte>(ours.State->FxArea + 32, 384)));
        }
    }

    [Fact]
    public void LastInstructionAndOperandAreTheGuests()
    {
        using var cpu = NewCpu();
        *(double*)(cpu.Memory + 1024) = 1.5;
        Assert.Equal(-1, cpu.Run(Instruction.Create(Code.Fld_m64fp, Source)));
        Assert.Equal(0x1000UL, *(ulong*)(cpu.State->FxArea + 8));
        Assert.Equal((ulong)cpu.Memory + 1024, *(ulong*)(cpu.State->FxArea + 16));
        Assert.Equal(0x583, *(ushort*)(cpu.State->FxArea + 6));

        // Control instructions leave them alone.
        Assert.Equal(-1, cpu.Run(Instruction.Create(Code.Fnstcw_m2byte, Area)));
        Assert.Equal(-1, cpu.Run(Instruction.Create(Code.Fldcw_m2byte, Area)));
        Assert.Equal(-1, cpu.Run(Instruction.Create(Code.Fnclex)));
        Assert.Equal((ulong)cpu.Memory + 1024, *(ulong*)(cpu.State->FxArea + 16));
        Assert.Equal(-1, cpu.Run(Instruction.Create(Code.Fninit)));
        Assert.Equal(0UL, *(ulong*)(cpu.State->FxArea + 8));
        Assert.Equal(0UL, *(ulong*)(cpu.State->FxArea + 16));
    }

    [Theory]
    [InlineData(false, false)]
    [InlineData(false, true)]
    [InlineData(true, false)]
    [InlineData(true, true)]
    public void PointersSurviveEnvironmentRoundTripsOutside64BitMode(bool real, bool wide)
    {
        using var cpu = NewCpu();
        uint mode = (wide ? CodeMode.Bits32 : CodeMode.Bits16) | (real ? 0 : CodeMode.Protected);
        X87Ops.SetPointers(cpu.State, 0x123, 0x2345 | (0x1230UL << 32), 0x6789 | (0x0ABCUL << 32));
        Code store = wide ? Code.Fnstenv_m28byte : Code.Fnstenv_m14byte;
        Code load = wide ? Code.Fldenv_m28byte : Code.Fldenv_m14byte;
        Assert.Equal(-1, RunIn(cpu, mode, store));
        if (real)
        {
            // 20-bit linear addresses: 1230:2345 is 14645, 0ABC:6789 is 11349 (hexadecimal).
            int step = wide ? 4 : 2;
            Assert.Equal(0x4645, *(ushort*)(cpu.Memory + (3 * step)));
            Assert.Equal(0x1123, *(ushort*)(cpu.Memory + (4 * step)));
            Assert.Equal(0x1349, *(ushort*)(cpu.Memory + (5 * step)));
            return;
        }

        X87Ops.SetPointers(cpu.State, 0, 0, 0);
        Assert.Equal(-1, RunIn(cpu, mode, load));
        Assert.Equal(wide ? 0x123 : 0, *(ushort*)(cpu.State->FxArea + 6));
        Assert.Equal(0x2345 | (0x1230UL << 32), *(ulong*)(cpu.State->FxArea + 8));
        Assert.Equal(0x6789 | (0x0ABCUL << 32), *(ulong*)(cpu.State->FxArea + 16));
    }

    [Fact]
    public void UnmaskedExceptionKeepsAStoreFromHappening()
    {
        using var cpu = NewCpu();
        cpu.X87Control = 0x37E;
        new Span<byte>(cpu.Memory, 16).Fill(0xA5);

        // The stack is empty: invalid, unmasked.
        Assert.Equal(-1, cpu.Run(Instruction.Create(Code.Fstp_m64fp, Area)));
        Assert.Equal(0xA5A5_A5A5_A5A5_A5A5, *(ulong*)cpu.Memory);
        Assert.Equal(0x8081, cpu.X87Status & 0x8081);
        Assert.Equal(ExceptionVector.FloatingPoint, cpu.Run(Instruction.Create(Code.Fld1)));
        Assert.Equal(-1, cpu.Run(Instruction.Create(Code.Fnclex)));
        Assert.Equal(-1, cpu.Run(Instruction.Create(Code.Fld1)));
        Assert.Equal(-1, cpu.Run(Instruction.Create(Code.Fstp_m64fp, Area)));
        Assert.Equal(1.0, *(double*)cpu.Memory);
    }

    [Theory]
    [InlineData(Code.Fxsave64_m512byte, Code.Fxrstor64_m512byte)]
    [InlineData(Code.Xsave64_mem, Code.Xrstor64_mem)]
    [InlineData(Code.Xsaveopt64_mem, Code.Xrstor64_mem)]
    public void SavedStateComesBack(Code save, Code restore)
    {
        using var cpu = NewCpu();
        using var other = NewCpu();
        var random = new Random(5);
        for (int i = 0; i < 200; i++)
        {
            Values.Fill(cpu, random);
            cpu.Run(Instruction.Create(Code.Fnclex));
            cpu.State->Gpr[3] = (ulong)cpu.Memory;
            cpu.State->Gpr[0] = ulong.MaxValue;
            cpu.State->Gpr[2] = ulong.MaxValue;
            new Span<byte>(cpu.Memory, 1024).Clear();
            byte[] before = new ReadOnlySpan<byte>(cpu.State->FxArea, 416).ToArray();
            Assert.Equal(-1, cpu.Run(Instruction.Create(save, Area)));
            Assert.Equal(0xFFFFu, *(uint*)(cpu.Memory + 28));
            Values.Fill(cpu, random);
            cpu.State->Gpr[3] = (ulong)cpu.Memory;
            cpu.State->Gpr[0] = ulong.MaxValue;
            cpu.State->Gpr[2] = ulong.MaxValue;
            Assert.Equal(-1, cpu.Run(Instruction.Create(restore, Area)));
            *(uint*)(cpu.State->FxArea + 28) = 0;
            before.AsSpan(28, 4).Clear();
            Assert.Equal(before, new ReadOnlySpan<byte>(cpu.State->FxArea, 416).ToArray());
        }
    }

    [Fact]
    public void XsaveTouchesOnlyWhatIsAskedFor()
    {
        using var cpu = NewCpu();
        Values.Fill(cpu, new Random(6));
        cpu.State->Gpr[3] = (ulong)cpu.Memory;
        cpu.State->Gpr[2] = 0;
        for (ulong mask = 0; mask < 8; mask++)
        {
            new Span<byte>(cpu.Memory, 512).Fill(0xA5);
            new Span<byte>(cpu.Memory + 512, 64).Clear();
            *(ulong*)(cpu.Memory + 512) = 1;
            cpu.State->Gpr[0] = mask;
            Assert.Equal(-1, cpu.Run(Instruction.Create(Code.Xsave64_mem, Area)));
            Assert.Equal((mask & 3) | 1, *(ulong*)(cpu.Memory + 512));
            Assert.Equal((mask & 1) == 0, *(ushort*)cpu.Memory == 0xA5A5);
            Assert.Equal((mask & 2) == 0, *(uint*)(cpu.Memory + 24) == 0xA5A5_A5A5);
            Assert.True(new ReadOnlySpan<byte>(cpu.Memory + 416, 96).IndexOfAnyExcept((byte)0xA5) < 0);
        }
    }

    [Fact]
    public void XrstorInitializesWhatTheImageLacks()
    {
        using var cpu = NewCpu();
        Values.Fill(cpu, new Random(7));
        cpu.State->Gpr[3] = (ulong)cpu.Memory;
        cpu.State->Gpr[0] = 3;
        cpu.State->Gpr[2] = 0;
        new Span<byte>(cpu.Memory, 576).Clear();
        *(uint*)(cpu.Memory + 24) = 0x1FA0;
        Assert.Equal(-1, cpu.Run(Instruction.Create(Code.Xrstor64_mem, Area)));
        Assert.Equal(0x37F, cpu.X87Control);
        Assert.Equal(0, cpu.X87Status);
        Assert.Equal(0, cpu.State->FxArea[4]);
        Assert.Equal(0x1FA0u, cpu.Mxcsr);
        Assert.True(new ReadOnlySpan<byte>(cpu.State->FxArea + 32, 384).IndexOfAnyExcept((byte)0) < 0);
    }

    [Fact]
    public void BadImagesAreRefusedAndChangeNothing()
    {
        using var cpu = NewCpu();
        cpu.State->Gpr[0] = 3;
        *cpu.Xmm(3) = 42;
        Instruction xrstor = Instruction.Create(Code.Xrstor64_mem, Area);
        foreach ((int at, byte value) in ((int, byte)[])[(512, 4), (519, 0x80), (520, 1), (528, 1), (26, 1)])
        {
            new Span<byte>(cpu.Memory, 576).Clear();
            cpu.Memory[at] = value;
            Assert.Equal(ExceptionVector.GeneralProtection, cpu.Run(xrstor));
        }

        Assert.Equal(ExceptionVector.GeneralProtection, cpu.Run(Instruction.Create(Code.Fxrstor64_m512byte, Area)));
        Assert.Equal(ExceptionVector.GeneralProtection, cpu.Run(Instruction.Create(Code.Fxrstor64_m512byte, new MemoryOperand(Register.RBX, 8))));
        Assert.Equal(ExceptionVector.GeneralProtection, cpu.Run(Instruction.Create(Code.Fxsave64_m512byte, new MemoryOperand(Register.RBX, 8))));
        Assert.Equal(ExceptionVector.GeneralProtection, cpu.Run(Instruction.Create(Code.Xsave64_mem, new MemoryOperand(Register.RBX, 16))));
        Assert.Equal((UInt128)42, *cpu.Xmm(3));
        cpu.State->Cr4 &= ~Cr4.OsXsave;
        Assert.Equal(ExceptionVector.InvalidOpcode, cpu.Run(xrstor));
    }

    private static int RunIn(BareCpu cpu, uint mode, Code code)
    {
        // Translated for the mode, run with 64-bit addressing so that the host's memory can be reached.
        Instruction instruction = BareCpu.Decode(Instruction.Create(code, Area));
        uint was = cpu.State->Mode;
        Op* op = stackalloc Op[2];
        cpu.State->Mode = mode;
        Assert.True(cpu.TryTranslate(instruction, op));
        cpu.State->Mode = was;
        op->AddressSize = 8;
        return cpu.Run(op);
    }

    private static BareCpu NewCpu()
    {
        var cpu = new BareCpu();
        cpu.State->Gpr[3] = (ulong)cpu.Memory;
        return cpu;
    }
}
