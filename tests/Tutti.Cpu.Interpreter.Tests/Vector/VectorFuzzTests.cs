using Iced.Intel;

namespace Tutti.Cpu.Interpreter.Tests.Vector;

/// <summary>Whatever state a guest loads and whatever it runs then: the host neither traps nor keeps any of it.</summary>
public sealed unsafe class VectorFuzzTests
{
    private static readonly Code[] Codes = [.. Forms.All()];

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void RandomStatesAndSequencesNeverTrapOnTheHost(int seed)
    {
        using var cpu = new BareCpu();
        var random = new Random(seed);
        Op* op = stackalloc Op[2];
        var vectors = new HashSet<int>();
        for (int i = 0; i < 30_000; i++)
        {
            if (i % 8 == 0)
            {
                Values.Fill(cpu, random);
                LoadRandomState(cpu, random);
            }

            // The operand base may have been overwritten.
            cpu.State->Gpr[3] = (ulong)cpu.Memory + Values.WindowStart;
            cpu.State->Gpr[7] = (ulong)cpu.Memory + Values.WindowStart + 256;
            Code code = Codes[random.Next(Codes.Length)];
            if (Forms.TryMake(code, random.Next(2) == 0, random, out Instruction instruction)
                && cpu.TryTranslate(BareCpu.Decode(instruction), op)
                && !instruction.Code.ToString().StartsWith("Cl", StringComparison.Ordinal))
            {
                vectors.Add(cpu.Run(op));
            }
        }

        Assert.Equal(0.1 + 0.2, Sum(0.1, 0.2));
        Assert.Superset(new HashSet<int> { -1, 16, 19 }, vectors);
        Assert.Subset(new HashSet<int> { -1, 16, 19 }, vectors);
    }

    [Theory]
    [InlineData(16)]
    [InlineData(32)]
    [InlineData(64)]
    public void RandomBytesTranslateInEveryMode(int bitness)
    {
        var random = new Random(bitness);
        byte[] bytes = new byte[15];
        byte[][] starts = [[0x0F], [0x66, 0x0F], [0xF3, 0x0F], [0xF2, 0x0F], [0x66, 0x0F, 0x38], [0x0F, 0x38], [0x66, 0x0F, 0x3A], [0xC4], [0xC5], [0xD9], [0xDB], [0xDD], [0xDF], [0x64, 0xDA], [0x67, 0xF3, 0xD8], [0xF0, 0x0F]];
        Op* op = stackalloc Op[1];
        int offered = 0;
        for (int i = 0; i < 60_000; i++)
        {
            random.NextBytes(bytes);
            starts[random.Next(starts.Length)].CopyTo(bytes, 0);
            Decoder decoder = Decoder.Create(bitness, bytes);
            decoder.IP = bitness == 64 ? 0xFFFF_8000_0000_1000 : 0x1000u;
            Instruction instruction = decoder.Decode();
            uint mode = bitness switch { 16 => CodeMode.Bits16, 32 => CodeMode.Bits32 | CodeMode.Protected, _ => CodeMode.Bits64 | CodeMode.Protected | CodeMode.LongMode };
            var context = new TranslationContext { Mode = mode, BlockRip = decoder.IP - (uint)instruction.Length };
            *op = default;
            op->Length = (byte)instruction.Length;
            op->Count = 1;
            if (!instruction.IsInvalid && VectorTranslator.TryTranslate(instruction, op, ref context))
            {
                offered++;
                Assert.True(op->Handler != null);
            }
        }

        Assert.InRange(offered, 10_000, 60_000);
    }

    [Fact]
    public void EveryThunkThatThereCanBeFitsTheMapping()
    {
        using var cpu = new BareCpu();
        Op* op = stackalloc Op[1];
        foreach (Code code in Codes)
        {
            if (!Forms.TryMake(code, false, new Random(1), out Instruction instruction)
                && !Forms.TryMake(code, true, new Random(1), out instruction))
            {
                continue;
            }

            OpCodeInfo info = code.ToOpCode();
            bool immediate = info.OpCount > 0 && info.GetOpKind(info.OpCount - 1) == OpCodeOperandKind.imm8;
            for (int value = 0; value < (immediate ? 256 : 1); value++)
            {
                instruction.Immediate8 = (byte)value;
                Assert.True(cpu.TryTranslate(instruction, op), instruction.ToString());
            }
        }
    }

    private static double Sum(double left, double right) => left + right;

    private static void LoadRandomState(BareCpu cpu, Random random)
    {
        cpu.State->Gpr[3] = (ulong)cpu.Memory + 4096;
        byte* image = cpu.Memory + 4096;
        random.NextBytes(new Span<byte>(image, 576));
        *(uint*)(image + 24) = (uint)random.Next(0x10000);
        if (random.Next(2) == 0)
        {
            // ES without a reason, or a reason without ES.
            *(ushort*)image = (ushort)(random.Next(2) == 0 ? 0x37F : 0x340);
            *(ushort*)(image + 2) = (ushort)(random.Next(4) switch { 0 => 0x8080, 1 => 0x0001, 2 => 0, _ => random.Next() });
        }

        Assert.Equal(-1, cpu.Run(Instruction.Create(Code.Fxrstor64_m512byte, new MemoryOperand(Register.RBX))));
    }
}
