namespace Tutti.Guests.Disks.Grub;

/// <summary>An entry of a menu, not carried out yet.</summary>
/// <param name="Title">What the menu shows.</param>
/// <param name="Id">What else it is called by; empty for nothing.</param>
/// <param name="Script">Where its commands are.</param>
/// <param name="Body">The commands.</param>
/// <param name="Arguments">What the commands see as $1, $2 and so on: the title first.</param>
/// <param name="IsSubmenu">Whether they make a menu of their own.</param>
internal sealed record GrubMenuEntry(string Title, string Id, GrubScript Script, GrubCommand[] Body, IReadOnlyList<string> Arguments, bool IsSubmenu);

/// <summary>What an entry loads, as far as it says.</summary>
internal sealed class GrubLoad
{
    /// <summary>The command that names a kernel: linux or a kind of it, chainloader, multiboot; null for none.</summary>
    public string? Command { get; set; }

    public VolumeFile Kernel { get; set; }

    /// <summary>The kernel's path as the script has it, perhaps with a device.</summary>
    public string Written { get; set; } = string.Empty;

    /// <summary>Behind the kernel's path.</summary>
    public string Options { get; set; } = string.Empty;

    public List<VolumeFile> Initrds { get; } = [];
}
