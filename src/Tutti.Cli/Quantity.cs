using System.Globalization;

namespace Tutti.Cli;

/// <summary>Sizes and times as they are written on a command line.</summary>
internal static class Quantity
{
    /// <summary>A number with K, M, G or T (powers of 1024; KiB, KB and so on mean the same); a bare number is MiB. False for all else, and from 2^63 bytes.</summary>
    internal static bool TryParseSize(string text, out long bytes)
    {
        (string number, string unit) = Split(text);
        int shift = unit.ToUpperInvariant() switch
        {
            "B" => 0,
            "K" or "KB" or "KIB" => 10,
            "" or "M" or "MB" or "MIB" => 20,
            "G" or "GB" or "GIB" => 30,
            "T" or "TB" or "TIB" => 40,
            _ => -1,
        };
        return TryScale(number, shift < 0 ? null : 1L << shift, out bytes);
    }

    /// <summary>A number with ms, s, m or h; a bare number is seconds. False for all else, and from 2^63 ns.</summary>
    internal static bool TryParseTime(string text, out TimeSpan time)
    {
        (string number, string unit) = Split(text);
        long? nanoseconds = unit switch
        {
            "ms" => 1_000_000,
            "" or "s" => 1_000_000_000,
            "m" or "min" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => null,
        };
        bool isValid = TryScale(number, nanoseconds, out long total);
        time = TimeSpan.FromTicks(total / 100);
        return isValid;
    }

    /// <summary>Bytes with a unit that leaves at most one digit behind the point.</summary>
    internal static string FormatSize(long bytes)
    {
        string[] units = ["B", "KiB", "MiB", "GiB", "TiB"];
        double value = bytes;
        int unit = 0;
        while (value >= 1024 && unit < units.Length - 1)
        {
            value /= 1024;
            unit++;
        }

        return string.Create(CultureInfo.InvariantCulture, $"{value:0.#} {units[unit]}");
    }

    private static (string Number, string Unit) Split(string text)
    {
        int end = 0;
        while (end < text.Length && (char.IsAsciiDigit(text[end]) || text[end] == '.'))
        {
            end++;
        }

        return (text[..end], text[end..]);
    }

    private static bool TryScale(string number, long? scale, out long result)
    {
        result = 0;
        if (scale == null
            || !decimal.TryParse(number, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out decimal value)
            || value > long.MaxValue / scale.Value)
        {
            return false;
        }

        result = (long)(value * scale.Value);
        return true;
    }
}
