using System.Globalization;
using Spectre.Console;

namespace Tutti.Compare;

/// <summary>A comparison for people.</summary>
internal static class ComparisonTable
{
    /// <summary>Wide enough for all columns, also where the output is no terminal.</summary>
    private const int LeastWidth = 150;

    internal static void Write(Comparison comparison, IReadOnlyList<Benchmark> benchmarks)
    {
        Table table = new() { Border = TableBorder.Simple };
        table.AddColumn("benchmark");
        table.AddColumn(new TableColumn("unit"));
        foreach (string column in (string[])["Tutti", "QEMU", "native", "× QEMU", "% native"])
        {
            table.AddColumn(new TableColumn(column).RightAligned());
        }

        table.AddColumns("bar", "holds", "aim", "reached");
        foreach (Benchmark benchmark in benchmarks)
        {
            table.AddRow([.. Cells(comparison, benchmark).Select(cell => new Text(cell))]);
        }

        IAnsiConsole console = AnsiConsole.Create(new AnsiConsoleSettings());
        console.Profile.Width = Math.Max(console.Profile.Width, LeastWidth);
        console.Write(table);
    }

    private static IEnumerable<string> Cells(Comparison comparison, Benchmark benchmark) =>
    [
        $"{benchmark.Name}: {benchmark.What}",
        benchmark.Unit.Text,
        Figure(comparison, benchmark, Place.Tutti),
        Figure(comparison, benchmark, Place.Qemu),
        benchmark.Name is Benchmark.Boot or Benchmark.Memory or Benchmark.Login || benchmark.IoMeasurement is not null ? "–" : Figure(comparison, benchmark, Place.Native),
        Number(comparison.Times(benchmark, Place.Qemu)),
        Number(comparison.Times(benchmark, Place.Native) * 100),
        .. Verdict(comparison, benchmark, benchmark.Bar),
        .. Verdict(comparison, benchmark, benchmark.Aim),
    ];

    private static string Figure(Comparison comparison, Benchmark benchmark, Place place) =>
        comparison.Problem(benchmark, place)?.Split(':')[0] ?? Number(comparison.Median(benchmark, place));

    private static string[] Verdict(Comparison comparison, Benchmark benchmark, Threshold? threshold) =>
        threshold is null ? ["–", ""] : [threshold.Text, comparison.Holds(benchmark, threshold) switch { true => "yes", false => "no", null => "?" }];

    /// <summary>Three significant digits, and no exponent.</summary>
    internal static string Number(double? number) => number switch
    {
        null => "–",
        0 => "0",
        double value => value.ToString("F" + Math.Clamp(2 - (int)Math.Floor(Math.Log10(Math.Abs(value))), 0, 6), CultureInfo.InvariantCulture),
    };
}
