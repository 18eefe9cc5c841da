using System.Globalization;

namespace Tutti.Guests.Disks.Grub;

/// <summary>The command test, or [ with a ] at its end. Source: GNU GRUB manual 2.12, "test".</summary>
/// <param name="words">Behind the command.</param>
/// <param name="findFile">What a path leads to, or null; its length where it is a file.</param>
internal sealed class GrubTest(IReadOnlyList<string> words, Func<string, (FileKind Kind, long Length)?> findFile)
{
    private const int MaxDepth = 16;
    private int _at;
    private int _depth;

    /// <summary>Whether the condition holds; what makes no sense does not.</summary>
    public bool Evaluate() => Or() && _at == words.Count;

    private bool Or()
    {
        if (++_depth > MaxDepth)
        {
            _at = words.Count + 1;
            return false;
        }

        bool result = And();
        while (Peek(0) == "-o")
        {
            _at++;
            result |= And();
        }

        _depth--;
        return result;
    }

    private bool And()
    {
        bool result = Term();
        while (_at < words.Count && Peek(0) is not ("-o" or ")"))
        {
            _at += Peek(0) == "-a" ? 1 : 0;
            result &= Term();
        }

        return result;
    }

    private bool Term()
    {
        bool isNot = false;
        while (Peek(0) == "!" && _at + 1 < words.Count)
        {
            isNot = !isNot;
            _at++;
        }

        return Primary() != isNot;
    }

    private bool Primary()
    {
        // As in POSIX, two operands around a sign go before all else.
        if (Compare(Peek(0), Peek(1), Peek(2)) is bool compared)
        {
            _at += 3;
            return compared;
        }

        if (Peek(0) == "(")
        {
            _at++;
            bool inner = Or();
            _at++;
            return inner;
        }

        if (Peek(1) is string operand && Peek(0) is "-z" or "-n" or "-d" or "-e" or "-f" or "-s")
        {
            string sign = words[_at];
            string value = words[_at + 1];
            _at += 2;
            return sign switch
            {
                "-z" => value.Length == 0,
                "-n" => value.Length > 0,
                "-d" => findFile(value)?.Kind == FileKind.Folder,
                "-e" => findFile(value) != null,
                "-f" => findFile(value)?.Kind == FileKind.File,
                _ => findFile(value) is { Length: > 0 },
            };
        }

        return Peek(0) is string alone && _at++ < words.Count && alone.Length > 0;
    }

    private static bool? Compare(string? left, string? sign, string? right)
    {
        if (left == null || right == null)
        {
            return null;
        }

        int order = string.CompareOrdinal(left, right);
        switch (sign)
        {
            case "=" or "==":
                return order == 0;
            case "!=":
                return order != 0;
            case "<":
                return order < 0;
            case ">":
                return order > 0;
            case "<=":
                return order <= 0;
            case ">=":
                return order >= 0;
        }

        int numbers = Number(left).CompareTo(Number(right));
        return sign switch
        {
            "-eq" => numbers == 0,
            "-ne" => numbers != 0,
            "-lt" => numbers < 0,
            "-le" => numbers <= 0,
            "-gt" => numbers > 0,
            "-ge" => numbers >= 0,
            _ => null,
        };
    }

    private static long Number(string text) => long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long number) ? number : 0;

    private string? Peek(int ahead) => _at + ahead < words.Count ? words[_at + ahead] : null;
}
