using System.Text.Json;

namespace Tutti.Compare.Tests;

/// <summary>What is made of figures once they are there.</summary>
public class ComparisonTests
{
    private static readonly Benchmark Rate = new("rate", "", Unit.Rate("MB/s", 1e3), Threshold.TimesQemu(3), Threshold.ShareOfNative(0.8));
    private static readonly Benchmark Time = new("time", "", Unit.Time("µs", 1e3), Threshold.PartOfQemu(0.5));

    [Fact]
    public void Output_of_programs_is_found_among_lines_of_a_kernel()
    {
        const string output = "[    1.0] Run /init\r\ncompare: begin\r\nsha256 3.5000 d8bf122861292c41\r\nmatrix-avx2 - no AVX2\r\nx87 - too slow: not done in 20 s\r\npipe - failed: no pipe\r\ncompare: end 1500000000\r\n";

        IReadOnlyDictionary<string, ProgramResult> results = ProgramOutput.Parse(output);

        Assert.Equal(new ProgramResult(3.5, "d8bf122861292c41", null), results["sha256"]);
        Assert.Equal("no AVX2", results["matrix-avx2"].Problem);
        Assert.False(results["x87"].IsFailure);
        Assert.True(results["pipe"].IsFailure);
        Assert.Equal(4, results.Count);
        Assert.Equal(1.5, ProgramOutput.Seconds(output));
    }

    [Fact]
    public void A_line_that_is_cut_gives_no_time()
    {
        Assert.Null(ProgramOutput.Seconds("compare: end 15000"));
        Assert.Empty(ProgramOutput.Parse("sha256 3.5000 d8bf1228\n"));
    }

    [Fact]
    public void Of_two_reasons_of_one_program_the_first_counts()
    {
        const string output = "pair - failed: no pipe\npair - too slow: not done in 20 s\n";

        Assert.Equal("failed: no pipe", ProgramOutput.Parse(output)["pair"].Problem);
    }

    [Fact]
    public void More_of_a_rate_and_less_of_a_time_count_as_better()
    {
        Comparison comparison = new();
        Add(comparison, Rate, 300, 100, 400);
        Add(comparison, Time, 4, 8, 2);

        Assert.Equal(3, comparison.Times(Rate, Place.Qemu));
        Assert.Equal(0.75, comparison.Times(Rate, Place.Native));
        Assert.Equal(2, comparison.Times(Time, Place.Qemu));
        Assert.True(comparison.Holds(Rate, Rate.Bar!));
        Assert.False(comparison.Holds(Rate, Rate.Aim!));
        Assert.True(comparison.Holds(Time, Time.Bar!));
    }

    [Fact]
    public void The_median_of_the_rounds_is_what_counts()
    {
        Assert.Equal(2, Comparison.Median([9, 1, 2]));
        Assert.Equal(3, Comparison.Median([9, 1, 2, 4]));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_result_that_differs_from_the_host_s_is_no_figure(bool nativeFirst)
    {
        Comparison comparison = new();
        Add(comparison, Rate, 300, 100, 400);
        Place[] order = nativeFirst ? [Place.Native, Place.Tutti, Place.Qemu] : [Place.Qemu, Place.Tutti, Place.Native];
        foreach (Place place in order)
        {
            comparison.AddChecksum(Rate.Name, place, place == Place.Tutti ? "bad" : "good");
        }

        Assert.True(comparison.IsBroken);
        Assert.Equal("wrong result", comparison.Problem(Rate, Place.Tutti));
        Assert.Null(comparison.Problem(Rate, Place.Qemu));
        Assert.Null(comparison.Median(Rate, Place.Tutti));
        Assert.Null(comparison.Holds(Rate, Rate.Bar!));
    }

    [Fact]
    public void What_a_place_cannot_run_breaks_nothing()
    {
        Comparison comparison = new();
        comparison.AddProblem(Rate.Name, Place.Tutti, "no AVX2");

        Assert.False(comparison.IsBroken);
        Assert.Null(comparison.Holds(Rate, Rate.Bar!));
        Assert.Empty(comparison.Notes);
    }

    [Fact]
    public void The_reason_of_a_failure_is_told_below_the_table()
    {
        Comparison comparison = new();
        comparison.AddProblem(Rate.Name, Place.Tutti, "failed: no init: it printed nothing", isBroken: true);

        Assert.True(comparison.IsBroken);
        Assert.Equal(["rate, Tutti: failed: no init: it printed nothing"], comparison.Notes);
    }

    [Theory]
    [InlineData(1234.6, "1235")]
    [InlineData(23.456, "23.5")]
    [InlineData(0.01234, "0.0123")]
    [InlineData(null, "–")]
    public void Numbers_have_three_digits(double? number, string text) => Assert.Equal(text, ComparisonTable.Number(number));

    [Fact]
    public void Json_holds_the_figures_of_each_round_and_whether_the_bar_holds()
    {
        Comparison comparison = new();
        Add(comparison, Rate, 300, 100, 400);
        comparison.Add(Rate.Name, Place.Tutti, 500);

        using JsonDocument json = JsonDocument.Parse(ComparisonJson.Format(comparison, [Rate], new Dictionary<string, string> { ["host"] = "here" }));
        JsonElement benchmark = json.RootElement.GetProperty("benchmarks")[0];

        Assert.Equal("here", json.RootElement.GetProperty("host").GetString());
        Assert.Equal(400, benchmark.GetProperty("tutti").GetProperty("median").GetDouble());
        Assert.Equal(2, benchmark.GetProperty("tutti").GetProperty("rounds").GetArrayLength());
        Assert.Equal(4, benchmark.GetProperty("timesQemu").GetDouble());
        Assert.True(benchmark.GetProperty("bar").GetProperty("holds").GetBoolean());
    }

    private static void Add(Comparison comparison, Benchmark benchmark, double tutti, double qemu, double native)
    {
        comparison.Add(benchmark.Name, Place.Tutti, tutti);
        comparison.Add(benchmark.Name, Place.Qemu, qemu);
        comparison.Add(benchmark.Name, Place.Native, native);
    }
}
