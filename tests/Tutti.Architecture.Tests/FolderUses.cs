using System.Text.RegularExpressions;

namespace Tutti.Architecture.Tests;

/// <summary>
/// Which folders of a project use each other's types, read from the sources: a folder is a part of its project, though all share one
/// namespace. A name counts where it stands as a type does: in a declaration, a cast, a type argument, before a member.
/// </summary>
internal sealed partial class FolderUses
{
    /// <summary>For each folder, the folders that it uses.</summary>
    private readonly Dictionary<string, HashSet<string>> _uses = [];

    /// <summary>A use that shows it, for messages: (from, to) to "file: type".</summary>
    private readonly Dictionary<(string, string), string> _witnesses = [];

    private FolderUses()
    {
    }

    /// <param name="sources">Folder (empty for the project's own), file name and text of each source file.</param>
    public static FolderUses Of(IEnumerable<(string Folder, string File, string Text)> sources)
    {
        var uses = new FolderUses();
        var files = sources.Select(source => (source.Folder, source.File, Text: Bare(source.Text))).ToList();
        var owners = (
            from file in files
            from Match type in TypeDeclaration().Matches(file.Text)
            select (Name: type.Groups[1].Value, file.Folder)).ToLookup(type => type.Name, type => type.Folder);
        foreach ((string folder, string file, string text) in files)
        {
            foreach (string type in TypesIn(text).Where(type => owners.Contains(type) && !owners[type].Contains(folder)))
            {
                foreach (string other in owners[type])
                {
                    uses.Add(folder, other, $"{file}: {type}");
                }
            }
        }

        return uses;
    }

    public static FolderUses OfProject(string project)
    {
        string root = Path.Combine(House.Root, "src", project);
        return Of(House.Sources(Path.Combine("src", project)).Select(path => (
            Path.GetRelativePath(root, Path.GetDirectoryName(path)!) is var folder && folder == "." ? string.Empty : folder,
            Path.GetFileName(path),
            File.ReadAllText(path))));
    }

    /// <summary>The circles: folders that reach each other, each group sorted and joined by spaces; "." is the project's own folder.</summary>
    public IEnumerable<string> Circles()
    {
        Dictionary<string, HashSet<string>> reached = _uses.Keys.ToDictionary(folder => folder, Reach);
        return reached.Keys
            .Select(folder => reached[folder].Where(other => reached.TryGetValue(other, out HashSet<string>? back) && back.Contains(folder)).ToHashSet())
            .Where(group => group.Count > 1)
            .Select(group => string.Join(' ', group.Select(folder => folder.Length == 0 ? "." : folder).Order(StringComparer.Ordinal)))
            .Distinct();
    }

    /// <summary>The uses within a circle, one a line.</summary>
    public string Explain(string circle)
    {
        string[] folders = [.. circle.Split(' ').Select(folder => folder == "." ? string.Empty : folder)];
        return string.Concat(
            from pair in _witnesses
            where folders.Contains(pair.Key.Item1) && folders.Contains(pair.Key.Item2)
            select $"\n    {pair.Key.Item1} uses {pair.Key.Item2} ({pair.Value})");
    }

    private void Add(string from, string to, string witness)
    {
        if (!_uses.TryGetValue(from, out HashSet<string>? uses))
        {
            _uses[from] = uses = [];
        }

        uses.Add(to);
        _witnesses.TryAdd((from, to), witness);
    }

    private HashSet<string> Reach(string folder)
    {
        HashSet<string> reached = [];
        Stack<string> open = new([folder]);
        while (open.TryPop(out string? next))
        {
            foreach (string other in _uses.GetValueOrDefault(next, []).Where(reached.Add))
            {
                open.Push(other);
            }
        }

        return reached;
    }

    private static HashSet<string> TypesIn(string text) =>
    [
        .. TypeUse().Matches(text).SelectMany(match => match.Groups["type"].Captures).Select(capture => capture.Value),
        .. BaseList().Matches(text).SelectMany(match => Word().Matches(match.Groups[1].Value)).Select(word => word.Value),
    ];

    /// <summary>Without comments and the text of strings.</summary>
    private static string Bare(string text) => Unread().Replace(text, match => match.Value.StartsWith('"') ? "\"\"" : string.Empty);

    [GeneratedRegex("""
        "{3}[\s\S]*?"{3}|//[^\n]*|"(?:\\.|[^"\\\n])*"
        """, RegexOptions.IgnorePatternWhitespace)]
    private static partial Regex Unread();

    [GeneratedRegex(@"^(?:\w+ )*(?:class|struct|interface|enum|record(?: struct)?|delegate [\w<>?*,.]+) (\w+)", RegexOptions.Multiline)]
    private static partial Regex TypeDeclaration();

    // Before a name: a declared type, a member, a type argument; behind new, is, typeof; in a cast.
    [GeneratedRegex(@"(?<![\w.])(?<type>[A-Z]\w*)(?=\s+\w|[.*?\[<>])|\b(?:new|is|as|not|or|and)\s+(?<type>[A-Z]\w*)|\((?<type>[A-Z]\w*)(?=\))|[<,]\s*(?<type>[A-Z]\w*)(?=\s*[,>])")]
    private static partial Regex TypeUse();

    [GeneratedRegex(@"\b(?:class|struct|interface|record)\s[^{;]*?:([^{;]*)")]
    private static partial Regex BaseList();

    [GeneratedRegex(@"\w+")]
    private static partial Regex Word();
}
