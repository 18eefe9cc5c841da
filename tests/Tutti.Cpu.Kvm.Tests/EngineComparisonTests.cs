using System.Text;
using Tutti.Cpu.Interpreter;
using Tutti.Engines.Compare;
using Tutti.Engines.Compare.Guests;
using Tutti.Engines.Compare.Streams;
using Xunit.Abstractions;

namespace Tutti.Cpu.Kvm.Tests;

/// <summary>Both engines do the same with the same guests; and the comparison would notice if they did not.</summary>
public class EngineComparisonTests(ITestOutputHelper output)
{
    private const int Streams = 300;

    public static TheoryData<string> Flaws => [.. FlawedEngine.Flaws.Keys];

    public static TheoryData<string> Modes => [.. Enum.GetNames<StreamMode>()];

    [KvmFact]
    public void Named_guests_end_alike_on_both_engines() => Check("guests", atLeast: 200);

    [KvmFact]
    public void Random_user_code_ends_alike_on_both_engines() => Check("ring3", atLeast: Streams);

    [Fact]
    public void Every_named_guest_comes_to_an_end_of_its_own()
    {
        var comparer = new GuestComparer(new SoftwareEngine(), new SoftwareEngine());
        foreach (NamedGuest guest in NamedGuest.All)
        {
            CaseResult result = comparer.Compare(guest);
            Assert.True(result.Differences.Count == 0, Describe(result));
            Assert.True(comparer.Ending is Ending.Exit or Ending.TripleFault, $"{guest.Name}: {comparer.Ending}");
            Assert.True(comparer.Ending == Ending.Exit || guest.Name.Contains("shutdown", StringComparison.Ordinal), $"{guest.Name} shuts down");
        }
    }

    [Fact]
    public void No_two_guests_have_the_same_name() =>
        Assert.Equal(NamedGuest.All.Count, NamedGuest.All.Select(guest => guest.Name).Distinct().Count());

    [Theory]
    [MemberData(nameof(Modes))]
    public void Streams_are_the_same_for_the_same_seed_and_mostly_come_to_their_end(string name)
    {
        using var comparer = new StreamComparer(new SoftwareEngine(), new SoftwareEngine(), Enum.Parse<StreamMode>(name), 7);
        for (int i = 0; i < Streams; i++)
        {
            foreach (CaseResult result in comparer.Compare(i))
            {
                Assert.Fail(Describe(result));
            }
        }

        Assert.True(comparer.Completed > comparer.Runs / 2, $"{comparer.Completed} of {comparer.Runs}");
        Assert.True(comparer.Completed < comparer.Runs, "No stream met an exception.");
        Assert.True(comparer.Instructions > 5 * Streams);
    }

    [Theory]
    [MemberData(nameof(Flaws))]
    public void A_flawed_engine_is_noticed_in_named_guests(string flaw)
    {
        var comparer = new GuestComparer(new FlawedEngine(flaw), new SoftwareEngine());
        Assert.Contains(NamedGuest.All, guest => IsUnknown(comparer.Compare(guest)));
    }

    [Theory]
    [MemberData(nameof(Flaws))]
    public void A_flawed_engine_is_noticed_in_streams(string flaw)
    {
        int found = 0;
        foreach (StreamMode mode in Enum.GetValues<StreamMode>())
        {
            using var comparer = new StreamComparer(new FlawedEngine(flaw), new SoftwareEngine(), mode, 3);
            for (int i = 0; i < 100; i++)
            {
                found += comparer.Compare(i).Count(IsUnknown);
            }
        }

        Assert.True(found > 0);
    }

    [Theory]
    [InlineData("--mode", "ring9")]
    [InlineData("--streams", "0")]
    [InlineData("--seconds", "-5")]
    [InlineData("--seed")]
    [InlineData("--quick")]
    public void A_word_that_is_not_understood_is_named(params string[] words)
    {
        Assert.Null(CompareOptions.TryParse(words, out string? problem));
        Assert.Contains(words[^1], problem, StringComparison.Ordinal);
    }

    [Fact]
    public void Words_are_understood()
    {
        CompareOptions? options = CompareOptions.TryParse(["--mode", "all", "--seconds", "60", "--seed", "9", "--streams", "12", "--json"], out _);
        Assert.NotNull(options);
        Assert.Equal((12, 9UL, TimeSpan.FromSeconds(60), true), (options.Streams, options.Seed, options.Limit!.Value, options.IsJson));
        Assert.Equal(Enum.GetValues<StreamMode>(), options.Modes);
    }

    private static bool IsUnknown(CaseResult result) =>
        result.Differences.Count > 0 && KnownDifferences.Explain(result, new HostEvidence(1000)) == null;

    private static string Describe(CaseResult result)
    {
        var text = new StringBuilder();
        Report.Append(text, result, "first", "second");
        return text.ToString();
    }

    private void Check(string mode, long atLeast)
    {
        CompareOptions options = CompareOptions.TryParse(["--mode", mode, "--streams", $"{Streams}"], out _)!;
        var comparison = new Comparison(new KvmEngine(), new SoftwareEngine(), options, output.WriteLine);
        comparison.Run();
        string report = Report.Text(comparison, "kvm", "software");
        output.WriteLine(report);
        Assert.True(comparison.UnknownCount == 0, report);
        Assert.True(comparison.Groups.Sum(group => group.Cases) >= atLeast);
    }
}
