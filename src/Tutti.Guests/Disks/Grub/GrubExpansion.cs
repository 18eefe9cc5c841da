using System.Buffers;
using System.Text;

namespace Tutti.Guests.Disks.Grub;

/// <summary>
/// Makes words of what is written: quotes go, variables are filled in, and those outside of quotes fall apart at blanks. Source: GNU GRUB
/// manual 2.12, "Shell-like scripting".
/// </summary>
/// <param name="find">A variable's value, or that of a function's parameter.</param>
/// <param name="limits">What may come out; from then on words are cut off.</param>
internal sealed class GrubExpansion(Func<string, string> find, GrubLimits limits)
{
    private static readonly SearchValues<char> s_nameLetters = SearchValues.Create("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");

    private readonly StringBuilder _word = new();
    private bool _isWord;

    /// <summary>A word that stays one: the value of a variable that is set, and what stands in quotes.</summary>
    public string Join(ReadOnlySpan<char> text)
    {
        List<string> parts = [];
        Split(text, parts);
        return string.Join(' ', parts);
    }

    /// <summary>The words that a written one becomes: none for a variable that is empty.</summary>
    public void Split(ReadOnlySpan<char> text, List<string> into)
    {
        // A command of a megabyte can name a variable of a megabyte at each second letter: what is over the limit is not looked at.
        bool isQuoted = false;
        for (int i = 0; i < text.Length && !limits.IsExhausted; i++)
        {
            char letter = text[i];
            if (letter == '\'' && !isQuoted)
            {
                int end = text[(i + 1)..].IndexOf('\'');
                end = end < 0 ? text.Length : i + 1 + end;
                Append(text[(i + 1)..end]);
                _isWord = true;
                i = end;
            }
            else if (letter == '"')
            {
                isQuoted = !isQuoted;
                _isWord = true;
            }
            else if (letter == '\\' && i + 1 < text.Length)
            {
                i++;
                AppendEscaped(text[i], isQuoted, IsCode(text[i..]));
            }
            else if (letter == '$' && VariableName(text[(i + 1)..], out int length) is { } name)
            {
                i += length;
                AppendValue(find(name), isQuoted, into);
            }
            else if (letter != '$' || isQuoted || i + 1 >= text.Length || text[i + 1] != '"')
            {
                // $"..." is a text that GRUB translates.
                Append(text.Slice(i, 1));
            }
        }

        Take(into);
    }

    /// <param name="letter">Behind the backslash.</param>
    /// <param name="isQuoted">Whether that stands in double quotes.</param>
    /// <param name="isCode">Whether it is \xHH, which Fedora's GRUB leaves as it is: systemd writes names of devices so.</param>
    private void AppendEscaped(char letter, bool isQuoted, bool isCode)
    {
        if (letter == '\n')
        {
            return;
        }

        if (isQuoted ? letter is not ('$' or '"' or '\\') : isCode)
        {
            Append("\\");
        }

        Append([letter]);
    }

    /// <summary>Whether a text begins with xHH.</summary>
    internal static bool IsCode(ReadOnlySpan<char> text) => text.Length >= 3 && text[0] == 'x' && char.IsAsciiHexDigit(text[1]) && char.IsAsciiHexDigit(text[2]);

    /// <summary>Blanks count, too: looking for words takes as long as what is looked through.</summary>
    private void AppendValue(string value, bool isQuoted, List<string> into)
    {
        ReadOnlySpan<char> rest = value.AsSpan(0, limits.TakeCharacters(value.Length));
        while (!isQuoted && rest.IndexOfAny(" \t\n") is int end and >= 0)
        {
            AppendCharged(rest[..end]);
            Take(into);
            rest = rest[(end + 1)..];
        }

        AppendCharged(rest);
    }

    private void Append(ReadOnlySpan<char> text) => AppendCharged(text[..limits.TakeCharacters(text.Length)]);

    private void AppendCharged(ReadOnlySpan<char> text)
    {
        _word.Append(text);
        _isWord |= text.Length > 0;
    }

    private void Take(List<string> into)
    {
        if (_isWord && limits.TakeWord())
        {
            into.Add(_word.ToString());
        }

        _word.Clear();
        _isWord = false;
    }

    /// <summary>The name behind a "$" and how many characters it takes there; null where there is none.</summary>
    private static string? VariableName(ReadOnlySpan<char> text, out int length)
    {
        bool isBraced = text.StartsWith('{');
        int name = NameLength(isBraced ? text[1..] : text);
        if (name == 0 || (isBraced && (name + 1 == text.Length || text[name + 1] != '}')))
        {
            length = 0;
            return null;
        }

        length = isBraced ? name + 2 : name;
        return text.Slice(isBraced ? 1 : 0, name).ToString();
    }

    /// <summary>How many characters a name has: letters, digits and "_", or only digits, or one sign.</summary>
    internal static int NameLength(ReadOnlySpan<char> text)
    {
        if (text.IsEmpty)
        {
            return 0;
        }

        int end = char.IsAsciiDigit(text[0]) ? text.IndexOfAnyExceptInRange('0', '9') : text.IndexOfAnyExcept(s_nameLetters);
        return end < 0 ? text.Length : end > 0 ? end : text[0] is '@' or '*' or '#' or '?' ? 1 : 0;
    }
}
