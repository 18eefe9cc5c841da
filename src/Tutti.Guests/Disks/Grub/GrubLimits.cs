namespace Tutti.Guests.Disks.Grub;

/// <summary>What carrying out a menu may take, its entries and submenus together. Any menu that is in use needs far less.</summary>
/// <param name="check">Is called now and then; throws when the time is over.</param>
internal sealed class GrubLimits(Action check)
{
    private const int MaxSteps = 200_000;

    /// <summary>Characters that come out of variables and quotes: a variable can be doubled with each line.</summary>
    private const int MaxCharacters = 4 << 20;

    /// <summary>What a word takes beside its characters: an object and its place in lists.</summary>
    private const int WordCost = 16;

    /// <summary>Characters' worth of commands that a character of a script takes.</summary>
    private const int ScriptCost = 8;

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

    /// <summary>Whether there may be another word.</summary>
    public bool TakeWord() => TakeCharacters(WordCost) == WordCost;

    /// <summary>Whether a text that the script has put together may become a script, too.</summary>
    public bool TakeScript(int length)
    {
        int cost = (int)Math.Min((long)length * ScriptCost, int.MaxValue);
        return TakeCharacters(cost) == cost;
    }

    /// <summary>For a loop within a command.</summary>
    public void Check() => check();
}
