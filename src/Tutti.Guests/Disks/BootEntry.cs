namespace Tutti.Guests.Disks;

/// <summary>What a boot loader would start.</summary>
/// <param name="Title">What its menu calls it.</param>
/// <param name="Kernel">The kernel, or a unified kernel image with all in one.</param>
/// <param name="Initrds">In the order of loading.</param>
/// <param name="Options">The kernel's command line, as the boot loader would give it.</param>
internal sealed record BootEntry(string Title, VolumeFile Kernel, IReadOnlyList<VolumeFile> Initrds, string Options)
{
    public const int MaxInitrds = 16;

    /// <summary>Whether it starts a program of the firmware's, which only a unified kernel image makes a kernel of.</summary>
    public bool IsChained { get; init; }
}
