using System.Globalization;

namespace Tutti.Guests.Disks.Grub;

/// <summary>
/// Takes a script apart. Whatever the text, it ends: nesting and the number of commands are limited, and each step goes forward. An error
/// moves to the text's end, so that all that is open there closes.
/// </summary>
internal sealed class GrubParser(string text)
{
    /// <summary>Real files nest four deep and have some hundred commands; each of the system's kernels adds 40.</summary>
    private const int MaxDepth = 40;
    private const int MaxCommands = 50_000;

    private static readonly string[] s_then = ["then"];
    private static readonly string[] s_branches = ["elif", "else", "fi"];
    private static readonly string[] s_do = ["do"];
    private static readonly string[] s_done = ["done"];
    private static readonly string[] s_closers = ["then", "elif", "else", "fi", "do", "done"];

    private int _at;
    private Token _token;
    private GrubWord _word;
    private int _commands;
    private int _depth;

    private enum Token
    {
        End,
        Separator,
        Word,
        Open,
        Close,
    }

    /// <summary>What is not understood, with its line; null for nothing.</summary>
    public string? Error { get; private set; }

    public GrubCommand[] ParseAll()
    {
        Next();
        GrubCommand[] commands = ParseBlock([]);
        if (_token != Token.End)
        {
            Fail("closes nothing");
        }

        return commands;
    }

    /// <summary>Commands up to a word that ends them, which stays; or up to "}" or the text's end.</summary>
    private GrubCommand[] ParseBlock(string[] ends)
    {
        List<GrubCommand> commands = [];
        if (++_depth > MaxDepth)
        {
            Fail("nests too deep");
        }

        while (true)
        {
            while (_token == Token.Separator)
            {
                Next();
            }

            if (_token is Token.End or Token.Close || IsOneOf(ends))
            {
                break;
            }

            if (_token == Token.Open || IsOneOf(s_closers))
            {
                Fail("is out of place");
                break;
            }

            if (++_commands > MaxCommands)
            {
                Fail("begins more commands than any menu has");
                break;
            }

            commands.Add(ParseCommand());
        }

        _depth--;
        return [.. commands];
    }

    private GrubCommand ParseCommand()
    {
        if (IsWord("if"))
        {
            return ParseIf();
        }

        if (IsWord("while") || IsWord("until"))
        {
            bool isUntil = IsWord("until");
            Next();
            GrubCommand[] condition = ParseBlock(s_do);
            Expect("do");
            GrubCommand[] body = ParseBlock(s_done);
            Expect("done");
            return new GrubLoop(condition, body, isUntil);
        }

        if (IsWord("for"))
        {
            return ParseFor();
        }

        if (IsWord("function"))
        {
            Next();
            GrubWord name = Take();
            while (_token == Token.Separator)
            {
                Next();
            }

            return new GrubFunction(name, ParseBraces(out _));
        }

        if (IsWord("!"))
        {
            // A chain of them is one command each, so that it cannot call without end.
            bool isNot = false;
            while (IsWord("!"))
            {
                isNot = !isNot;
                Next();
            }

            GrubCommand command = _token == Token.Word && !IsOneOf(s_closers) ? ParseSimple() : new GrubSimple([]);
            return isNot ? new GrubNot(command) : command;
        }

        return ParseSimple();
    }

    private GrubIf ParseIf()
    {
        List<(GrubCommand[], GrubCommand[])> branches = [];
        GrubCommand[] otherwise = [];
        do
        {
            Next();
            GrubCommand[] condition = ParseBlock(s_then);
            Expect("then");
            branches.Add((condition, ParseBlock(s_branches)));
        }
        while (IsWord("elif"));
        if (IsWord("else"))
        {
            Next();
            otherwise = ParseBlock(s_branches);
        }

        Expect("fi");
        return new GrubIf(branches, otherwise);
    }

    private GrubFor ParseFor()
    {
        Next();
        GrubWord name = Take();
        Expect("in");
        List<GrubWord> values = [];
        while (_token == Token.Word)
        {
            values.Add(Take());
        }

        while (_token == Token.Separator)
        {
            Next();
        }

        Expect("do");
        GrubCommand[] body = ParseBlock(s_done);
        Expect("done");
        return new GrubFor(name, [.. values], body);
    }

    /// <summary>Words to the end of the command; with a block behind them it is an entry of the menu.</summary>
    private GrubCommand ParseSimple()
    {
        List<GrubWord> words = [];
        while (_token == Token.Word)
        {
            words.Add(Take());
        }

        if (_token != Token.Open)
        {
            return new GrubSimple([.. words]);
        }

        bool isSubmenu = words.Count > 0 && Is(words[0], "submenu");
        int start = _word.Start;
        GrubCommand[] body = ParseBraces(out int end);
        if (isSubmenu || (words.Count > 0 && Is(words[0], "menuentry")))
        {
            return new GrubMenuCommand([.. words.Skip(1)], body, isSubmenu);
        }

        // Any other command gets what is written there as its last word.
        return new GrubSimple([.. words, new GrubWord(start, end - start)]);
    }

    /// <param name="end">Behind the "}".</param>
    private GrubCommand[] ParseBraces(out int end)
    {
        if (_token != Token.Open)
        {
            Fail("should be {");
            end = text.Length;
            return [];
        }

        Next();
        GrubCommand[] body = ParseBlock([]);
        if (_token != Token.Close)
        {
            Fail("should be }");
        }

        end = _at;
        Next();
        return body;
    }

    private bool Is(GrubWord word, string name) => text.AsSpan(word.Start, word.Length).SequenceEqual(name);

    private bool IsWord(string name) => _token == Token.Word && Is(_word, name);

    private bool IsOneOf(string[] names) => _token == Token.Word && Array.Exists(names, name => Is(_word, name));

    private void Expect(string name)
    {
        if (!IsWord(name))
        {
            Fail($"should be {name}");
        }

        Next();
    }

    private GrubWord Take()
    {
        GrubWord word = _word;
        if (_token != Token.Word)
        {
            Fail("should be a word");
            word = default;
        }

        Next();
        return word;
    }

    private void Fail(string what)
    {
        if (Error == null)
        {
            int line = text.AsSpan(0, Math.Min(_word.Start, text.Length)).Count('\n') + 1;
            string sign = _token switch
            {
                Token.End => "the end",
                Token.Word => $"'{text.AsSpan(_word.Start, Math.Min(_word.Length, 20))}'",
                _ => "what is there",
            };
            Error = string.Create(CultureInfo.InvariantCulture, $"line {line}: {sign} {what}");
        }

        (_token, _at, _word) = (Token.End, text.Length, new GrubWord(text.Length, 0));
    }

    private void Next()
    {
        SkipBlanks();
        int start = _at;
        if (_at >= text.Length)
        {
            (_token, _word) = (Token.End, new GrubWord(text.Length, 0));
            return;
        }

        if (text[_at] is '\n' or ';')
        {
            _at++;
            (_token, _word) = (Token.Separator, new GrubWord(start, 1));
            return;
        }

        if (text[_at] is '|' or '&' or '<' or '>')
        {
            (_token, _word) = (Token.Word, new GrubWord(start, 1));
            Fail("is not known to GRUB");
            return;
        }

        if (text[_at] is '{' or '}')
        {
            _token = text[_at] == '{' ? Token.Open : Token.Close;
            _at++;
            _word = new GrubWord(start, 1);
            return;
        }

        bool isWhole = SkipWord();
        _at = Math.Min(_at, text.Length);
        if (!isWhole)
        {
            (_token, _word) = (Token.Word, new GrubWord(start, _at - start));
            Fail("has a quote that does not end");
            return;
        }

        (_token, _word) = (Token.Word, new GrubWord(start, _at - start));
    }

    private void SkipBlanks()
    {
        while (_at < text.Length)
        {
            if (text[_at] is ' ' or '\t' or '\r')
            {
                _at++;
            }
            else if (text[_at] == '\\' && _at + 1 < text.Length && text[_at + 1] == '\n')
            {
                _at += 2;
            }
            else if (text[_at] == '#')
            {
                int end = text.IndexOf('\n', _at);
                _at = end < 0 ? text.Length : end;
            }
            else
            {
                return;
            }
        }
    }

    /// <summary>False for a quote without an end.</summary>
    private bool SkipWord()
    {
        while (_at < text.Length)
        {
            switch (text[_at])
            {
                case ' ' or '\t' or '\r' or '\n' or ';' or '|' or '&' or '<' or '>' or '{' or '}':
                    return true;
                case '$' when _at + 1 < text.Length && text[_at + 1] == '{':
                    _at += 2 + GrubExpansion.NameLength(text.AsSpan(_at + 2));
                    _at += _at < text.Length && text[_at] == '}' ? 1 : 0;
                    break;
                case '\\':
                    _at = Math.Min(_at + 2, text.Length);
                    break;
                case '\'':
                    int end = text.IndexOf('\'', _at + 1);
                    if (end < 0)
                    {
                        return false;
                    }

                    _at = end + 1;
                    break;
                case '"':
                    if (!SkipQuoted())
                    {
                        return false;
                    }

                    break;
                default:
                    _at++;
                    break;
            }
        }

        return true;
    }

    private bool SkipQuoted()
    {
        for (_at++; _at < text.Length; _at++)
        {
            if (text[_at] == '"')
            {
                _at++;
                return true;
            }

            _at += text[_at] == '\\' ? 1 : 0;
        }

        return false;
    }
}
