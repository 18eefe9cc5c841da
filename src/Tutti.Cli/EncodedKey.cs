namespace Tutti.Cli;

/// <summary>
/// Keys as a terminal sends them whose encoding the guest's programs have changed, as newer shells and editors do: kitty's keyboard protocol, xterm's
/// modifyOtherKeys, and the console of Windows. Sources: kitty's "Comprehensive keyboard handling in terminals"; "XTerm Control Sequences"; Windows Terminal's
/// specification of win32-input-mode.
/// </summary>
internal static class EncodedKey
{
    /// <summary>Longer sequences are none of a key's.</summary>
    private const int MaxLength = 64;

    private const int MaxParameters = 6;
    private const int Parts = 3;
    private const int MaxValue = 0x10FFFF;

    // Modifiers as kitty's and xterm's sequences count them, less 1.
    private const int Shift = 1;
    private const int Control = 4;
    private const int Locks = 64 | 128;

    private const int Release = 3;

    /// <summary>Reads a key at the start of what came from a terminal.</summary>
    /// <param name="bytes">What came, more than the key perhaps.</param>
    /// <param name="length">Its bytes.</param>
    /// <param name="key">The byte that it sends where the encoding is as ever; -1 for the release of a key, for modifiers, and for what has no such byte.</param>
    /// <returns>Whether there is one, whole.</returns>
    internal static bool TryRead(ReadOnlySpan<byte> bytes, out int length, out int key)
    {
        (length, key) = (0, -1);
        if (bytes.Length < 4 || bytes[0] != 0x1B || bytes[1] != (byte)'[')
        {
            return false;
        }

        Span<int> values = stackalloc int[MaxParameters * Parts];
        values.Clear();
        int parameter = 0;
        int part = 0;
        for (int i = 2; i < Math.Min(bytes.Length, MaxLength); i++)
        {
            switch (bytes[i])
            {
                case >= (byte)'0' and <= (byte)'9' and byte digit:
                    if (part < Parts)
                    {
                        ref int value = ref values[(parameter * Parts) + part];
                        value = Math.Min((value * 10) + digit - '0', MaxValue + 1);
                    }

                    break;
                case (byte)':':
                    part++;
                    break;
                case (byte)';' when parameter + 1 < MaxParameters:
                    (parameter, part) = (parameter + 1, 0);
                    break;
                case (byte)'u':
                    (length, key) = (i + 1, values[4] == Release ? -1 : KeyOf(values[0], values[2], values[3]));
                    return true;
                case (byte)'~' when values[0] == 27 && parameter == 2:
                    (length, key) = (i + 1, KeyOf(values[6], 0, values[3]));
                    return true;
                case (byte)'_' when parameter == MaxParameters - 1:
                    // Virtual key, scan code, character, whether it goes down, state of the control keys, repeats.
                    (length, key) = (i + 1, values[9] == 1 && values[6] is > 0 and < 0x7F ? values[6] : -1);
                    return true;
                default:
                    return false;
            }
        }

        return false;
    }

    /// <param name="character">On the key, in the layout that is on.</param>
    /// <param name="usual">Likewise in the layout of the United States, where the terminal says so, for those who write in other letters.</param>
    /// <param name="modifiers">And 1; 0 for none.</param>
    private static int KeyOf(int character, int usual, int modifiers)
    {
        modifiers = Math.Max(0, modifiers - 1) & ~Locks;
        int letter = IsOnKey(character) ? character : IsOnKey(usual) ? usual : -1;
        return (modifiers, (char)Math.Max(0, letter)) switch
        {
            (0, _) => letter,
            (Shift, >= 'a' and <= 'z') => letter - 'a' + 'A',
            (Shift, _) => letter,
            (Control, (>= 'a' and <= 'z') or (>= 'A' and <= 'Z')) => letter & 0x1F,
            _ => -1,
        };
    }

    /// <summary>ASCII, and Tab, Return and Escape, which keys are named by.</summary>
    private static bool IsOnKey(int character) => character is 9 or 13 or 27 or (>= 0x20 and < 0x7F);
}
