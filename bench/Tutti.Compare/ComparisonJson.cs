using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace Tutti.Compare;

/// <summary>A comparison for programs: what the table shows, and the figures of each round.</summary>
internal static class ComparisonJson
{
    internal static string Format(Comparison comparison, IReadOnlyList<Benchmark> benchmarks, IReadOnlyDictionary<string, string> facts)
    {
        using MemoryStream bytes = new();
        using (Utf8JsonWriter json = new(bytes, new JsonWriterOptions { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            foreach ((string name, string value) in facts)
            {
                json.WriteString(name, value);
            }

            json.WriteStartArray("benchmarks");
            foreach (Benchmark benchmark in benchmarks)
            {
                Write(json, comparison, benchmark);
            }

            json.WriteEndArray();
            json.WriteStartArray("notes");
            foreach (string note in comparison.Notes)
            {
                json.WriteStringValue(note);
            }

            json.WriteEndArray();
            json.WriteEndObject();
        }

        return Encoding.UTF8.GetString(bytes.ToArray());
    }

    private static void Write(Utf8JsonWriter json, Comparison comparison, Benchmark benchmark)
    {
        json.WriteStartObject();
        json.WriteString("name", benchmark.Name);
        json.WriteString("what", benchmark.What);
        json.WriteString("unit", benchmark.Unit.Text);
        json.WriteBoolean("moreIsBetter", benchmark.Unit.MoreIsBetter);
        foreach (Place place in (Place[])[Place.Tutti, Place.Qemu, Place.Native])
        {
            WritePlace(json, comparison, benchmark, place);
        }

        WriteNumber(json, "timesQemu", comparison.Times(benchmark, Place.Qemu));
        WriteNumber(json, "shareOfNative", comparison.Times(benchmark, Place.Native));
        WriteThreshold(json, "bar", comparison, benchmark, benchmark.Bar);
        WriteThreshold(json, "aim", comparison, benchmark, benchmark.Aim);
        json.WriteEndObject();
    }

    /// <summary>All figures of a benchmark in one place.</summary>
    internal static void WritePlace(Utf8JsonWriter json, Comparison comparison, Benchmark benchmark, Place place)
    {
        json.WriteStartObject(JsonNamingPolicy.CamelCase.ConvertName(place.ToString()));
        WriteNumber(json, "median", comparison.Median(benchmark, place));
        json.WriteStartArray("rounds");
        foreach (double figure in comparison.Figures(benchmark, place))
        {
            json.WriteNumberValue(figure);
        }

        json.WriteEndArray();
        json.WriteString("problem", comparison.Problem(benchmark, place));
        json.WriteString("checksum", comparison.Checksum(benchmark, place));
        json.WriteEndObject();
    }

    private static void WriteThreshold(Utf8JsonWriter json, string name, Comparison comparison, Benchmark benchmark, Threshold? threshold)
    {
        if (threshold is null)
        {
            json.WriteNull(name);
            return;
        }

        json.WriteStartObject(name);
        json.WriteString("text", threshold.Text);
        if (comparison.Holds(benchmark, threshold) is bool holds)
        {
            json.WriteBoolean("holds", holds);
        }
        else
        {
            json.WriteNull("holds");
        }

        json.WriteEndObject();
    }

    internal static void WriteNumber(Utf8JsonWriter json, string name, double? number)
    {
        if (number is double value)
        {
            json.WriteNumber(name, value);
        }
        else
        {
            json.WriteNull(name);
        }
    }
}
