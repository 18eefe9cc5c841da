using System.Text;

namespace Tutti.Cli.Tests;

/// <summary>What is sent to a terminal at the end, for what the guest has sent.</summary>
public sealed class TerminalModesTests
{
    [Theory]
    [InlineData("plain \e[2J\e[5;5Htext\e]0;title\a", "")]
    [InlineData("\e[?1049;1h\e[?25l\e=", "\e[?1049l\e[?1l\e[?25h\e>")]
    [InlineData("\e[?1049;1h\e[?25l\e=\e[?1049;1l\e[?25h\e>", "")]
    [InlineData("\e[?1000;1003;1006h\e[?2004h", "\e[?1000l\e[?1003l\e[?1006l\e[?2004l")]
    [InlineData("\e[?2004h\e[?1000h\e[!p", "\e[?1000l\e[?2004l")]
    [InlineData("\e[?2048h\e[?2031h\e[?9001h\e[?69h\e[?2026h", "\e[?2031l\e[?2048l\e[?9001l\e[?69l\e[?2026l")]
    [InlineData("\e[?8l\e[?7l", "\e[?7h\e[?8h")]
    [InlineData("\e[4h\e[20h\e[2h\e[12l", "\e[2l\e[4l\e[20l\e[12h")]
    [InlineData("\e[4h\e[4l\e[12l\e[12h", "")]
    [InlineData("\e[>4;2m\e[>1;3m", "\e[>1m\e[>4m")]
    [InlineData("\e[>4;2m\e[>4;0m\e[>4;1m\e[>4m", "")]
    [InlineData("\e[>4;2m\e[>1;3m\e[>m", "")]
    [InlineData("\e[>1u\e[>5u\e[<u", "\e[<1u")]
    [InlineData("\e[>1u\e[<9u", "")]
    [InlineData("\e[>1u\e[?1049h\e[>3u\e[>3u", "\e[<2u\e[?1049l\e[<1u")]
    [InlineData("\e[?1049h\e[>3u\e[?1049l", "")]
    [InlineData("\e[=5u", "\e[=0u")]
    [InlineData("\e[=5u\e[=0u", "")]
    [InlineData("\e[1;31mred", "\e[m")]
    [InlineData("\e[1;31mred\e[0mplain\e[31m\e[m", "")]
    [InlineData("\e(0lqk", "\e(B")]
    [InlineData("\e(0lqk\e(B", "")]
    [InlineData("\e)0\u000eq", "\u000f")]
    [InlineData("\e)0\u000eq\u000f", "")]
    [InlineData("\e%@", "\e%G")]
    [InlineData("\e[3;9r", "\e7\e[r\e8")]
    [InlineData("\e[3;9r\e[r", "")]
    [InlineData("\e[4 q", "\e[0 q")]
    [InlineData("\e[?10\n00\rh", "\e[?1000l")]
    [InlineData("\e[?1000\u0018h\e[?1002\u001ah\e[?10\e[03h", "")]
    [InlineData("\e[?1049h\e[31m\e(0\e[4h\e[>4;1m\e[>1u\e[=1u\e[3;4r\ec", "")]
    public void WhatWasChangedIsChangedBack(string output, string undo)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(output);
        for (int cut = 0; cut <= bytes.Length; cut++)
        {
            TerminalModes modes = new();
            modes.Watch(bytes.AsSpan(0, cut));
            modes.Watch(bytes.AsSpan(cut));
            Assert.Equal(undo, Encoding.ASCII.GetString(modes.Undo()));
        }
    }

    [Fact]
    public void HostileOutputIsBounded()
    {
        TerminalModes modes = new();
        string list = string.Join(';', Enumerable.Range(0, 100_000));
        modes.Watch(Encoding.ASCII.GetBytes($"\e[?{list}h\e[{list}h\e[{new string('9', 100_000)}h\e[>{new string('9', 100)};1m"));
        for (int i = 0; i < 100_000; i++)
        {
            modes.Watch(Encoding.ASCII.GetBytes($"\e[>{i};1m\e[>1u"));
        }

        Assert.InRange(modes.Undo().Length, 1, 500);
    }
}
