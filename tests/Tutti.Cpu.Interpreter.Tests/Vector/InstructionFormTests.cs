using System.Globalization;
using System.Text;
using Iced.Intel;

namespace Tutti.Cpu.Interpreter.Tests.Vector;

/// <summary>The table of instruction forms says what Iced says.</summary>
public sealed class InstructionFormTests
{
    private const string Switch = "TUTTI_WRITE_FORMS";
    private const int Columns = 8;

    [Fact]
    public void TableIsWhatIcedKnows()
    {
        ulong[] right = [.. Enum.GetValues<Code>().Order().Select(Pack)];
        if (Environment.GetEnvironmentVariable(Switch) is { } path)
        {
            File.WriteAllText(path, Source(right));
        }

        Assert.Equal(Enumerable.Range(0, right.Length), Enum.GetValues<Code>().Order().Select(code => (int)code));
        for (int code = 0; code < right.Length; code++)
        {
            Assert.True(
                right[code] == InstructionForm.Of((Code)code).Bits,
                $"{(Code)code} is {InstructionForm.Of((Code)code).Bits:x} in the table and {right[code]:x} in Iced: run this test with {Switch}=src/Tutti.Cpu.Software/Decoding/InstructionForm.Table.cs.");
        }
    }

    [Fact]
    public void OperandsAreReadBackAsTheyAre()
    {
        foreach (Code code in Enum.GetValues<Code>().Where(code => code.Encoding() is EncodingKind.Legacy or EncodingKind.VEX))
        {
            OpCodeInfo info = code.ToOpCode();
            InstructionForm form = InstructionForm.Of(code);
            Assert.Equal(info.OpCount, form.OperandCount);
            InstructionInfo access = new InstructionInfoFactory().GetInfo(Sample(code));
            for (int i = 0; i < info.OpCount; i++)
            {
                Assert.Equal((info.GetOpKind(i), access.GetOpAccess(i)), (form.KindOf(i), form.AccessOf(i)));
            }
        }
    }

    [Fact]
    public void ThunkThatIsMadeOfBytesIsTheOneThatTheEncoderMakes() => Assert.Equal(
        NativeThunks.Encode(ThunkBuilder.BuildX87(Instruction.Create(Code.Nopd))).ToArray(), ThunkBuilder.BuildX87([0x90]));

    private static ulong Pack(Code code)
    {
        OpCodeInfo info = code.ToOpCode();
        if (info.Encoding is not (EncodingKind.Legacy or EncodingKind.VEX))
        {
            return 0;
        }

        uint opcode = info.OpCodeLength == 2 ? info.OpCode >> 8 : info.OpCode;
        bool isX87 = info.Encoding == EncodingKind.Legacy && info.Table == OpCodeTableKind.Normal && opcode is >= 0xD8 and <= 0xDF;
        ulong bits = ((ulong)(byte)opcode << InstructionForm.OpcodeShift)
            | (isX87 ? 1UL << InstructionForm.X87Shift : 0)
            | (info.IsFpuNoWait ? 1UL << InstructionForm.NoWaitShift : 0)
            | (info.DecoderOption != DecoderOptions.None ? 1UL << InstructionForm.OtherMakerShift : 0);
        InstructionInfo access = new InstructionInfoFactory().GetInfo(Sample(code));
        for (int i = 0; i < info.OpCount; i++)
        {
            bits |= ((ulong)info.GetOpKind(i) | ((ulong)access.GetOpAccess(i) << InstructionForm.KindBits)) << (i * InstructionForm.OperandBits);
        }

        return bits;
    }

    // The accesses of operands belong to the code; GetInfo wants an instruction all the same. Its registers differ, for one that
    // is combined with itself can count as not read.
    private static Instruction Sample(Code code)
    {
        var sample = new Instruction { Code = code };
        for (int i = 0; i < Math.Min(sample.OpCount, 4); i++)
        {
            sample.SetOpKind(i, OpKind.Register);
            sample.SetOpRegister(i, Register.RAX + i);
        }

        return sample;
    }

    private static string Source(ulong[] table)
    {
        StringBuilder text = new();
        text.Append("namespace Tutti.Cpu.Software;\n\npublic readonly partial struct InstructionForm\n{\n");
        text.Append("    // By code, from Iced's own tables: written, and checked, by InstructionFormTests.\n");
        text.Append("    private static ReadOnlySpan<ulong> Table =>\n    [\n");
        foreach (ulong[] row in table.Chunk(Columns))
        {
            text.Append("        ").AppendJoin(", ", row.Select(bits => bits == 0 ? "0" : string.Create(CultureInfo.InvariantCulture, $"0x{bits:X}"))).Append(",\n");
        }

        return text.Append("    ];\n}\n").ToString();
    }
}
