namespace Tutti.Machine;

/// <summary>
/// Looks for the line with which Linux ends a panic in what the guest writes to its console. A guest's user can print
/// that too, so a match only chooses between exit reasons when the guest resets; it never ends a run.
/// </summary>
internal sealed class PanicWatcher
{
    private static ReadOnlySpan<byte> Text => "Kernel panic - not syncing"u8;

    private int _matched;

    /// <summary>Whether the line was there.</summary>
    internal bool Seen { get; private set; }

    internal void Watch(byte value)
    {
        if (Seen)
        {
            return;
        }

        // The text's first letter occurs in it only once, so that a mismatch can begin anew nowhere but here.
        _matched = value == Text[_matched] ? _matched + 1 : value == Text[0] ? 1 : 0;
        if (_matched == Text.Length)
        {
            Seen = true;
        }
    }
}
