using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using Tutti.Compare;

namespace Tutti.Programs;

/// <summary>The comparison for other programs: what the tables show, and the figures of each round, in seconds.</summary>
internal static class ProgramJson
{
    internal static string Format(
        Comparison comparison, IReadOnlyList<Benchmark> programs, IReadOnlyList<Place> places, int processors, int atOnce, IReadOnlyDictionary<string, string> facts)
    {
        using MemoryStream bytes = new();
        using (Utf8JsonWriter json = new(bytes, new JsonWriterOptions { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            foreach ((string name, string value) in facts)
            {
                json.WriteString(name, value);
            }

            json.WriteStartArray("programs");
            foreach (Benchmark program in programs)
            {
                Write(json, comparison, program, places, processors, atOnce);
            }

            json.WriteEndArray();
            json.WriteStartObject("geometricMeans");
            foreach ((Place other, _, _) in ProgramTable.Ratios(places))
            {
                ComparisonJson.WriteNumber(json, RatioName(other), ProgramTable.Mean(comparison, programs, other));
            }

            json.WriteEndObject();
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

    private static string RatioName(Place other) => other switch { Place.Qemu => "timesQemu", Place.Native => "shareOfNative", _ => "timesAgainst" };

    private static void Write(Utf8JsonWriter json, Comparison comparison, Benchmark program, IReadOnlyList<Place> places, int processors, int atOnce)
    {
        json.WriteStartObject();
        json.WriteString("name", program.Name);
        json.WriteString("what", program.What);
        foreach (Place place in places)
        {
            ComparisonJson.WritePlace(json, comparison, program, place);
        }

        foreach ((Place other, _, _) in ProgramTable.Ratios(places))
        {
            ComparisonJson.WriteNumber(json, RatioName(other), comparison.Times(program, other));
        }

        if (processors > 1)
        {
            json.WriteStartObject("together");
            foreach (Place place in places)
            {
                ComparisonJson.WritePlace(json, comparison, ProgramTable.TogetherOf(program), place);
                ComparisonJson.WriteNumber(
                    json,
                    JsonNamingPolicy.CamelCase.ConvertName(place.ToString()) + "Lost",
                    ProgramTable.Lost(comparison, program, place, processors, atOnce));
            }

            json.WriteEndObject();
        }

        json.WriteEndObject();
    }
}
