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
