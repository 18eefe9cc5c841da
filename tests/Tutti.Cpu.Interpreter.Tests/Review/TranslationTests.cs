using Iced.Intel;

namespace Tutti.Cpu.Interpreter.Tests.Review;

/// <summary>Every opcode of every map, with every prefix that changes its meaning: translation answers, and throws at nothing.</summary>
public sealed unsafe class TranslationTests
{
    private const int OperandsEach = 16;

    private static readonly byte[][] Prefixes = [[], [0x66], [0xF2], [0xF3], [0xF0], [0x67], [0x48], [0x66, 0x4F], [0xF3, 0x67, 0x45], [0x2E, 0x66, 0xF2]];
    private static readonly byte[][] Maps = [[], [0x0F], [0x0F, 0x38], [0x0F, 0x3A], [0x0F, 0x0F]];

    [Theory]
    [InlineData(16)]
    [InlineData(32)]
    [InlineData(64)]
    public void EveryOpcodeTranslatesOrIsRefused(int bitness)
    {
        var random = new Random(bitness);
        foreach (byte[] prefix in Prefixes)
        {
            foreach (byte[] map in Maps)
            {
                for (int opcode = 0; opcode < 256; opcode++)
                {
                    Try(bitness, [.. prefix, .. map, (byte)opcode], random);
                }
            }
        }
    }

    [Theory]
    [InlineData(16)]
    [InlineData(32)]
    [InlineData(64)]
    public void EveryVectorOpcodeTranslatesOrIsRefused(int bitness)
    {
        var random = new Random(bitness);
        for (int opcode = 0; opcode < 256; opcode++)
        {
            for (int map = 0; map < 32; map++)
            {
                for (int rest = 0; rest < 8; rest++)
                {
                    byte inverted = (byte)(0xE0 | map);
                    byte fields = (byte)(((rest & 4) << 5) | (random.Next(32) << 2) | random.Next(4));
                    Try(bitness, [0xC4, inverted, fields, (byte)opcode], random);
                    Try(bitness, [0x8F, inverted, fields, (byte)opcode], random);
                    Try(bitness, [0x62, (byte)(0xF0 | (map & 7)), (byte)(fields | 4), (byte)random.Next(256), (byte)opcode], random);
                }
            }

            Try(bitness, [0xC5, (byte)random.Next(256), (byte)opcode], random);
        }
    }

    private static void Try(int bitness, byte[] start, Random random)
    {
        byte[] bytes = new byte[15];
        Op* ops = stackalloc Op[2];
        for (int i = 0; i < OperandsEach; i++)
        {
            random.NextBytes(bytes);
            start.CopyTo(bytes, 0);
            Decoder decoder = Decoder.Create(bitness, bytes);
            decoder.IP = bitness == 64 ? 0xFFFF_8000_0000_1000 : 0x1000u;
            Instruction instruction = decoder.Decode();
            uint mode = bitness switch
            {
                16 => CodeMode.Bits16,
                32 => CodeMode.Bits32 | CodeMode.Protected,
                _ => CodeMode.Bits64 | CodeMode.Protected | CodeMode.LongMode,
            };
            var context = new TranslationContext { Mode = mode, BlockRip = instruction.IP };
            ops[0] = default;
            ops[0].Length = (byte)instruction.Length;
            ops[0].Count = 1;
            try
            {
                InstructionTranslator.Translate(instruction, ops, ref context);
            }
            catch (Exception e)
            {
                Assert.Fail($"{bitness} bit, {Convert.ToHexString(bytes)}, {instruction}: {e}");
            }

            Assert.True(ops->Handler != null);
            Assert.True(ops->Segment <= 5, $"{Convert.ToHexString(bytes)} names segment {ops->Segment}");
        }
    }
}
