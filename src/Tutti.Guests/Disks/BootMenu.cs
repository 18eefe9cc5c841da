namespace Tutti.Guests.Disks;

/// <summary>What a boot loader has to choose from.</summary>
internal abstract class BootMenu
{
    /// <summary>The file that says so, and where, for people.</summary>
    public abstract string Source { get; }

    /// <summary>The entries as they are chosen by name; a submenu's behind a "&gt;".</summary>
    public abstract IReadOnlyList<string> Names { get; }

    /// <summary>The entry that the boot loader would start, or the one that is wanted.</summary>
    /// <param name="wanted">A name, an identifier or a number; null for the boot loader's own choice.</param>
    /// <exception cref="ImageException">It starts no Linux, there is no such entry, or what it says is beyond Tutti.</exception>
    public abstract BootEntry Choose(string? wanted);

    /// <summary>Names for an error's line: some.</summary>
    internal string ListNames() => string.Join(", ", Names.Take(8).Select((name, i) => $"{i} '{(name.Length > 60 ? name[..60] : name)}'")) + (Names.Count > 8 ? ", ..." : string.Empty);
}
