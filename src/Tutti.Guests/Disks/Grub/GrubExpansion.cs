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
        bool isQuoted = false;
        for (int i = 0; i < text.Length; i++)
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
                AppendEscaped(text[i], isQuoted);
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

    private void AppendEscaped(char letter, bool isQuoted)
    {
        if (letter == '\n')
        {
            return;
        }

        if (isQuoted && letter is not ('$' or '"' or '\\'))
        {
            Append("\\");
        }

        Append([letter]);
    }

    private void AppendValue(string value, bool isQuoted, List<string> into)
    {
        if (isQuoted)
        {
            Append(value);
            return;
        }

        ReadOnlySpan<char> rest = value;
        while (rest.IndexOfAny(" \t\n") is int end and >= 0)
        {
            Append(rest[..end]);
            Take(into);
            rest = rest[(end + 1)..];
        }

        Append(rest);
    }

    private void Append(ReadOnlySpan<char> text)
    {
        text = text[..limits.TakeCharacters(text.Length)];
        _word.Append(text);
        _isWord |= text.Length > 0;
    }

    private void Take(List<string> into)
    {
        if (_isWord)
        {
            into.Add(_word.ToString());
        }

        _word.Clear();
        _isWord = false;
    }

    /// <summary>The name behind a "$" and how many characters it takes there; null where there is none.</summary>
    private static string? VariableName(ReadOnlySpan<char> text, out int length)
    {
        length = 0;
        if (text.IsEmpty)
        {
            return null;
        }

        if (text[0] == '{')
        {
            int end = text.IndexOf('}');
            length = end + 1;
            return end > 1 ? text[1..end].ToString() : null;
        }

        while (length < text.Length && (char.IsAsciiLetterOrDigit(text[length]) || text[length] == '_'))
        {
            length++;
            if (char.IsAsciiDigit(text[0]) && (length == text.Length || !char.IsAsciiDigit(text[length])))
            {
                break;
            }
        }

        length = length == 0 && text[0] is '@' or '*' or '#' or '?' ? 1 : length;
        return length > 0 ? text[..length].ToString() : null;
    }
}
