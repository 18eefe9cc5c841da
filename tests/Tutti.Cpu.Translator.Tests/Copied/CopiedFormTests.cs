using Iced.Intel;
using Tutti.Cpu.Interpreter;
using Tutti.Cpu.Interpreter.Tests.Oracle;
using Tutti.Cpu.Interpreter.Tests.Oracle.Sweep;
using Tutti.X86;
using Xunit.Abstractions;

namespace Tutti.Cpu.Translator.Tests.Copied;

/// <summary>What is copied runs on the host's own processor: it has been compared with it, and reaches no byte that was not looked up.</summary>
[Trait("Category", "Oracle")]
[Collection(nameof(HostProcessorTests))]
public unsafe class CopiedFormTests(ITestOutputHelper output)
{
    private const ulong PageStart = ArenaLayout.Data;
    private const ulong PageEnd = ArenaLayout.Data + (2 * ArenaLayout.PageSize);

    /// <summary>The one group of forms that the table of the oracle leaves to other tests: VectorOracleTests runs the x87 forms.</summary>
    private const string ComparedElsewhere = "x87 and its state images are compared in the vector tests";

    [Fact]
    public void Every_form_that_is_copied_is_compared_with_the_processor()
    {
        List<Form> copied = [.. FormTable.All(64).Where(form => CopyRule.Of(new Instruction { Code = form.Code }).CanCopy)];
        output.WriteLine($"copied: {copied.Count}");
        Assert.InRange(copied.Count, 1000, int.MaxValue);
        IEnumerable<string> notCompared = copied.Where(form => form.Group == null && form.Reason != ComparedElsewhere).Select(form => $"{form.Code}: {form.Reason}");
        Assert.Empty(notCompared);

        // And what the oracle does not have among the forms of this mode is not copied either.
        HashSet<Code> known = [.. FormTable.All(64).Select(form => form.Code)];
        Assert.DoesNotContain(Enum.GetValues<Code>(), code => !known.Contains(code) && CopyRule.Of(new Instruction { Code = code }).CanCopy && code.ToOpCode().Mode64);
    }

    [Fact]
    public void Copied_instructions_reach_no_byte_beyond_those_that_are_looked_up()
    {
        using SweepRunner runner = new();
        List<string> beyond = [];
        int compared = 0;
        NativeRunner.ThreadState thread = runner.Enter();
        try
        {
            foreach (SweptEncoding encoding in EncodingSpace.WithMemory(64))
            {
                Instruction instruction = Decode(encoding.Bytes);
                CopyRule rule = CopyRule.Of(instruction);
                if (!rule.CanCopy || !(rule.ReadsMemory || rule.WritesMemory) || instruction.Mnemonic is Mnemonic.Bt or Mnemonic.Bts or Mnemonic.Btr or Mnemonic.Btc)
                {
                    continue;
                }

                compared++;
                int size = instruction.MemorySize.GetSize();
                foreach (ulong address in (ulong[])[PageStart, PageEnd - (ulong)size])
                {
                    runner.Address = address;
                    Outcome host = runner.RunHost(encoding, instruction.Length);
                    if (host.Vector == ExceptionVector.PageFault && host.FaultAddress != SweepRunner.End)
                    {
                        beyond.Add($"{encoding}: {size} bytes at {address:x} are looked up; {host.Ending}");
                    }
                }
            }
        }
        finally
        {
            runner.Leave(thread);
        }

        output.WriteLine($"compared: {compared}");
        Assert.True(beyond.Count == 0, string.Join('\n', beyond));
        Assert.True(compared > 500, $"only {compared} were compared");
    }

    private static Instruction Decode(byte[] bytes)
    {
        var reader = new CodeWords();
        var decoder = new GuestDecoder(64, reader);

        // The reader takes whole aligned words.
        ulong* words = stackalloc ulong[4];
        bytes.CopyTo(new Span<byte>(words, bytes.Length));
        reader.Start((byte*)words, bytes.Length);
        decoder.Decode(out Instruction instruction);
        return instruction;
    }
}
