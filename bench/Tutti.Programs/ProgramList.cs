namespace Tutti.Programs;

/// <summary>One program that is measured: a file of bench/debian-programs/guest/programs.</summary>
/// <param name="Name">The file's name, for <c>--only</c>.</param>
/// <param name="Group">What it is one of, for <c>--only</c>, too.</param>
/// <param name="What">What it does, for people.</param>
internal sealed record DebianProgram(string Name, string Group, string What);

/// <summary>The programs that there are. Each says in its first line, "# group: what it does", what it is: adding one takes one file.</summary>
internal static class ProgramList
{
    /// <summary>Groups in the order of the table.</summary>
    internal static IReadOnlyList<string> Groups { get; } = ["compilers", "packers", "scripts", "data", "files", "codecs", "loops"];

    /// <exception cref="InvalidDataException">A file does not say what it is.</exception>
    internal static IReadOnlyList<DebianProgram> Read(string folder) =>
    [
        .. Directory.EnumerateFiles(folder)
            .Select(path => Parse(Path.GetFileName(path), File.ReadLines(path).FirstOrDefault() ?? string.Empty))
            .OrderBy(program => Groups.ToList().IndexOf(program.Group)).ThenBy(program => program.Name, StringComparer.Ordinal),
    ];

    internal static DebianProgram Parse(string name, string line)
    {
        string[] parts = line.StartsWith("# ", StringComparison.Ordinal) ? line[2..].Split(": ", 2) : [];
        return parts.Length == 2 && Groups.Contains(parts[0]) && parts[1].Trim().Length > 0
            ? new DebianProgram(name, parts[0], parts[1].Trim())
            : throw new InvalidDataException($"the first line of the program {name} is not '# GROUP: WHAT' with a group of {string.Join(", ", Groups)}");
    }

    /// <summary>Those that a list of names and groups means, each once; null means all.</summary>
    /// <exception cref="Compare.CompareException">A name is unknown.</exception>
    internal static IReadOnlyList<DebianProgram> Choose(IReadOnlyList<DebianProgram> all, string? only)
    {
        if (only is null)
        {
            return all;
        }

        string[] names = only.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
        string? unknown = names.FirstOrDefault(name => !all.Any(program => program.Name == name || program.Group == name));
        return unknown is null && names.Length > 0
            ? [.. all.Where(program => names.Contains(program.Name) || names.Contains(program.Group))]
            : throw new Compare.CompareException($"--only '{unknown ?? only}' names no program; --list shows them");
    }
}
