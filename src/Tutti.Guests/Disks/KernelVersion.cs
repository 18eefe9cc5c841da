namespace Tutti.Guests.Disks;

/// <summary>Orders kernel file names as GRUB's menu does: numbers by value, "~" before everything, the rest by letters.</summary>
internal sealed class KernelVersion : IComparer<string>
{
    public static KernelVersion Order { get; } = new();

    public int Compare(string? x, string? y)
    {
        ReadOnlySpan<char> left = x;
        ReadOnlySpan<char> right = y;
        while (!left.IsEmpty || !right.IsEmpty)
        {
            int order;
            if (!left.IsEmpty && !right.IsEmpty && char.IsAsciiDigit(left[0]) && char.IsAsciiDigit(right[0]))
            {
                ReadOnlySpan<char> a = Number(ref left);
                ReadOnlySpan<char> b = Number(ref right);
                order = a.Length != b.Length ? a.Length - b.Length : a.SequenceCompareTo(b);
            }
            else
            {
                order = Weight(left) - Weight(right);
                left = left.IsEmpty ? left : left[1..];
                right = right.IsEmpty ? right : right[1..];
            }

            if (order != 0)
            {
                return order;
            }
        }

        return 0;
    }

    private static ReadOnlySpan<char> Number(ref ReadOnlySpan<char> text)
    {
        int end = text.IndexOfAnyExceptInRange('0', '9');
        ReadOnlySpan<char> digits = end < 0 ? text : text[..end];
        text = end < 0 ? [] : text[end..];
        return digits.TrimStart('0');
    }

    /// <summary>The end of a name sorts before all but "~", a digit before any other sign.</summary>
    private static int Weight(ReadOnlySpan<char> text) => text switch
    {
        [] => 0,
        ['~', ..] => -1,
        [char digit, ..] when char.IsAsciiDigit(digit) => 1,
        [char letter, ..] => 2 + letter,
    };
}
