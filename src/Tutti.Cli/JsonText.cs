using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace Tutti.Cli;

/// <summary>What <c>--json</c> prints: written for a terminal, not for a web page, so that paths and signs stay readable.</summary>
internal static class JsonText
{
    internal static string Format(Action<Utf8JsonWriter> write, bool indented = true)
    {
        using MemoryStream bytes = new();
        using (Utf8JsonWriter json = new(bytes, new JsonWriterOptions { Indented = indented, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            write(json);
        }

        return Encoding.UTF8.GetString(bytes.ToArray());
    }
}
