using System.Text;
using Tutti.X86;
using Xunit.Abstractions;

namespace Tutti.Cpu.Interpreter.Tests.Oracle.Sweep;

/// <summary>
/// For every encoding the engine and the host's processor agree which exception is raised, if any, and how long the instruction is: what no
/// table of instructions is asked for, so that an instruction that a table lacks is found too.
/// </summary>
[Trait("Category", "Oracle")]
[Collection(nameof(HostProcessorTests))]
public class EncodingSweepTests(ITestOutputHelper output)
{
    private const int MostGroups = 60;

    [Theory]
    [InlineData(0, 64)]
    [InlineData(1, 64)]
    [InlineData(2, 64)]
    [InlineData(3, 64)]
    [InlineData(0, 32)]
    [InlineData(1, 32)]
    [InlineData(2, 32)]
    [InlineData(3, 32)]
    public void Legacy_opcodes_raise_what_the_processor_raises_and_have_its_length(int map, int bits) =>
        Check(EncodingSpace.LegacyStems(EncodingSpace.Legacy[map], bits), bits, 50_000);

    [Theory]
    [InlineData(64)]
    [InlineData(32)]
    public void Vex_encodings_raise_what_the_processor_raises_and_have_its_length(int bits) => Check(EncodingSpace.VexStems(bits), bits, 50_000);

    [Theory]
    [InlineData(64)]
    [InlineData(32)]
    public void Encodings_of_other_times_are_what_they_are_on_the_processor(int bits) =>
        Check([.. EncodingSpace.SuffixStems(), .. EncodingSpace.XopStems()], bits, 5_000);

    [Theory]
    [InlineData(64)]
    [InlineData(32)]
    public void Instructions_with_too_many_prefixes_raise_what_the_processor_raises(int bits) => Check(Long(bits), bits, 100);

    [Theory]
    [InlineData(64)]
    [InlineData(32)]
    public void Evex_encodings_are_undefined_where_AVX512_is_not_shown(int bits)
    {
        using SweepRunner runner = new();
        foreach (byte[] stem in EncodingSpace.EvexStems())
        {
            SweptEncoding encoding = SweptEncoding.Of(stem, bits);
            Assert.True(runner.RunGuest(encoding, SweptEncoding.Size)?.Vector == ExceptionVector.InvalidOpcode, encoding.ToString());
        }
    }

    private static IEnumerable<byte[]> Long(int bits)
    {
        byte[][] ends = [[0x90], [0xF4], [0x0F, 0x0B], [0x0F, 0x1F, 0x03], [0x8B, 0x03], [0x81, 0xC3], [0xB8], [0x0F, 0x38, 0xF0, 0x03], [0xC5, 0xF8, 0x77], [0xD9, 0xC0], [0xD6]];
        byte[] prefixes = bits == 64 ? [0x66, 0x2E, 0x67, 0xF2, 0xF3, 0x40] : [0x66, 0x2E, 0x67, 0xF2, 0xF3];
        foreach (byte prefix in prefixes)
        {
            foreach (byte[] end in ends)
            {
                for (int count = 6; count < 18 && count + end.Length <= SweptEncoding.Size; count++)
                {
                    yield return [.. Enumerable.Repeat(prefix, count), .. end];
                }
            }
        }
    }

    private void Check(IEnumerable<byte[]> stems, int bits, int atLeast)
    {
        using SweepRunner runner = new();
        Dictionary<string, int> skipped = [];
        Dictionary<string, (int Count, string First)> differences = [];
        int compared = 0;
        NativeRunner.ThreadState thread = runner.Enter();
        try
        {
            foreach (byte[] stem in stems)
            {
                SweptEncoding encoding = SweptEncoding.Of(stem, bits);
                if (HostHazards.Find(encoding) is { } hazard)
                {
                    skipped[hazard] = skipped.GetValueOrDefault(hazard) + 1;
                    continue;
                }

                compared++;
                Compare(runner, encoding, skipped, differences);
            }
        }
        finally
        {
            runner.Leave(thread);
        }

        output.WriteLine($"compared: {compared}");
        foreach ((string reason, int count) in skipped.OrderByDescending(pair => pair.Value))
        {
            output.WriteLine($"not compared, {count}: {reason}");
        }

        Assert.True(differences.Count == 0, Text(differences));
        Assert.True(compared >= atLeast, $"only {compared} were compared");
    }

    private static void Compare(SweepRunner runner, SweptEncoding encoding, Dictionary<string, int> skipped, Dictionary<string, (int Count, string First)> differences)
    {
        int length = encoding.Instruction.IsInvalid ? SweptEncoding.Size : encoding.Instruction.Length;
        bool first = true;
        foreach (int bytes in (int[])[length, length - 1])
        {
            if (bytes == 0)
            {
                break;
            }

            Outcome host = runner.RunHost(encoding, bytes);
            Outcome? guest = runner.RunGuest(encoding, bytes);
            if (guest == null || host.Ending != guest.Ending)
            {
                string? reason = guest == null ? null : KnownDifferences.Find(encoding, host, guest);
                if (reason != null)
                {
                    skipped[reason] = skipped.GetValueOrDefault(reason) + 1;
                    break;
                }

                string mine = guest == null ? "comes to no end" : SweepRunner.Describe(guest, bytes);
                string key = $"{encoding.Map} {encoding.Opcode:X2} host {SweepRunner.Describe(host, bytes).Split(" error")[0]}, engine {mine.Split(" error")[0]}";
                (int count, string text) = differences.GetValueOrDefault(key, (0, $"{encoding}, {bytes} bytes: host {SweepRunner.Describe(host, bytes)}; engine {mine}"));
                differences[key] = (count + 1, text);
                break;
            }

            // How many bytes of what is no instruction a processor fetches before it says so is its own affair.
            bool isCut = first || host.Vector == ExceptionVector.InvalidOpcode || SweepRunner.IsCut(host, bytes);
            if (!isCut && length <= 15)
            {
                string key = $"{encoding.Map} {encoding.Opcode:X2}: shorter than it is decoded";
                differences[key] = (differences.GetValueOrDefault(key).Count + 1, $"{encoding}: {SweepRunner.Describe(host, bytes)} with {bytes} bytes");
            }

            if (host.Vector == ExceptionVector.InvalidOpcode)
            {
                break;
            }

            first = false;
        }
    }

    private static string Text(Dictionary<string, (int Count, string First)> differences)
    {
        StringBuilder text = new();
        foreach ((string key, (int count, string sample)) in differences.OrderByDescending(pair => pair.Value.Count).Take(MostGroups))
        {
            text.AppendLine($"{count} times {key}\n    {sample}");
        }

        return text.AppendLine($"{differences.Count} kinds of differences").ToString();
    }
}
