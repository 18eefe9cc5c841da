namespace Tutti.Guests.Disks.Grub;

/// <summary>A word of a script as it is written there, quotes and variables in it: a place in the script's text.</summary>
internal readonly record struct GrubWord(int Start, int Length);

/// <summary>A command of a script.</summary>
internal abstract record GrubCommand;

/// <summary>Words, the first of which says what is done.</summary>
internal sealed record GrubSimple(GrubWord[] Words) : GrubCommand;

/// <summary>Succeeds where the command fails.</summary>
internal sealed record GrubNot(GrubCommand Command) : GrubCommand;

/// <summary>The first branch whose condition succeeds.</summary>
internal sealed record GrubIf(List<(GrubCommand[] Condition, GrubCommand[] Body)> Branches, GrubCommand[] Otherwise) : GrubCommand;

/// <summary>As long as the condition succeeds or, for until, fails.</summary>
internal sealed record GrubLoop(GrubCommand[] Condition, GrubCommand[] Body, bool IsUntil) : GrubCommand;

/// <summary>Once for each word.</summary>
internal sealed record GrubFor(GrubWord Name, GrubWord[] Values, GrubCommand[] Body) : GrubCommand;

/// <summary>Makes a command.</summary>
internal sealed record GrubFunction(GrubWord Name, GrubCommand[] Body) : GrubCommand;

/// <summary>menuentry or submenu: the body is carried out when the entry is chosen.</summary>
internal sealed record GrubMenuCommand(GrubWord[] Words, GrubCommand[] Body, bool IsSubmenu) : GrubCommand;

/// <summary>
/// A grub.cfg taken apart. Source: GNU GRUB manual 2.12, section "Writing full configuration files directly", and what grub-script-check takes.
/// </summary>
internal sealed class GrubScript
{
    private GrubScript(string text, GrubCommand[] commands) => (Text, Commands) = (text, commands);

    public string Text { get; }

    public GrubCommand[] Commands { get; }

    /// <summary>The script, or null with what is not understood, and where.</summary>
    public static GrubScript? Parse(string text, out string? error)
    {
        GrubParser parser = new(text);
        GrubCommand[] commands = parser.ParseAll();
        error = parser.Error;
        return error == null ? new GrubScript(text, commands) : null;
    }

    public ReadOnlySpan<char> this[GrubWord word] => Text.AsSpan(word.Start, word.Length);
}
