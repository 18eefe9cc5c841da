using System.Text;
using Tutti.Cpu.Interpreter;
using Tutti.Cpu.Translator;
using Tutti.Engines.Compare;
using Tutti.Engines.Compare.Guests;
using Tutti.Engines.Compare.Streams;

namespace Tutti.Cpu.Kvm.Tests;

/// <summary>Kernel code, paging, changes of mode and faults end alike with the translator and with the interpreter alone.</summary>
public class TranslatorComparisonTests
{
    /// <summary>Streams a mode: TUTTI_FUZZ_SECONDS asks for many more.</summary>
    private static readonly int s_streams = Environment.GetEnvironmentVariable("TUTTI_FUZZ_SECONDS") is null ? 2_000 : 20_000;

    private static readonly ulong s_seed = ulong.TryParse(Environment.GetEnvironmentVariable("TUTTI_FUZZ_SEED"), out ulong seed) ? seed : 11;

    public static TheoryData<string> Modes => [.. Enum.GetNames<StreamMode>()];

    [Fact]
    public void Named_guests_end_alike()
    {
        var comparer = new GuestComparer(new SoftwareEngine(), TranslatingEngine.Create());
        string differing = string.Concat(NamedGuest.All.Select(comparer.Compare).Where(result => result.Differences.Count > 0).Select(Describe));
        Assert.True(differing.Length == 0, differing);
    }

    [Theory]
    [Trait("Category", "Fuzz")]
    [MemberData(nameof(Modes))]
    public void Random_streams_end_alike(string name)
    {
        using var comparer = new StreamComparer(new SoftwareEngine(), TranslatingEngine.Create(), Enum.Parse<StreamMode>(name), s_seed);
        string differing = string.Concat(Enumerable.Range(0, s_streams).SelectMany(comparer.Compare).Take(5).Select(Describe));
        Assert.True(differing.Length == 0, differing);
        Assert.True(comparer.Completed > comparer.Runs / 4, $"{comparer.Completed} of {comparer.Runs}");
    }

    private static string Describe(CaseResult result)
    {
        var text = new StringBuilder();
        Report.Append(text, result, "interpreter", "translator");
        return text.ToString();
    }
}
