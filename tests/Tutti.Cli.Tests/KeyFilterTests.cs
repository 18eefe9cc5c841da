using System.Text;

namespace Tutti.Cli.Tests;

public sealed class KeyFilterTests
{
    [Theory]
    [InlineData("abc\u0003\u001a\r", "abc\u0003\u001a\r", "")]
    [InlineData("a\u0001xb", "ab", "Quit")]
    [InlineData("\u0001h\u0001H\u0001?", "", "Help Help Help")]
    [InlineData("\u0001\u0001", "\u0001", "")]
    [InlineData("\u0001zq", "q", "")]
    [InlineData("\u0001\u0001x", "\u0001x", "")]

    // kitty's: of each level, releases and the Control key's own between, another layout, Caps Lock.
    [InlineData("\e[97;5ux", "", "Quit")]
    [InlineData("\e[97;5u\e[120u", "", "Quit")]
    [InlineData("\e[97;5:1u\e[97;5:3u\e[57442;1:3u\e[120;1:1u", "\e[97;5:3u\e[57442;1:3u", "Quit")]
    [InlineData("\e[1092::97;5u\e[1095::120;;1095u", "", "Quit")]
    [InlineData("\e[97;69u\e[120:88;66u", "", "Quit")]
    [InlineData("\e[97;5u\e[97;5uq", "\e[97;5uq", "")]
    [InlineData("\e[97;5uzq", "q", "")]
    [InlineData("\u0001\e[120u", "", "Quit")]

    // xterm's modifyOtherKeys, and Windows'.
    [InlineData("\e[27;5;97~h", "", "Help")]
    [InlineData("\e[65;30;1;1;8;1_\e[65;30;1;0;8;1_\e[17;29;0;0;0;1_\e[88;45;120;1;0;1_", "\e[65;30;1;0;8;1_\e[17;29;0;0;0;1_", "Quit")]

    // Not the prefix.
    [InlineData("\e[97u\e[97;7ux\e[98;5ux\e[97;5x\e[A\e[200~x\e[201~\e[1;5C\e[27;5;98~x\e", "\e[97u\e[97;7ux\e[98;5ux\e[97;5x\e[A\e[200~x\e[201~\e[1;5C\e[27;5;98~x\e", "")]
    public void PrefixPartsOurKeysFromTheGuests(string keys, string forGuest, string commands)
    {
        KeyFilter filter = new();
        (string sent, List<ConsoleKeyCommand> seen) = Type(filter, keys, 0);
        Assert.Equal(forGuest, sent);
        Assert.Equal(commands, string.Join(' ', seen));
    }

    [Theory]
    [InlineData(400, true)]
    [InlineData(600, false)]
    public void CtrlCTwiceCountsOnlyInShortOrder(long gap, bool expected)
    {
        KeyFilter filter = new();
        (string first, List<ConsoleKeyCommand> none) = Type(filter, "\u0003", 1000);
        (string second, List<ConsoleKeyCommand> seen) = Type(filter, "\u0003", 1000 + gap);
        Assert.Empty(none);
        Assert.Equal("\u0003\u0003", first + second);
        Assert.Equal(expected, seen.Contains(ConsoleKeyCommand.Interrupt));
    }

    [Fact]
    [Trait("Category", "Fuzz")]
    public void RandomKeysAreTakenOneByOneAndWhole()
    {
        string[] pieces = ["\e[", "97", "120", ";", ":", "5", "u", "~", "_", "27", "99999999999", "\u0001", "x", "\e", "1", "3"];
        Random random = new(1);
        for (int run = 0; run < 20_000; run++)
        {
            string keys = string.Concat(Enumerable.Range(0, random.Next(1, 40)).Select(_ => pieces[random.Next(pieces.Length)]));
            (string sent, List<ConsoleKeyCommand> commands) = Type(new KeyFilter(), keys, 0);
            Assert.True(sent.Length <= keys.Length);
            Assert.True(sent == keys || keys.Contains('\u0001', StringComparison.Ordinal) || keys.Contains("97", StringComparison.Ordinal) || keys.Contains('_', StringComparison.Ordinal), keys);
            Assert.All(commands, command => Assert.NotEqual(ConsoleKeyCommand.Interrupt, command));
        }
    }

    private static (string Sent, List<ConsoleKeyCommand> Commands) Type(KeyFilter filter, string keys, long time)
    {
        StringBuilder sent = new();
        List<ConsoleKeyCommand> commands = [];
        ReadOnlySpan<byte> left = Encoding.Latin1.GetBytes(keys);
        while (!left.IsEmpty)
        {
            ConsoleKeyCommand command = filter.Take(left, time, out int length, out bool forGuest);
            if (forGuest)
            {
                sent.Append(Encoding.Latin1.GetString(left[..length]));
            }

            left = left[length..];

            if (command != ConsoleKeyCommand.None)
            {
                commands.Add(command);
            }
        }

        return (sent.ToString(), commands);
    }
}
