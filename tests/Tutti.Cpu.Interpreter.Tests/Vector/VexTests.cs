using Iced.Intel;
using Tutti.Cpu.Interpreter.Tests.Oracle;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.Vector;

/// <summary>When VEX instructions are there, which bytes are none, and what of the upper halves lives how long.</summary>
[Collection(nameof(HostProcessorTests))]
public sealed unsafe class VexTests
{
    private const int InvalidOpcode = ExceptionVector.InvalidOpcode;
    private const int NoDevice = ExceptionVector.DeviceNotAvailable;
    private static readonly MemoryOperand Operand = new(Register.RBX, 64);

    private static Instruction Example(string kind) => kind switch
    {
        "vaddps" => Instruction.Create(Code.VEX_Vaddps_ymm_ymm_ymmm256, Register.YMM1, Register.YMM2, Register.YMM3),
        "vpaddd m" => Instruction.Create(Code.VEX_Vpaddd_xmm_xmm_xmmm128, Register.XMM1, Register.XMM2, Operand),
        "load" => Instruction.Create(Code.VEX_Vmovdqu_ymm_ymmm256, Register.YMM1, Operand),
        "store" => Instruction.Create(Code.VEX_Vmovdqu_ymmm256_ymm, Operand, Register.YMM1),
        "copy" => Instruction.Create(Code.VEX_Vmovdqa_ymm_ymmm256, Register.YMM1, Register.YMM2),
        "vptest" => Instruction.Create(Code.VEX_Vptest_ymm_ymmm256, Register.YMM1, Register.YMM2),
        "vpmovmskb" => Instruction.Create(Code.VEX_Vpmovmskb_r32_ymm, Register.EAX, Register.YMM2),
        "vzeroupper" => Instruction.Create(Code.VEX_Vzeroupper),
        "vzeroall" => Instruction.Create(Code.VEX_Vzeroall),
        "vldmxcsr" => Instruction.Create(Code.VEX_Vldmxcsr_m32, new MemoryOperand(Register.RBX, 128)),
        "vstmxcsr" => Instruction.Create(Code.VEX_Vstmxcsr_m32, Operand),
        "vmaskmovps" => Instruction.Create(Code.VEX_Vmaskmovps_ymm_ymm_m256, Register.YMM1, Register.YMM2, Operand),
        "vpmaskmovq" => Instruction.Create(Code.VEX_Vpmaskmovq_m256_ymm_ymm, Operand, Register.YMM2, Register.YMM1),
        "vpgatherdd" => Instruction.Create(
            Code.VEX_Vpgatherdd_ymm_vm32y_ymm, Register.YMM1, new MemoryOperand(Register.RBX, Register.YMM4, 1, 64, 1), Register.YMM3),
        _ => throw new ArgumentException(kind),
    };

    [AvxTheory]
    [InlineData("vaddps")]
    [InlineData("vpaddd m")]
    [InlineData("load")]
    [InlineData("store")]
    [InlineData("copy")]
    [InlineData("vptest")]
    [InlineData("vpmovmskb")]
    [InlineData("vzeroupper")]
    [InlineData("vzeroall")]
    [InlineData("vldmxcsr")]
    [InlineData("vstmxcsr")]
    [InlineData("vmaskmovps")]
    [InlineData("vpmaskmovq")]
    [InlineData("vpgatherdd")]
    public void ControlRegistersDecideWhetherItIsThere(string kind)
    {
        Assert.Equal(-1, FaultOf(kind, _ => { }));
        Assert.Equal(InvalidOpcode, FaultOf(kind, cpu => cpu.State->Cr4 &= ~Cr4.OsXsave));
        Assert.Equal(InvalidOpcode, FaultOf(kind, cpu => cpu.State->Xcr0 = 3));
        Assert.Equal(InvalidOpcode, FaultOf(kind, cpu => cpu.State->Xcr0 = 1));
        Assert.Equal(NoDevice, FaultOf(kind, cpu => cpu.State->FpuTraps = FpuTrap.TaskSwitched));
        Assert.Equal(InvalidOpcode, FaultOf(kind, cpu => (cpu.State->FpuTraps, cpu.State->Xcr0) = (FpuTrap.TaskSwitched, 3)));

        // Those are for legacy SSE and x87.
        Assert.Equal(-1, FaultOf(kind, cpu => cpu.State->FpuTraps = FpuTrap.Emulation | FpuTrap.NoOsFxsr));
        Assert.Equal(-1, FaultOf(kind, cpu => (cpu.X87Control, cpu.X87Status) = (0x37E, 0x8081)));
    }

    [AvxTheory]
    [InlineData("F0C5F058C2")] // LOCK
    [InlineData("66C5F058C2")]
    [InlineData("F2C5F058C2")]
    [InlineData("F3C5F058C2")]
    [InlineData("48C5F058C2")] // REX
    [InlineData("C5E828C1")] // VMOVAPS with a third register
    [InlineData("C5E877")] // VZEROUPPER with one
    [InlineData("C5F85000")] // VMOVMSKPS of memory
    [InlineData("C4E37D20C000")] // VPINSRB of 256 bits
    [InlineData("C4E275904C4308")] // VPGATHERDD with its mask as destination
    [InlineData("C4E26D904C4B08")] // VPGATHERDD with its index as destination
    [InlineData("C4E27590 4C5308")] // VPGATHERDD with its index as mask
    [InlineData("C4E2759003")] // VPGATHERDD without an index
    public void BytesThatAreNoInstructionAreInvalid(string bytes)
    {
        using BareCpu cpu = NewCpu();
        Op* op = stackalloc Op[2];
        cpu.TryTranslate(Decoder.Create(64, Convert.FromHexString(bytes.Replace(" ", "", StringComparison.Ordinal))).Decode(), op);
        Assert.Equal(InvalidOpcode, cpu.Run(op));
    }

    [AvxFact]
    public void VexNeedsProtectedMode()
    {
        using BareCpu cpu = NewCpu();
        Op* op = stackalloc Op[2];
        Instruction add = BareCpu.Decode(Example("vaddps"));
        foreach ((uint mode, bool offered) in ((uint, bool)[])
            [(CodeMode.Bits32 | CodeMode.Protected, true), (CodeMode.Bits16 | CodeMode.Protected, true), (CodeMode.Bits16, false),
                (CodeMode.Bits16 | CodeMode.Protected | CodeMode.Virtual8086, false)])
        {
            cpu.State->Mode = mode;
            Assert.Equal(offered, cpu.TryTranslate(add, op));
        }
    }

    [AvxFact]
    public void OnlyAlignedMovesWantAlignment()
    {
        using BareCpu cpu = NewCpu();
        foreach ((Code code, Register register, int boundary) in ((Code, Register, int)[])
            [(Code.VEX_Vmovaps_xmm_xmmm128, Register.XMM1, 16), (Code.VEX_Vmovdqa_ymm_ymmm256, Register.YMM1, 32),
                (Code.VEX_Vmovntdqa_ymm_m256, Register.YMM1, 32), (Code.VEX_Vmovups_ymm_ymmm256, Register.YMM1, 1),
                (Code.VEX_Vlddqu_ymm_m256, Register.YMM1, 1), (Code.VEX_Vpabsb_ymm_ymmm256, Register.YMM1, 1)])
        {
            for (int offset = 0; offset < 32; offset++)
            {
                int expected = offset % boundary == 0 ? -1 : ExceptionVector.GeneralProtection;
                Assert.Equal(expected, cpu.Run(Instruction.Create(code, register, new MemoryOperand(Register.RBX, offset))));
            }
        }

        Assert.Equal(ExceptionVector.GeneralProtection, cpu.Run(Instruction.Create(Code.VEX_Vmovntps_m256_ymm, new MemoryOperand(Register.RBX, 16), Register.YMM1)));
        Assert.Equal(-1, cpu.Run(Instruction.Create(Code.VEX_Vmovntps_m256_ymm, Operand, Register.YMM1)));
    }

    /// <summary>Outside 64-bit mode the upper eight registers are out of reach, also of what clears all.</summary>
    [AvxTheory]
    [InlineData(CodeMode.Bits64, 16)]
    [InlineData(CodeMode.Bits32, 8)]
    public void ClearingReachesTheRegistersThatTheModeHas(uint bits, int cleared)
    {
        using BareCpu cpu = NewCpu();
        cpu.State->Mode = bits | CodeMode.Protected | CodeMode.LongMode;
        new Span<byte>(cpu.State->YmmHigh, 256).Fill(0xA5);
        new Span<byte>(CpuState.Xmm(cpu.State, 0), 256).Fill(0x5A);
        Assert.Equal(-1, cpu.Run(Example("vzeroupper")));
        for (int i = 0; i < 16; i++)
        {
            Assert.Equal(i >= cleared, *CpuState.YmmHighOf(cpu.State, i) == 0xA5);
            Assert.Equal(0x5A, *CpuState.Xmm(cpu.State, i));
        }

        Assert.Equal(-1, cpu.Run(Example("vzeroall")));
        for (int i = 0; i < 16; i++)
        {
            Assert.Equal(i >= cleared, *CpuState.Xmm(cpu.State, i) == 0x5A);
        }
    }

    [AvxFact]
    public void EveryThunkThatThereCanBeFitsTheMapping()
    {
        using BareCpu cpu = NewCpu();
        var encoder = new FormEncoder(new SeededRandom(77), 64);
        Op* op = stackalloc Op[1];
        int made = 0;
        foreach (Form form in FormTable.All(64).Where(form => form.Group == FormTable.Vector
            && form.Code.ToOpCode().Encoding == EncodingKind.VEX && Oracle.HostFeatures.Missing(form.Code) == null))
        {
            foreach (bool memory in (bool[])[false, true])
            {
                EncodedForm? encoded = Enumerable.Range(0, 30).Select(_ => encoder.Encode(form.Code)).FirstOrDefault(one => one?.Accesses == memory);
                Instruction instruction = encoded?.Instruction ?? default;
                bool immediate = encoded != null && instruction.GetOpKind(Math.Max(0, instruction.OpCount - 1)) == OpKind.Immediate8;
                for (int value = 0; encoded != null && value < (immediate ? 256 : 1); value++)
                {
                    instruction.Immediate8 = immediate ? (byte)value : (byte)0;
                    Assert.True(cpu.TryTranslate(instruction, op), instruction.ToString());
                    made++;
                }
            }
        }

        Assert.True(made > 20_000, $"{made}");
        Assert.InRange(NativeThunks.Used, 1 << 20, NativeThunks.Capacity * 2 / 3);
    }

    [AvxFact]
    public void RdpidGivesWhatRdtscpDoes()
    {
        using BareCpu cpu = NewCpu();
        cpu.State->TscAux = 0x8000_0007;
        cpu.State->Gpr[1] = ulong.MaxValue;
        Assert.Equal(-1, cpu.Run(Instruction.Create(Code.Rdpid_r64, Register.RCX)));
        Assert.Equal(0x8000_0007UL, cpu.State->Gpr[1]);
    }

    [AvxFact]
    public void RegistersCarryTheUpperHalves()
    {
        using var guest = new GuestRunner();
        var registers = new ProcessorRegisters();
        new Span<byte>(guest.State->YmmHigh, 256).Fill(0x77);
        guest.Processor.GetRegisters(registers);
        Assert.Equal((int)XsaveLayout.SizeOf(XsaveLayout.Supported), registers.ExtendedState!.Length);
        Assert.Equal(7, registers.ExtendedState[512]);
        new Span<byte>(guest.State->YmmHigh, 256).Fill(0x11);
        guest.Processor.SetRegisters(registers);
        Assert.True(new ReadOnlySpan<byte>(guest.State->YmmHigh, 256).IndexOfAnyExcept((byte)0x77) < 0);

        // What does not say that it has them gives their initial state.
        registers.ExtendedState[512] = 3;
        guest.Processor.SetRegisters(registers);
        Assert.True(new ReadOnlySpan<byte>(guest.State->YmmHigh, 256).IndexOfAnyExcept((byte)0) < 0);
        new Span<byte>(guest.State->YmmHigh, 256).Fill(0x11);
        registers.ExtendedState = null;
        guest.Processor.SetRegisters(registers);
        Assert.True(new ReadOnlySpan<byte>(guest.State->YmmHigh, 256).IndexOfAnyExcept((byte)0) < 0);
    }

    /// <summary>What the decoder calls no instruction is none to the host either; what it knows is compared elsewhere.</summary>
    [AvxFact]
    public void TheHostRejectsWhatTheDecoderRejects()
    {
        using var native = new NativeRunner();
        var random = new SeededRandom((ulong)ProcessorOracle.Seed);
        HashSet<string> accepted = [];
        int rejected = 0;
        byte[] bytes = new byte[15];
        NativeRunner.ThreadState thread = native.Enter();
        try
        {
            for (int i = 0; i < 20 * ProcessorOracle.Cases; i++)
            {
                MakeVex(random, bytes);
                if (!Decoder.Create(64, bytes).Decode().IsInvalid || IsPermutationWithoutWide(bytes))
                {
                    continue;
                }

                rejected++;
                bytes.CopyTo(NativeRunner.Code[(int)(ArenaLayout.Instruction - ArenaLayout.Code)..]);
                new Span<ulong>(NativeRunner.Record + RecordLayout.GprIn, 16).Fill(ArenaLayout.Data + 0x800);
                NativeRunner.Field(RecordLayout.FlagsIn) = Rflags.AlwaysOne | Rflags.Interrupt;
                NativeRunner.Field(RecordLayout.UseFx) = 0;
                NativeRunner.SetTarget(ArenaLayout.Instruction, 64);
                native.Run();
                if (NativeRunner.Field(RecordLayout.Landing) != RecordLayout.FaultLanding
                    || NativeRunner.Field(RecordLayout.FaultVector) != InvalidOpcode
                    || NativeRunner.Field(RecordLayout.FaultRip) != ArenaLayout.Instruction)
                {
                    accepted.Add(Convert.ToHexString(bytes, 0, 6));
                }
            }
        }
        finally
        {
            native.Leave(thread);
        }

        Assert.Empty(accepted);
        Assert.True(rejected > 5 * ProcessorOracle.Cases, $"{rejected}");
    }

    /// <summary>VPERMQ and VPERMPD with VEX.W clear: AMD's processors run them, where Intel's manual wants #UD.</summary>
    private static bool IsPermutationWithoutWide(byte[] bytes) => bytes[0] == 0xC4 && (bytes[1] & 0x1F) == 3 && (bytes[2] & 0x80) == 0 && bytes[3] <= 1;

    /// <summary>A VEX prefix of random fields, an opcode and a ModRM byte; UD2 behind them.</summary>
    private static void MakeVex(SeededRandom random, byte[] bytes)
    {
        for (int i = 0; i < bytes.Length; i += 2)
        {
            bytes[i] = 0x0F;
            bytes[Math.Min(i + 1, bytes.Length - 1)] = 0x0B;
        }

        int at = 0;
        if (random.Percent(40))
        {
            bytes[at++] = 0xC5;
        }
        else
        {
            bytes[at++] = 0xC4;
            bytes[at++] = (byte)((random.Next() & 0xE0) | (uint)random.Below(random.Percent(90) ? 4 : 32));
        }

        // Mostly without a third register, which most instructions reject.
        bytes[at++] = (byte)(random.Percent(60) ? random.Next() | 0x78 : random.Next());
        bytes[at++] = (byte)random.Next();
        bytes[at] = (byte)random.Next();
    }

    private static int FaultOf(string kind, Action<BareCpu> change)
    {
        using BareCpu cpu = NewCpu();
        change(cpu);
        return cpu.Run(Example(kind));
    }

    private static BareCpu NewCpu()
    {
        var cpu = new BareCpu();
        cpu.State->Xcr0 = XsaveLayout.Supported;
        cpu.State->Gpr[3] = (ulong)cpu.Memory;
        return cpu;
    }
}
