using System.Text;
using Iced.Intel;
using Tutti.X86;
using Xunit.Abstractions;

namespace Tutti.Cpu.Interpreter.Tests.Oracle.Sweep;

/// <summary>
/// Every instruction reaches as many bytes of memory as on the host's processor, no table asked for how many: operands end before, at and
/// behind the end of a page behind which there is none, begin before its start, and lie in a page that is read-only.
/// </summary>
[Trait("Category", "Oracle")]
[Collection(nameof(HostProcessorTests))]
public class MemoryEdgeTests(ITestOutputHelper output)
{
    private const ulong PageEnd = ArenaLayout.Data + (2 * ArenaLayout.PageSize);

    /// <summary>Bytes from an operand's start to the page's end: those that some operand has, and their neighbours.</summary>
    private static readonly int[] s_distances = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 15, 16, 17, 24, 28, 31, 32, 33, 64, 94, 108, 512];

    private static readonly ulong[] s_addresses =
        [.. s_distances.Select(distance => PageEnd - (ulong)distance), ArenaLayout.Data, ArenaLayout.Data - 1, ArenaLayout.Data - 2, ArenaLayout.Data - 16, ArenaLayout.ReadOnly];

    [Theory]
    [InlineData(64)]
    [InlineData(32)]
    public void Memory_operands_reach_what_they_reach_on_the_processor(int bits)
    {
        using SweepRunner runner = new();
        SortedDictionary<string, int> skipped = [];
        List<string> differences = [];
        int compared = 0;
        NativeRunner.ThreadState thread = runner.Enter();
        try
        {
            foreach (SweptEncoding encoding in EncodingSpace.WithMemory(bits))
            {
                runner.Address = SweepRunner.Operand;
                int length = encoding.Instruction.Length;
                if (HostHazards.Find(encoding) != null || runner.RunHost(encoding, length).Vector == ExceptionVector.InvalidOpcode
                    || runner.RunGuest(encoding, length)?.Vector == ExceptionVector.InvalidOpcode)
                {
                    // EncodingSweepTests says which and why.
                    continue;
                }

                compared++;
                foreach (ulong address in s_addresses)
                {
                    runner.Address = address;
                    Compare(runner, encoding, length, skipped, differences);
                }
            }
        }
        finally
        {
            runner.Leave(thread);
        }

        output.WriteLine($"compared: {compared}");
        foreach ((string reason, int count) in skipped)
        {
            output.WriteLine($"not compared, {count}: {reason}");
        }

        Assert.True(differences.Count == 0, new StringBuilder().AppendJoin('\n', differences.Take(60)).Append('\n').Append(differences.Count).ToString());
        Assert.True(compared > 800, $"only {compared} were compared");
    }

    private static void Compare(SweepRunner runner, SweptEncoding encoding, int length, SortedDictionary<string, int> skipped, List<string> differences)
    {
        Outcome host = runner.RunHost(encoding, length);
        Outcome? guest = runner.RunGuest(encoding, length);
        if (guest != null && host.Ending == guest.Ending)
        {
            return;
        }

        string? reason = guest == null ? null : KnownDifferences.FindAtEdge(encoding, host, guest, runner.Address);
        if (reason != null)
        {
            skipped[reason] = skipped.GetValueOrDefault(reason) + 1;
            return;
        }

        string mine = guest == null ? "comes to no end" : SweepRunner.Describe(guest, length);
        if (differences.Count > 0 && differences[^1].StartsWith(encoding.ToString(), StringComparison.Ordinal))
        {
            return;
        }

        differences.Add($"{encoding} with its operand at {runner.Address:x}: host {SweepRunner.Describe(host, length)}; engine {mine}");
    }
}
