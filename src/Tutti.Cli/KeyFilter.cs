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
/// the caller gives the time.
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

    /// <summary>Takes one key. <paramref name="forGuest"/> tells whether it, as it is, goes to the guest.</summary>
    /// <param name="milliseconds">A time that never goes back.</param>
    internal ConsoleKeyCommand Take(byte key, long milliseconds, out bool forGuest)
    {
        forGuest = false;
        if (_isAfterPrefix)
        {
            _isAfterPrefix = false;
            forGuest = key == CtrlA;
            return key switch
            {
                (byte)'x' or (byte)'X' => ConsoleKeyCommand.Quit,
                (byte)'h' or (byte)'H' or (byte)'?' => ConsoleKeyCommand.Help,
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
