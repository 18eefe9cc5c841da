namespace Tutti.Guests.Disks.Grub;

/// <summary>What carrying out a menu may take, its entries and submenus together. Any menu that is in use needs far less.</summary>
/// <param name="check">Is called now and then; throws when the time is over.</param>
internal sealed class GrubLimits(Action check)
{
    private const int MaxSteps = 200_000;

    /// <summary>Characters that come out of variables and quotes: a variable can be doubled with each line.</summary>
    private const int MaxCharacters = 4 << 20;

    private int _steps;
    private int _characters;

    /// <summary>Whether one of them has been reached.</summary>
    public bool IsExhausted => _steps >= MaxSteps || _characters >= MaxCharacters;

    /// <summary>A command, or another round of a loop.</summary>
    public void TakeStep()
    {
        _steps = Math.Min(_steps + 1, MaxSteps);
        if ((_steps & 0xFF) == 0)
        {
            check();
        }
    }

    /// <summary>How many of so many characters there may be.</summary>
    public int TakeCharacters(int count)
    {
        count = Math.Min(count, MaxCharacters - _characters);
        _characters += count;
        return count;
    }
}
