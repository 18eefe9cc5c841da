using System.Reflection;
using System.Runtime.InteropServices;
using Tutti.Machine;

namespace Tutti.Cli;

/// <summary><c>tutti version</c>.</summary>
internal static class VersionCommand
{
    internal static string Version { get; } = typeof(VersionCommand).Assembly
        .GetCustomAttribute<AssemblyInformationalVersionAttribute>()!.InformationalVersion;

    internal static int Run(TextWriter output, bool json)
    {
        IEnumerable<string> engines = MachineEngines.All.Select(e => e.Name);
        if (!json)
        {
            output.WriteLine($"tutti {Version} ({RuntimeInformation.FrameworkDescription}, {RuntimeInformation.RuntimeIdentifier}; engines: {string.Join(", ", engines)})");
            return ExitStatus.Success;
        }

        output.WriteLine(JsonText.Format(
            writer =>
            {
                writer.WriteStartObject();
                writer.WriteString("version", Version);
                writer.WriteString("runtime", RuntimeInformation.FrameworkDescription);
                writer.WriteString("platform", RuntimeInformation.RuntimeIdentifier);
                writer.WriteStartArray("engines");
                foreach (string engine in engines)
                {
                    writer.WriteStringValue(engine);
                }

                writer.WriteEndArray();
                writer.WriteEndObject();
            },
            indented: false));
        return ExitStatus.Success;
    }
}
