using System.Text;
using System.Text.RegularExpressions;

namespace Tutti.Cli.Tests;

/// <summary>What of a guest's output reaches a terminal with <c>--console-filter</c>.</summary>
public sealed partial class ControlFilterTests
{
    private const int ShortRuns = 300;
    private const int FuzzBytes = 20_000;

    /// <summary>Pieces of hostile output, which the fuzz puts together and breaks.</summary>
    internal static readonly string[] Pieces =
    [
        "\e[", "\e]", "\eP", "\e_", "\e^", "\eX", "\ek", "\e", "\e\\", "\u009b", "\u009d", "\u0090", "\u009c", "\u0085", "\a", "\u0018", "\u001a", "\n", "\0", "\u0005", "\u000e",
        "0", "1", "3", "4", "5", "6", "7", "9", "21", "52", "1000", "1049", "2004", ";", ":", "?", ">", "=", "<", "!", "\"", "$", "'", " ", "#", "%", "(", "*", "+",
        "c", "n", "t", "q", "p", "m", "h", "l", "i", "J", "H", "b", "s", "u", "x", "y", "G", "R", "P", "Z", "0;pwned", "52;c;Y3VybA==", "\u001b[31m", "\u001b[2J", "text", "é", "漢", "\U0001F600",
        "\e[6n", "\e[c", "\e[>c", "\e[>q", "\eP$qm\e\\", "\e[?25$p", "\e[18t", "\e[21t", "\e]10;?\a", "\e]2;title\a", "\eZ", "\e[?1003h", "\e[5i", "\e P", "\e[\"q",
    ];

    [Theory]
    [InlineData("plain text\r\n\ttab\b\a\f\v")]
    [InlineData("\e[1;38;5;208mcolour\e[38:2::10:20:30mmore\e[m")]
    [InlineData("\e[H\e[2J\e[12;40Hhere\e[K\e[1A\e[5C\e[d\e[3G\e[0J")]
    [InlineData("\e[?1049h\e[?25l\e[?1h\e=full screen\e[?1;25;1049l\e>")]
    [InlineData("\e7\e[2;20r\e[3S\e[2T\e[4L\e[4M\e[2@\e[2P\e[9X\e8\eM\eD\eE\e[s\e[u")]
    [InlineData("\e(0lqk\e(B\e)0\u000e\u000f\e#8")]
    [InlineData("\e[4h\e[4l\e[!p\e[2 q\e[?2004h")]
    [InlineData("häß 漢字 \U0001F600 \u00a0")]
    public void TextColoursAndCursorMovesPass(string output) => Assert.Equal(output, Filter(output));

    [Theory]
    [InlineData("a\e]0;title\ab", "ab")]
    [InlineData("a\e]2;title\e\\b", "ab")]
    [InlineData("a\e]52;c;Y3VybCBldmlsfHNo\ab", "ab")]
    [InlineData("a\e]8;;file:///x\e\\b", "ab")]
    [InlineData("a\e]4;1;?\ab\e]P1ff0000c\e]Rd", "abcd")]
    [InlineData("a\u009d2;title\u009cb", "ab")]
    [InlineData("a\e[c\e[>c\e[=c\e[0c\eZb", "ab")]
    [InlineData("a\e[5n\e[6n\e[?6n\e[?996nb", "ab")]
    [InlineData("a\e[?25$p\e[4$p\e[1;1;1;1;1;1*y\e[xb", "ab")]
    [InlineData("a\eP$qm\e\\\eP+q544e\e\\\eP1000p\e\\\ePq#0~\n~\e\\b", "ab")]
    [InlineData("a\e[18t\e[21t\e[3;0;0t\e[22;0tb", "ab")]
    [InlineData("a\e[?1000h\e[?1006h\e[?1004h\e[?9hb", "ab")]
    [InlineData("a\e[5i\e[4i\e[?5ib", "ab")]
    [InlineData("a\u0005\0\u0011\u0013\u007fb", "ab")]
    [InlineData("a\eP0;1|17/0d\e\\\e[>4;2m\e[>1u\e[=1u\e[?66h\e[?67h\e[20h\e[2h\e[12lb", "ab")]
    [InlineData("a\e_application\e\\\e^private\e\\\eXstring\e\\\ektitle\e\\b", "ab")]
    [InlineData("a\ec\e[3J\e[?3h\e F\e G\e%@\e%G\e[62;1\"pb", "ab")]
    [InlineData("a\e[2000000000b\e[99999999999;1Hb", "ab")]
    [InlineData("a\e[6\u0018nb\e[3\u001a1m", "anb1m")]
    [InlineData("a\e[?1049;1003;25hb", "a\e[?1049;25hb")]
    public void WhatATerminalAnswersOrKeepsDoesNot(string output, string expected) => Assert.Equal(expected, Filter(output));

    [Theory]
    [InlineData("\u009b31mred", "\e[31mred")]
    [InlineData("a\u0085b\u008dc", "a\eEb\eMc")]
    [InlineData("a\u009b6nb", "ab")]
    public void ControlsOfOneByteAreTheirSevenBitForms(string output, string expected)
    {
        Assert.Equal(expected, Filter(output));
        Assert.Equal(expected, Filter(Encoding.Latin1.GetBytes(output)));
    }

    [Fact]
    public void WhatIsNoUtf8IsShownAsThat()
    {
        Assert.Equal("a\uFFFDb", Filter([(byte)'a', 0xE9, (byte)'b']));
        Assert.Equal("\uFFFD\e[31m", Filter([0xE2, 0x82, 0x1B, .. "[31m"u8]));
        Assert.Equal("\uFFFD\e[31m", Filter([0xC0, 0x9B, .. "31m"u8]));
        Assert.Equal("\uFFFD\uFFFD\uFFFD", Filter([0xF8, 0xA0, 0xFF]));
    }

    [Fact]
    public void StringWithoutAnEndHidesOneLineOnly()
    {
        Assert.Equal("\nKernel panic\n", Filter("\e]0;oops\r\nKernel panic\n"));
        Assert.Equal("\e[1mx", Filter("\eP never ends \e[1mx"));
        Assert.Equal("z", Filter("\e[" + new string('1', 100_000) + "mz"));
        Assert.Equal("z", Filter("\e]" + new string('1', 100_000) + "\az"));
    }

    [Fact]
    public void CutsMakeNoDifference()
    {
        byte[] bytes = Encoding.UTF8.GetBytes(string.Concat(Pieces));
        string whole = Filter(bytes);
        for (int cut = 0; cut <= bytes.Length; cut++)
        {
            ControlFilter filter = new();
            Assert.Equal(whole, Text(filter.Filter(bytes.AsSpan(0, cut))) + Text(filter.Filter(bytes.AsSpan(cut))));
        }

        ControlFilter single = new();
        Assert.Equal(whole, string.Concat(bytes.Select(b => Text(single.Filter([b])))));
    }

    /// <summary>The list of what may pass, said a second time and in another way: the whole output is made of it.</summary>
    [Fact]
    [Trait("Category", "Fuzz")]
    public void NothingElseComesOutOfRandomOutput()
    {
        int seed = Setting("TUTTI_FUZZ_SEED", 1);
        DateTime end = DateTime.UtcNow.AddSeconds(Setting("TUTTI_FUZZ_SECONDS", 0));
        UTF8Encoding strict = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);
        for (int run = 0; run < ShortRuns || DateTime.UtcNow < end; run++)
        {
            Random random = new(unchecked(seed + run));
            ControlFilter filter = new();
            using MemoryStream output = new();
            foreach (byte[] part in MakeOutput(random, FuzzBytes / 10).Chunk(random.Next(1, ControlFilter.MaxInput)))
            {
                output.Write(filter.Filter(part));
            }

            string text = strict.GetString(output.ToArray());
            Assert.True(Allowed().IsMatch(text), $"seed {unchecked(seed + run)}: {Regex.Escape(text)}");
        }
    }

    /// <summary>Pieces, some of them broken, and random bytes.</summary>
    internal static byte[] MakeOutput(Random random, int length)
    {
        List<byte> bytes = [];
        while (bytes.Count < length)
        {
            byte[] piece = random.Next(8) == 0 ? Encoding.Latin1.GetBytes(Pieces[random.Next(Pieces.Length)].Replace('漢', 'x')) : Encoding.UTF8.GetBytes(Pieces[random.Next(Pieces.Length)]);
            if (random.Next(8) == 0)
            {
                piece[random.Next(piece.Length)] = (byte)random.Next(256);
            }

            bytes.AddRange(piece[..(random.Next(16) == 0 ? random.Next(piece.Length + 1) : piece.Length)]);
        }

        return [.. bytes];
    }

    internal static byte[] FilterAll(byte[] bytes)
    {
        ControlFilter filter = new();
        return [.. bytes.Chunk(ControlFilter.MaxInput).SelectMany(part => filter.Filter(part).ToArray())];
    }

    private static string Filter(string output) => Filter(Encoding.UTF8.GetBytes(output));

    private static string Filter(byte[] output) => Text(FilterAll(output));

    private static string Text(ReadOnlySpan<byte> bytes) => Encoding.UTF8.GetString(bytes);

    private static int Setting(string name, int otherwise) =>
        int.TryParse(Environment.GetEnvironmentVariable(name), out int value) ? value : otherwise;

    [GeneratedRegex(
        """
        ^(
          [\x07-\x0F\x20-\x7E\u00A0-\uFFFF]
        | \x1B [78DEHM=>]
        | \x1B [()*+] [0AB12]
        | \x1B \# [34568]
        | \x1B \[ [0-9;:]* m
        | \x1B \[ [0-9]* ( ; [0-9]* )? [Hfr]
        | \x1B \[ [0-9]* [@A-GILMPSTXZ`abdeg]
        | \x1B \[ 0* [012]? [JK]
        | \x1B \[ 0* 4 [hl]
        | \x1B \[ [su]
        | \x1B \[ 0* [0-6]? \  q
        | \x1B \[ ! p
        | \x1B \[ \? (1|5|6|7|12|25|47|1047|1048|1049|2004) ( ; (1|5|6|7|12|25|47|1047|1048|1049|2004) )* [hl]
        )*$
        """,
        RegexOptions.IgnorePatternWhitespace | RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant | RegexOptions.NonBacktracking)]
    private static partial Regex Allowed();
}
