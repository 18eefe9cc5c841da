using Spectre.Console;
using Tutti.Compare;

namespace Tutti.Programs;

/// <summary>The comparison for people: a line for each program, and the geometric means of the ratios at the end.</summary>
internal static class ProgramTable
{
    /// <summary>Wide enough for all columns, also where the output is no terminal.</summary>
    private const int LeastWidth = 150;

    private static readonly (Place Other, string Title, double Factor)[] s_ratios =
        [(Place.Qemu, "× QEMU", 1), (Place.Native, "% native", 100), (Place.Against, "× against", 1)];

    internal static void Write(Comparison comparison, IReadOnlyList<Benchmark> programs, IReadOnlyList<Place> places, int processors, int atOnce)
    {
        Print(
            ["program", .. places.Select(place => $"{Name(place)} s"), .. Ratios(places).Select(ratio => ratio.Title)],
            [.. programs.Select(program => Cells(comparison, program, places)), .. Means(comparison, programs, places)]);
        if (processors > 1)
        {
            Print(
                [$"{processors} at once", .. places.Select(place => $"{Name(place)} s"), .. places.Select(place => $"{Name(place)} lost %")],
                programs.Select(program => TogetherCells(comparison, program, places, processors, atOnce)));
        }
    }

    /// <summary>Of more than none.</summary>
    internal static double? GeometricMean(IEnumerable<double> values)
    {
        double[] all = [.. values];
        return all.Length == 0 ? null : Math.Exp(all.Average(Math.Log));
    }

    /// <summary>The columns of a table that hold Tutti against another place.</summary>
    internal static IReadOnlyList<(Place Other, string Title, double Factor)> Ratios(IReadOnlyList<Place> places) =>
    [
        .. s_ratios.Where(ratio => places.Contains(Place.Tutti) && places.Contains(ratio.Other)),
    ];

    /// <summary>What is lost to there being more virtual processors than the host has, or to their work on each other: a share of the time.</summary>
    internal static double? Lost(Comparison comparison, Benchmark program, Place place, int processors, int atOnce)
    {
        // Copies that have no processor of their own take turns, which is no loss.
        double turns = Math.Max(1, (double)processors / atOnce);
        return 1 - (comparison.Median(program, place) * turns / comparison.Median(TogetherOf(program), place));
    }

    internal static Benchmark TogetherOf(Benchmark program) => program with { Name = program.Name + ProgramRounds.Together };

    private static string Name(Place place) => place switch { Place.Qemu => "QEMU", Place.Native => "native", Place.Against => "against", _ => "Tutti" };

    private static string[] Cells(Comparison comparison, Benchmark program, IReadOnlyList<Place> places) =>
    [
        $"{program.Name}: {program.What}",
        .. places.Select(place => Figure(comparison, program, place)),
        .. Ratios(places).Select(ratio => ComparisonTable.Number(comparison.Times(program, ratio.Other) * ratio.Factor)),
    ];

    private static IEnumerable<string[]> Means(Comparison comparison, IReadOnlyList<Benchmark> programs, IReadOnlyList<Place> places) =>
    [
        [
            "geometric mean", .. places.Select(_ => string.Empty),
            .. Ratios(places).Select(ratio => ComparisonTable.Number(Mean(comparison, programs, ratio.Other) * ratio.Factor)),
        ],
    ];

    /// <summary>Of those that have both figures.</summary>
    internal static double? Mean(Comparison comparison, IReadOnlyList<Benchmark> programs, Place other) =>
        GeometricMean(programs.Select(program => comparison.Times(program, other)).OfType<double>());

    private static string[] TogetherCells(Comparison comparison, Benchmark program, IReadOnlyList<Place> places, int processors, int atOnce) =>
    [
        program.Name,
        .. places.Select(place => Figure(comparison, TogetherOf(program), place)),
        .. places.Select(place => ComparisonTable.Number(Lost(comparison, program, place, processors, atOnce) * 100)),
    ];

    private static string Figure(Comparison comparison, Benchmark program, Place place) =>
        comparison.Problem(program, place)?.Split(':')[0] ?? ComparisonTable.Number(comparison.Median(program, place));

    private static void Print(IEnumerable<string> columns, IEnumerable<string[]> rows)
    {
        Table table = new() { Border = TableBorder.Simple };
        foreach (string column in columns)
        {
            TableColumn made = new(column);
            table.AddColumn(table.Columns.Count == 0 ? made : made.RightAligned());
        }

        foreach (string[] row in rows)
        {
            table.AddRow([.. row.Select(cell => new Text(cell))]);
        }

        IAnsiConsole console = AnsiConsole.Create(new AnsiConsoleSettings());
        console.Profile.Width = Math.Max(console.Profile.Width, LeastWidth);
        console.Write(table);
    }
}
