using System.Text.Json;
using Tutti.Bench;
using Tutti.Programs;

namespace Tutti.Compare.Tests;

/// <summary>What bench/programs makes of its files, of lines and of figures: nothing is run.</summary>
public class DebianProgramTests
{
    private static readonly Benchmark Program = new("gcc", "compiles", new Unit("s", seconds => seconds, false));

    [Fact]
    public void Every_program_says_what_it_is()
    {
        IReadOnlyList<DebianProgram> all = ProgramList.Read(Path.Combine(GuestRun.RepositoryRoot(), "bench/debian-programs/guest/programs"));

        Assert.True(all.Count >= 40);
        Assert.Equal(ProgramList.Groups, all.Select(program => program.Group).Distinct());
    }

    [Theory]
    [InlineData("compilers: gcc")]
    [InlineData("# compilers")]
    [InlineData("# nonsense: gcc")]
    [InlineData("")]
    public void A_file_that_does_not_say_it_is_an_error(string line) => Assert.Throws<InvalidDataException>(() => ProgramList.Parse("gcc", line));

    [Fact]
    public void Names_and_groups_choose_in_the_order_of_the_list()
    {
        DebianProgram[] all = [new("gcc", "compilers", "a"), new("g++", "compilers", "b"), new("xz", "packers", "c"), new("tar", "files", "d")];

        Assert.Equal(["gcc", "g++", "tar"], ProgramList.Choose(all, "tar, compilers,gcc").Select(program => program.Name));
        Assert.Equal(4, ProgramList.Choose(all, null).Count);
        Assert.Equal("--only 'zip' names no program; --list shows them", Assert.Throws<CompareException>(() => ProgramList.Choose(all, "xz,zip")).Message);
        Assert.Throws<CompareException>(() => ProgramList.Choose(all, ","));
    }

    [Fact]
    public void Places_stand_in_the_order_of_the_table_whatever_is_asked_first()
    {
        Assert.Equal([Place.Native, Place.Tutti, Place.Qemu], ProgramPlaces.Choose(null, hasAgainst: false));
        Assert.Equal([Place.Native, Place.Tutti, Place.Against], ProgramPlaces.Choose("tutti,native", hasAgainst: true));
        Assert.Throws<CompareException>(() => ProgramPlaces.Choose("kvm", hasAgainst: false));
    }

    [Fact]
    public void Results_are_found_among_other_lines()
    {
        const string output = "bench: ready\r\nprogram g++ starts\r\n[  12.1] random: noise\r\nprogram g++ 1.2500 1.1000 00ff00ff00ff00ff\r\n"
            + "program redis failed: status 1: no socket\r\nprogram dotnet-build skipped: no SDK\r\nbench: done\r\nprogram xz 1.5000 1.1000 00ff";

        Assert.True(ProgramLines.HasStarted(output, "g++"));
        Assert.False(ProgramLines.HasStarted(output, "redis"));
        Assert.Equal(new ProgramRun(1.25, 1.1, "00ff00ff00ff00ff", null), ProgramLines.Find(output, "g++"));
        Assert.Equal("failed: status 1: no socket", ProgramLines.Find(output, "redis")!.Problem);
        Assert.False(ProgramLines.Find(output, "redis")!.IsSkipped);
        Assert.True(ProgramLines.Find(output, "dotnet-build")!.IsSkipped);
        Assert.Null(ProgramLines.Find(output, "xz"));
        Assert.Equal(1, ProgramLines.CountDone(output));
    }

    [Fact]
    public void The_mean_of_ratios_is_geometric()
    {
        Assert.Equal(4, ProgramTable.GeometricMean([2, 8])!.Value, 9);
        Assert.Null(ProgramTable.GeometricMean([]));
    }

    [Fact]
    public void A_share_is_lost_beyond_the_turns_that_copies_take()
    {
        Comparison comparison = new();
        comparison.Add(Program.Name, Place.Tutti, 2);
        comparison.Add(ProgramTable.TogetherOf(Program).Name, Place.Tutti, 10);

        // Four copies on two processors need twice the time of one.
        Assert.Equal(0.6, ProgramTable.Lost(comparison, Program, Place.Tutti, 4, 2)!.Value, 9);
        Assert.Equal(0.8, ProgramTable.Lost(comparison, Program, Place.Tutti, 2, 2)!.Value, 9);
        Assert.Null(ProgramTable.Lost(comparison, Program, Place.Qemu, 2, 2));
    }

    [Fact]
    public void Json_holds_ratios_and_their_means()
    {
        Comparison comparison = new();
        comparison.Add(Program.Name, Place.Native, 1);
        comparison.Add(Program.Name, Place.Tutti, 2);
        comparison.Add(Program.Name, Place.Against, 3);
        comparison.AddProblem(Program.Name, Place.Qemu, "failed: not done in 5 s", isBroken: true);

        Place[] places = [Place.Native, Place.Tutti, Place.Qemu, Place.Against];
        using JsonDocument json = JsonDocument.Parse(ProgramJson.Format(comparison, [Program], places, 1, 2, new Dictionary<string, string> { ["host"] = "here" }));
        JsonElement program = json.RootElement.GetProperty("programs")[0];

        Assert.Equal(0.5, program.GetProperty("shareOfNative").GetDouble());
        Assert.Equal(1.5, program.GetProperty("timesAgainst").GetDouble());
        Assert.Equal(JsonValueKind.Null, program.GetProperty("timesQemu").ValueKind);
        Assert.Equal("failed: not done in 5 s", program.GetProperty("qemu").GetProperty("problem").GetString());
        Assert.Equal(1.5, json.RootElement.GetProperty("geometricMeans").GetProperty("timesAgainst").GetDouble(), 9);
        Assert.Equal("gcc, Qemu: failed: not done in 5 s", json.RootElement.GetProperty("notes")[0].GetString());
    }

    [Fact]
    public void Another_build_s_results_are_held_against_the_host_s_too()
    {
        Comparison comparison = new();
        comparison.AddChecksum(Program.Name, Place.Native, "good");
        comparison.AddChecksum(Program.Name, Place.Against, "bad");

        Assert.Equal("wrong result", comparison.Problem(Program, Place.Against));
        Assert.True(comparison.IsBroken);
    }
}
