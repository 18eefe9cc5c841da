namespace Tutti.Guests.Disks;

/// <summary>
/// Orders versions as rpm does, and with it the GRUB of Fedora and its kin: parts of digits or of letters one after the other, other signs only part
/// them; digits go before letters, "~" before the end of a version, "^" behind it.
/// </summary>
internal sealed class RpmVersion : IComparer<string>
{
    public static RpmVersion Order { get; } = new();

    public int Compare(string? x, string? y)
    {
        ReadOnlySpan<char> left = x;
        ReadOnlySpan<char> right = y;
        while (true)
        {
            Skip(ref left);
            Skip(ref right);
            bool isSame = false;
            foreach (char sign in "~^")
            {
                bool isLeft = left.StartsWith([sign]);
                bool isRight = right.StartsWith([sign]);
                if (isLeft != isRight)
                {
                    // "~" is less than all; "^" is more than the end, and less than another part.
                    bool isLess = sign == '~' || !(isLeft ? right : left).IsEmpty;
                    return isLeft == isLess ? -1 : 1;
                }

                if (isLeft)
                {
                    left = left[1..];
                    right = right[1..];
                    isSame = true;
                    break;
                }
            }

            if (isSame)
            {
                continue;
            }

            if (left.IsEmpty || right.IsEmpty)
            {
                return (left.IsEmpty ? 0 : 1) - (right.IsEmpty ? 0 : 1);
            }

            bool isNumber = char.IsAsciiDigit(left[0]);
            ReadOnlySpan<char> a = Take(ref left, isNumber);
            ReadOnlySpan<char> b = Take(ref right, isNumber);
            if (b.IsEmpty)
            {
                return isNumber ? 1 : -1;
            }

            int order = Compare(a, b, isNumber);
            if (order != 0)
            {
                return order;
            }
        }
    }

    private static int Compare(ReadOnlySpan<char> left, ReadOnlySpan<char> right, bool isNumber)
    {
        if (isNumber)
        {
            left = left.TrimStart('0');
            right = right.TrimStart('0');
            if (left.Length != right.Length)
            {
                return left.Length - right.Length;
            }
        }

        return left.SequenceCompareTo(right);
    }

    private static void Skip(ref ReadOnlySpan<char> text)
    {
        while (!text.IsEmpty && !char.IsAsciiLetterOrDigit(text[0]) && text[0] is not ('~' or '^'))
        {
            text = text[1..];
        }
    }

    private static ReadOnlySpan<char> Take(ref ReadOnlySpan<char> text, bool isNumber)
    {
        int length = 0;
        while (length < text.Length && (isNumber ? char.IsAsciiDigit(text[length]) : char.IsAsciiLetter(text[length])))
        {
            length++;
        }

        ReadOnlySpan<char> part = text[..length];
        text = text[length..];
        return part;
    }
}
