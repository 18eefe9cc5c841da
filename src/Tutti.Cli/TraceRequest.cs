using Tutti.Cpu;
using Tutti.Host;
using Tutti.Machine;

namespace Tutti.Cli;

/// <summary>The word behind <c>--trace</c>, checked.</summary>
/// <param name="Kinds">What is traced.</param>
/// <param name="Path">The file that it goes to; null for standard error.</param>
internal sealed record TraceRequest(TraceKinds Kinds, string? Path)
{
    private static readonly TraceKinds[] All = [.. Enum.GetValues<TraceKinds>().Where(kind => kind != TraceKinds.None)];

    internal static IReadOnlyList<string> Names { get; } = [.. All.Select(Name)];

    internal static string Name(TraceKinds kind) => kind.ToString().ToLowerInvariant();

    /// <exception cref="UserException">A name is unknown, or nothing that this engine can tell; or no name is there.</exception>
    internal static TraceRequest Parse(string text, IEngine engine)
    {
        // The first colon ends the names, none of which has one; a path may have more.
        int colon = text.IndexOf(':', StringComparison.Ordinal);
        string names = colon < 0 ? text : text[..colon];
        string? path = colon < 0 ? null : text[(colon + 1)..];
        if (path?.Length == 0)
        {
            throw new UserException($"--trace '{text}' names no file behind its colon; write for example {Name(All[0])}:trace.txt");
        }

        TraceKinds possible = engine.Traces | MachineOptions.MachineTraces;
        TraceKinds kinds = TraceKinds.None;
        foreach (string name in names.Split(','))
        {
            TraceKinds kind = Array.Find(All, kind => Name(kind) == name);
            if (kind == TraceKinds.None)
            {
                throw new UserException($"--trace takes no '{name}'; it takes {string.Join(", ", Names)}, and a file behind a colon");
            }

            if ((kind & possible) == 0)
            {
                throw new UserException($"the engine {engine.Name} can't trace {name}; it can trace {string.Join(", ", All.Where(k => (k & possible) != 0).Select(Name))} (--engine names another)");
            }

            kinds |= kind;
        }

        return new TraceRequest(kinds, path);
    }

    /// <exception cref="UserException">The file can't be written.</exception>
    internal TraceWriter Open()
    {
        try
        {
            return new TraceWriter(Kinds, Path == null ? null : OwnerOnly.Write(Path, FileMode.Create));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw new UserException($"--trace cannot write '{Path}': {e.Message}");
        }
    }
}
