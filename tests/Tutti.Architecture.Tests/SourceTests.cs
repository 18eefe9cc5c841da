using System.Text.RegularExpressions;

namespace Tutti.Architecture.Tests;

/// <summary>What a source file may look like.</summary>
public partial class SourceTests
{
    /// <summary>Methods over the limit that are one table or one switch over encodings: splitting them would only hide them.</summary>
    private static readonly string[] LongTables = [];

    [Fact]
    public void Files_are_short_enough_to_read()
    {
        House.AssertNone(
            from folder in new[] { "src", "tests", "bench" }
            from path in House.Sources(folder)
            let lines = File.ReadLines(path).Count()
            where lines > House.MaxFileLines
            select $"{House.Name(path)}: {lines} lines");
    }

    [Fact]
    public void Methods_are_short_enough_to_read()
    {
        House.AssertNone(
            from path in House.Sources()
            from block in Blocks(File.ReadAllLines(path))
            where block.Lines > House.MaxMethodLines && !LongTables.Contains(block.Header)
            select $"{House.Name(path)}: {block.Lines} lines: {block.Header}");
    }

    [Fact]
    public void The_block_counter_measures_methods_and_skips_types()
    {
        string[] source =
        [
            "internal sealed class Timer(",
            "    int start)",
            "{",
            "    public void Run<T>()",
            "        where T : unmanaged",
            "    {",
            "        if (start > 0)",
            "        {",
            "            Step();",
            "        }",
            "    }",
            "}",
        ];
        Assert.Equal([("public void Run<T>()", 6), ("if (start > 0)", 3)], Blocks(source));
    }

    [Fact]
    public void Files_that_make_pointers_say_why_that_is_safe()
    {
        // Handlers of the interpreter that only pass on the state and the op they are given follow the contract in Op.cs.
        House.AssertNone(
            from project in House.Unsafe
            from path in House.Sources(Path.Combine("src", project))
            let text = File.ReadAllText(path)
            where PointerSources().IsMatch(text) && !text.Contains("SAFETY:", StringComparison.Ordinal)
            select House.Name(path));
    }

    [Fact]
    public void Nothing_is_left_to_be_done_in_the_sources()
    {
        House.AssertNone(
            from path in House.Sources()
            from line in File.ReadLines(path)
            where Unfinished().IsMatch(line)
            select $"{House.Name(path)}: {line.Trim()}");
    }

    [Fact]
    public void Nothing_is_called_after_a_shelf()
    {
        House.AssertNone(
            from path in House.Sources()
            from line in File.ReadLines(path)
            where ShelfNames().IsMatch(line)
            select $"{House.Name(path)}: {line.Trim()}");
    }

    /// <summary>
    /// The brace blocks of a file that are not types, with the line that they belong to and their length, braces included.
    /// The format gate puts braces of blocks on lines of their own and the closing one below the opening one.
    /// </summary>
    private static IEnumerable<(string Header, int Lines)> Blocks(string[] lines)
    {
        for (int open = 0; open < lines.Length; open++)
        {
            if (lines[open].TrimStart() != "{")
            {
                continue;
            }

            string indent = lines[open][..lines[open].IndexOf('{')];
            int close = Array.FindIndex(lines, open, line => line.StartsWith(indent + "}", StringComparison.Ordinal));
            int header = Array.FindLastIndex(lines, Math.Max(open - 1, 0), line => line.Length > indent.Length && line.StartsWith(indent, StringComparison.Ordinal) && line[indent.Length] is not (' ' or '#'));
            if (header >= 0 && close > open && !TypeDeclarations().IsMatch(lines[header]))
            {
                yield return (lines[header].Trim(), close - open + 1);
            }
        }
    }

    [GeneratedRegex(@"^\s*(?:\w+\s+)*(class|struct|interface|enum|record|namespace)\s")]
    private static partial Regex TypeDeclarations();

    [GeneratedRegex(@"NativeMemory\.|stackalloc|fixed \(|new (ReadOnly)?Span<\w+>\(|Unsafe\.|MemoryMarshal\.|delegate\* unmanaged|\bnint\b.*\*\)")]
    private static partial Regex PointerSources();

    [GeneratedRegex(@"\bTODO\b|\bFIXME\b|\bHACK\b|\bNotImplementedException\b")]
    private static partial Regex Unfinished();

    [GeneratedRegex(@"\b(class|struct|interface|record)\s+\w*(Util|Utils|Utility|Helper|Helpers|Manager|Common)\b")]
    private static partial Regex ShelfNames();
}
