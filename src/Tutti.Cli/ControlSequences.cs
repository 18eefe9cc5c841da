namespace Tutti.Cli;

/// <summary>
/// Which control sequences a guest may send to a terminal that is not its own: text, colours, cursor and screen. Not there: all that the terminal
/// answers (status, attributes, modes, checksums, mouse and focus), titles, clipboard, keys that mean something else, media copy, window
/// operations, other character sets than UTF-8, and what deletes lines that have scrolled off. Sources: ECMA-48; DEC STD 070; "XTerm Control
/// Sequences".
/// </summary>
internal static class ControlSequences
{
    /// <summary>More parameters than any sequence here has a use for.</summary>
    private const int MaxParameters = 64;
    private const int MaxParameter = 65535;

    /// <summary>REP draws a character so often; no line is longer, and terminals take their time with more.</summary>
    private const int MaxRepeats = 1000;

    /// <summary>Modes of DEC that change what is shown, and those of cursor keys and pasted text, which full-screen programs and shells expect.</summary>
    private static ReadOnlySpan<int> PrivateModes => [1, 5, 6, 7, 12, 25, 47, 1047, 1048, 1049, 2004];

    /// <summary>Whether a control of one byte may pass: bell, the moves, and the shift to line drawing and back.</summary>
    internal static bool AllowsControl(int control) => control is (>= 0x07 and <= 0x0D) or 0x0E or 0x0F;

    /// <summary>Whether ESC, intermediate bytes and a final one may pass.</summary>
    internal static bool AllowsEscape(ReadOnlySpan<byte> intermediates, byte final) => intermediates switch
    {
        // Save and restore the cursor, index, next line, tab stop, reverse index, keypad modes.
        [] => "78DEHM=>"u8.Contains(final),
        // Line drawing and ASCII as G0 to G3.
        [(byte)'(' or (byte)')' or (byte)'*' or (byte)'+'] => "0AB12"u8.Contains(final),
        // Double height and width, screen alignment.
        [(byte)'#'] => "34568"u8.Contains(final),
        _ => false,
    };

    /// <summary>Writes what of a control sequence (CSI) may pass, with its introducer; returns its length, 0 for nothing.</summary>
    /// <param name="body">Parameter and intermediate bytes, 20h to 3Fh.</param>
    /// <param name="final">40h to 7Eh.</param>
    /// <param name="output">Has room for the sequence and its introducer.</param>
    internal static int WriteCsi(ReadOnlySpan<byte> body, byte final, Span<byte> output)
    {
        int split = body.IndexOfAnyInRange((byte)0x20, (byte)0x2F);
        ReadOnlySpan<byte> intermediates = split < 0 ? [] : body[split..];
        ReadOnlySpan<byte> parameters = split < 0 ? body : body[..split];
        bool isPrivate = parameters.Length > 0 && parameters[0] == (byte)'?';
        Span<int> values = stackalloc int[MaxParameters];
        int count = Parse(isPrivate ? parameters[1..] : parameters, hasParts: final == (byte)'m', values);
        if (count < 0)
        {
            return 0;
        }

        values = values[..count];
        if (isPrivate)
        {
            return intermediates.IsEmpty && final is (byte)'h' or (byte)'l' ? WriteModes(values, final, output) : 0;
        }

        if (!Allows(intermediates, final, values))
        {
            return 0;
        }

        "\e["u8.CopyTo(output);
        body.CopyTo(output[2..]);
        output[body.Length + 2] = final;
        return body.Length + 3;
    }

    private static bool Allows(ReadOnlySpan<byte> intermediates, byte final, ReadOnlySpan<int> values)
    {
        int first = values.IsEmpty ? 0 : values[0];
        return intermediates switch
        {
            [] => (char)final switch
            {
                'm' => true,
                // Erase in display but for 3, which deletes what has scrolled off, and in line.
                'J' or 'K' => values.Length <= 1 && first <= 2,
                'H' or 'f' or 'r' => values.Length <= 2,
                'b' => values.Length <= 1 && first <= MaxRepeats,
                // Insert mode. The others lock the keyboard, echo keys, and change what Return sends.
                'h' or 'l' => values is [4],
                // With parameters they set margins, and more.
                's' or 'u' => values.IsEmpty,
                '@' or 'A' or 'B' or 'C' or 'D' or 'E' or 'F' or 'G' or 'I' or 'L' or 'M' or 'P' or 'S' or 'T' or 'X' or 'Z'
                    or '`' or 'a' or 'd' or 'e' or 'g' => values.Length <= 1,
                _ => false,
            },
            // The cursor's shape; soft reset.
            [(byte)' '] => final == (byte)'q' && values.Length <= 1 && first <= 6,
            [(byte)'!'] => final == (byte)'p' && values.IsEmpty,
            _ => false,
        };
    }

    /// <summary>Reads numbers between semicolons (0 where there is none); -1 where there is something else.</summary>
    /// <param name="hasParts">Whether colons may divide a parameter, as in colours.</param>
    private static int Parse(ReadOnlySpan<byte> text, bool hasParts, Span<int> values)
    {
        if (text.IsEmpty)
        {
            return 0;
        }

        int count = 0;
        values[0] = 0;
        foreach (byte b in text)
        {
            switch (b)
            {
                case >= (byte)'0' and <= (byte)'9' when (values[count] * 10) + b - '0' <= MaxParameter:
                    values[count] = (values[count] * 10) + b - '0';
                    break;
                case (byte)';' when count + 1 < values.Length:
                case (byte)':' when hasParts && count + 1 < values.Length:
                    values[++count] = 0;
                    break;
                default:
                    return -1;
            }
        }

        return count + 1;
    }

    private static int WriteModes(ReadOnlySpan<int> modes, byte final, Span<byte> output)
    {
        "\e[?"u8.CopyTo(output);
        int length = 3;
        foreach (int mode in modes)
        {
            if (PrivateModes.Contains(mode))
            {
                _ = mode.TryFormat(output[length..], out int digits, provider: System.Globalization.CultureInfo.InvariantCulture);
                length += digits;
                output[length++] = (byte)';';
            }
        }

        output[length - 1] = final;
        return length > 3 ? length : 0;
    }
}
