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

    private static (string Sent, List<ConsoleKeyCommand> Commands) Type(KeyFilter filter, string keys, long time)
    {
        StringBuilder sent = new();
        List<ConsoleKeyCommand> commands = [];
        foreach (char key in keys)
        {
            ConsoleKeyCommand command = filter.Take((byte)key, time, out bool forGuest);
            if (forGuest)
            {
                sent.Append(key);
            }

            if (command != ConsoleKeyCommand.None)
            {
                commands.Add(command);
            }
        }

        return (sent.ToString(), commands);
    }
}
