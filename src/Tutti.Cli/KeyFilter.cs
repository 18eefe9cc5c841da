namespace Tutti.Cli;

/// <summary>What a key meant to Tutti asks for.</summary>
internal enum ConsoleKeyCommand
{
    None,
    Quit,
    Help,

    /// <summary>Ctrl-C twice in short order.</summary>
    Interrupt,
}

/// <summary>
/// Parts the keys for the guest from those for Tutti, which begin with Ctrl-A as in QEMU. All state is that of the keys;
/// the caller gives the time. A guest that has the terminal encode keys in another way does not take the prefix away (<see cref="EncodedKey"/>).
/// </summary>
internal sealed class KeyFilter
{
    internal const string Help =
        """

        Ctrl-A h       this help
        Ctrl-A x       leave Tutti at once, as if the power were cut
        Ctrl-A Ctrl-A  send Ctrl-A to the guest
        All other keys, Ctrl-C too, go to the guest. Until the guest first reads its
        console, Ctrl-C twice within half a second leaves Tutti.

        """;

    private const byte CtrlA = 1;
    private const byte CtrlC = 3;
    private const long InterruptWindowMilliseconds = 500;
    private long _lastInterrupt = long.MinValue / 2;
    private bool _isAfterPrefix;

    /// <summary>Takes the first of some keys. <paramref name="forGuest"/> tells whether it, as it is, goes to the guest.</summary>
    /// <param name="keys">What came from the terminal at once. One that is cut is the guest's.</param>
    /// <param name="milliseconds">A time that never goes back.</param>
    /// <param name="length">The first key's bytes.</param>
    internal ConsoleKeyCommand Take(ReadOnlySpan<byte> keys, long milliseconds, out int length, out bool forGuest)
    {
        int key;
        if (!EncodedKey.TryRead(keys, out length, out key))
        {
            (length, key) = (1, keys[0]);
        }

        return Take(key, milliseconds, out forGuest);
    }

    private ConsoleKeyCommand Take(int key, long milliseconds, out bool forGuest)
    {
        forGuest = key < 0;
        if (forGuest)
        {
            // Keys that come up, and those that change others: the prefix stays.
            return ConsoleKeyCommand.None;
        }

        if (_isAfterPrefix)
        {
            _isAfterPrefix = false;
            forGuest = key == CtrlA;
            return key switch
            {
                'x' or 'X' => ConsoleKeyCommand.Quit,
                'h' or 'H' or '?' => ConsoleKeyCommand.Help,
                _ => ConsoleKeyCommand.None,
            };
        }

        if (key == CtrlA)
        {
            _isAfterPrefix = true;
            return ConsoleKeyCommand.None;
        }

        forGuest = true;
        if (key != CtrlC)
        {
            return ConsoleKeyCommand.None;
        }

        bool isSecond = milliseconds - _lastInterrupt <= InterruptWindowMilliseconds;
        _lastInterrupt = milliseconds;
        return isSecond ? ConsoleKeyCommand.Interrupt : ConsoleKeyCommand.None;
    }
}
